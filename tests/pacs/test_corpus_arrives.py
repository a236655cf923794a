"""Every file that a node accepts, from a clinic over the forwarder's node into a real Orthanc, and back."""

import hashlib
from pathlib import Path

import httpx
import pytest
from support.corpus import Expected, expectations, specimens
from support.dicoms import uid_of
from support.nodes import LocalNode
from support.orthanc import RunningOrthanc, missing, running_orthanc

from sync.ids import EntryId
from sync.lifecycle import EntryState

PREAMBLE = bytes(128) + b"DICM"
Round = dict[str, tuple[str, bytes]]


def rounds(expected: dict[str, Expected]) -> list[Round]:
    """Return the accepted files by name with their UIDs, in rounds: no UID and no file twice in one."""
    made: list[Round] = []
    had: dict[str, set[bytes]] = {}
    for specimen in specimens():
        if expected[specimen.name].examination == "accepted":
            data = specimen.path.read_bytes()
            uid = uid_of(data)
            contents = had.setdefault(uid, set())
            digest = hashlib.sha256(data).digest()
            if digest not in contents:
                contents.add(digest)
                while len(made) < len(contents):
                    made.append({})
                made[len(contents) - 1][specimen.name] = (uid, data)
    return made


def held(orthanc: RunningOrthanc) -> dict[str, bytes]:
    """Return what Orthanc has, by UID, asked for by its own API and not by DICOMweb."""
    with httpx.Client(base_url=orthanc.url, trust_env=False, timeout=60) as client:
        return {
            client.get(f"/instances/{one}/simplified-tags").json()["SOPInstanceUID"]: client.get(
                f"/instances/{one}/file"
            ).content
            for one in client.get("/instances").json()
        }


def is_equal(back: bytes | None, data: bytes) -> bool:
    """Say whether a file came back; one without a header comes back with the one that the node gave it."""
    if back is None or data[128:132] == b"DICM":
        return back == data
    return back.startswith(PREAMBLE) and back.endswith(data) and len(back) - len(data) < 500


def emptied(orthanc: RunningOrthanc) -> None:
    with httpx.Client(base_url=orthanc.url, trust_env=False, timeout=60) as client:
        for one in client.get("/patients").json():
            client.delete(f"/patients/{one}").raise_for_status()


def settled(node: LocalNode, entries: list[str]) -> bool:
    """Say whether each study is delivered or needs a person; cheaper to ask often than the list of all."""
    states = (node.node.holdings.view(EntryId(bytes.fromhex(one))).state for one in entries)
    return all(state in (EntryState.DELIVERED, EntryState.TROUBLED) for state in states)


@pytest.mark.orthanc
def test_each_accepted_file_arrives_equal_or_is_trouble_with_a_reason(tmp_path: Path) -> None:
    """What is said to be delivered is at the PACS octet for octet; what the PACS refuses is never silent.

    All that arrives was coded and sealed by a clinic that cannot deliver, and opened by a node that was not
    there when it was taken in.
    """
    if reason := missing():
        pytest.skip(reason)
    expected = expectations()
    arrived: dict[str, str] = {}
    with (
        running_orthanc(tmp_path / "orthanc") as orthanc,
        LocalNode(tmp_path / "cloud") as cloud,
        LocalNode(tmp_path / "clinic") as clinic,
    ):
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        cloud.add_pacs(orthanc.dicomweb)
        clinic.start([cloud])
        clinic.wait(lambda: clinic.get("/api/v1/destinations")["destinations"], "to hear of the PACS")
        for files in rounds(expected):
            emptied(orthanc)
            entries = clinic.submit({name: data for name, (_, data) in files.items()})
            cloud.wait(
                lambda entries=entries: settled(cloud, entries), "to deliver or to say what it cannot", 200
            )
            at_pacs = held(orthanc)
            for name, (uid, data) in files.items():
                arrived[name] = "equal" if is_equal(at_pacs.get(uid), data) else "refused"
            refused = [name for name in files if arrived[name] == "refused"]
            troubled = {entry: count for entry, code, count in cloud.troubles() if code == "rejected"}
            assert sum(troubled.get(entry, 0) for entry in entries) == len(refused)
            assert (cloud.states(entries) == {"delivered"}) == (not refused)
        log = (orthanc.folder / "orthanc.log").read_text(encoding="utf-8", errors="replace")

    reasons = {name: expected[name].pacs for name in arrived}
    assert {name for name, what in arrived.items() if what == "refused"} == {
        name for name, what in reasons.items() if what != "equal"
    }
    assert all(what in log for what in reasons.values() if what != "equal")
