"""What comes from outside and is wrong: a clear answer, nothing lost, one line in the log, no patient in it.

Tables, to be read as such. Each row says what comes, and what is answered. Around each row the node's facts
and blobs are compared, and its log is read.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from nacl.signing import SigningKey
from support.killing import noisy_study
from support.nodes import LocalNode, Refusal
from support.slices import made_slice

from node.keys import Keystore
from node.mesh import joining, tls, wire
from node.mesh.tls import Identity
from sync import cbor, facts
from sync.bodies import Report
from sync.facts import FactClass
from sync.ids import BlobId
from sync.invitation import Invitation, encode_code, parse_code

PATIENT = "Doe^Unlucky"
_LATE_MS = joining.LIFE_MS + 1


@dataclass
class Setting:
    """A cloud node that is asked, and a clinic with a study that the cloud node knows and lacks."""

    cloud: LocalNode
    clinic: LocalNode
    entry: str
    blob: bytes
    manifest: bytes
    mesh_ca: tuple[bytes, ...]

    @contextlib.contextmanager
    def line(self, *, member: bool = True) -> Iterator[httpx.Client]:
        """Give the clinic's line to the cloud node, or that of somebody without a certificate."""
        context = (
            tls.client_context(self.identity, self.mesh_ca) if member else tls.joining_context(lambda _: True)
        )
        url = f"https://{self.cloud.mesh_address}/mesh/v1"
        with httpx.Client(base_url=url, verify=context, trust_env=False, timeout=30) as client:
            yield client

    @property
    def identity(self) -> Identity:
        return Identity(Keystore.load(self.clinic.home.keys).node_key, self.clinic.home.membership().chain)

    def state(self) -> tuple[set[bytes], set[str]]:
        """Return what the cloud node has: facts and blobs."""
        ledger = self.cloud.node.facts.ledger
        kinds = [set(ledger.facts(kind)) for kind in FactClass]
        return set.union(*kinds), {path.name for path in self.cloud.blobs()}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("bad-input")
    with LocalNode(folder / "cloud", replicate_every_s=3600) as cloud, LocalNode(folder / "clinic") as clinic:
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start()
        (entry,) = clinic.submit(noisy_study(77, 1, 300_000))
        view = clinic.node.holdings.view(bytes.fromhex(entry))
        assert view.study is not None
        cloud.node.facts.add_many([view.study.raw])
        listed = [blob for blob, _ in clinic.node.queue.blobs(bytes.fromhex(entry))]
        ca = cloud.home.membership().genesis.mesh_ca
        manifest = clinic.node.blobs.get(BlobId(bytes.fromhex(entry)))
        yield Setting(cloud, clinic, entry, listed[1], manifest, ca)


@contextlib.contextmanager
def one_line(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that exactly one warning is logged while the block runs, and that it tells of no patient."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "node"):
        yield
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("node.") and not record.name.startswith("node.jobs.")
    ]
    assert len(lines) == 1, lines
    assert PATIENT not in lines[0]


# -- requests to the mesh port ---------------------------------------------------------------------------

NODE = b"n" * 32
HELLO = {
    "v": 1,
    "node": NODE,
    "permanent": bytes(16),
    "live": bytes(16),
    "free": 1,
    "version": "1",
    "caps": [],
}
TEXT = PATIENT.encode() * 3


@dataclass(frozen=True)
class Bad:
    """One request that is wrong. `{entry}`, `{blob}` in the path are the study's."""

    method: str
    path: str
    body: bytes
    status: int
    code: str
    headers: tuple[tuple[str, str], ...] = ()
    member: bool = True


def post(path: str, body: bytes, status: int, code: str, **more: Any) -> Bad:
    return Bad("POST", path, body, status, code, **more)


def put(path: str, body: bytes, status: int, code: str, **headers: str) -> Bad:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Bad("PUT", path, body, status, code, named)


def hello(**other: Any) -> bytes:
    return cbor.encode({key: value for key, value in (HELLO | other).items() if value is not None})


REQUESTS = {
    "a hello that is text": post("/hello", TEXT, 400, "bad-message"),
    "a hello without fingerprints": post("/hello", hello(live=None), 400, "bad-message"),
    "a hello with a short fingerprint": post("/hello", hello(live=b"1"), 400, "bad-message"),
    "a hello with a version of 65 signs": post("/hello", hello(version="9" * 65), 400, "bad-message"),
    "a hello with a number for a version": post("/hello", hello(version=2), 400, "bad-message"),
    "a hello in another's name": post("/hello", hello(), 400, "bad-message"),
    "a hello with keys out of order": post("/hello", b"\xa2\x61b\x01\x61a\x01", 400, "bad-message"),
    "a hello without end": post("/hello", bytes(wire.MAX_BODY + 1), 413, "too-large"),
    "a hello without a certificate": post("/hello", hello(), 403, "not-a-member", member=False),
    "facts that are text": post("/facts", TEXT, 400, "bad-message"),
    "facts that are a map": post("/facts", cbor.encode({"a": TEXT}), 400, "bad-message"),
    "facts that are numbers": post("/facts", cbor.encode([1, 2]), 400, "bad-message"),
    "more facts than a request holds": post("/facts", cbor.encode([b""] * 2001), 400, "bad-message"),
    "facts without end": post("/facts", bytes(wire.MAX_BODY + 1), 413, "too-large"),
    "an id that is too short": post("/facts/get", cbor.encode([b"x" * 31]), 400, "bad-message"),
    "more ids than a request holds": post("/lack", cbor.encode([NODE] * 2001), 400, "bad-message"),
    "nested too deep": post("/lack", b"\x81" * 5000 + b"\x80", 400, "bad-message"),
    "a reconciliation of noise": post("/reconcile/live", b"\xff" * 64, 400, "bad-reconcile-message"),
    "a reconciliation of text": post("/reconcile/permanent", TEXT, 400, "bad-reconcile-message"),
    "a reconciliation without end": post("/reconcile/live", b"a" * (wire.MAX_BODY + 1), 413, "too-large"),
    "a reconciliation of nothing known": post("/reconcile/patients", b"a", 404, "not-found"),
    "a blob under a name that is none": put(f"/blobs/{PATIENT}", TEXT, 422, "bad-request"),
    "a manifest that is text": put("/blobs/{entry}", TEXT, 400, "bad-manifest"),
    "a manifest larger than any": put("/blobs/{entry}", bytes(wire.MAX_BLOB + 1), 413, "too-large"),
    "a range that is text": put("/blobs/{entry}", TEXT, 422, "bad-request", Content_Range=PATIENT),
    "a range beyond the end": put("/blobs/{entry}", TEXT, 413, "too-large", Content_Range="bytes 9-10/5"),
    "more than the range says": put("/blobs/{entry}", TEXT, 413, "too-large", Content_Range="bytes 0-9/10"),
    "news for a print that is none": Bad("GET", f"/news?told={PATIENT}", b"", 422, "bad-request"),
    "joining with text": post("/join", TEXT, 400, "bad-message", member=False),
    "joining with too much": post("/join", bytes(16_385), 413, "too-large", member=False),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_bad_request_is_refused_clearly_and_logged_once(
    setting: Setting, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """By a stable code and a sentence that repeats nothing; facts and blobs are what they were."""
    bad, before = REQUESTS[name], setting.state()
    path = bad.path.format(entry=setting.entry, blob=setting.blob.hex())

    with one_line(caplog), setting.line(member=bad.member) as line:
        answer = line.request(bad.method, path, content=bad.body, headers=dict(bad.headers))

    said = answer.json()
    assert (answer.status_code, said["code"]) == (bad.status, bad.code)
    assert said["detail"]
    assert PATIENT not in answer.text
    assert setting.state() == before


# -- facts -----------------------------------------------------------------------------------------------


def _said(setting: Setting, at: int) -> bytes:
    log = setting.clinic.node.facts
    body = Report(free=at, tombstones={}, still=(), version="test", plans="")
    return facts.sign(body, key=log.key, mesh=log.ledger.mesh, timestamp=at)


FACTS: dict[str, Callable[[bytes], bytes]] = {
    "with a bit that fell over": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "cut in the middle": lambda raw: raw[: len(raw) // 2],
    "with something behind it": lambda raw: raw + TEXT,
    "that is text": lambda _: TEXT,
    "that is nothing": lambda _: b"",
    "larger than any": lambda _: bytes(65_537),
    "of another mesh": lambda _: facts.sign(
        Report(1, {}, (), "x", ""), key=SigningKey.generate(), mesh=bytes(32), timestamp=9
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_bad_fact_is_refused_and_logged_once(
    setting: Setting, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The message is well formed, so that its neighbours count; what is wrong is named by its place."""
    bad, before = FACTS[name](_said(setting, 5)), setting.state()

    with one_line(caplog), setting.line() as line:
        said = cbor.decode(line.post("/facts", content=cbor.encode([bad])).content)

    assert said["refused"] == [[0, "bad-fact"]]
    assert setting.state() == before


@pytest.mark.parametrize("year", [1, 2001, 2006, 2046, 285_000])
def test_a_clock_decades_off_is_no_reason_to_refuse(setting: Setting, year: int) -> None:
    """Its facts are merged like any others, and move nobody's own clock."""
    at = 1 + max(0, int((year - 1970) * 365.25 * 24 * 3_600_000))
    cloud = setting.cloud.node.facts
    with setting.line() as line:
        said = cbor.decode(line.post("/facts", content=cbor.encode([_said(setting, at)])).content)

    assert said["refused"] == []
    fact = cloud.issue(Report(free=year, tombstones={}, still=(), version="test", plans=""))
    assert abs(fact.header.timestamp - time.time() * 1000) < 24 * 3_600_000


# -- blobs that a peer sends -------------------------------------------------------------------------------


def test_a_bad_blob_is_dropped_logged_once_and_still_wanted(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole or by its last part; the right one comes from whoever has it."""
    right = setting.clinic.node.blobs.get(BlobId(setting.blob))
    size, half = len(right), len(right) // 2
    part = {"Content-Range": f"bytes 0-{half - 1}/{size}"}
    rest = {"Content-Range": f"bytes {half}-{size - 1}/{size}"}
    with setting.line() as line:
        put_to = f"/blobs/{setting.blob.hex()}"
        assert line.put(f"/blobs/{setting.entry}", content=setting.manifest).status_code == 201
        before = setting.state()
        with one_line(caplog):
            assert line.put(put_to, content=bytes(size)).json()["code"] == "bad-blob"
        assert line.put(put_to, content=bytes(half), headers=part).status_code == 202
        with one_line(caplog):
            assert line.put(put_to, content=right[half:], headers=rest).json()["code"] == "bad-blob"
        assert setting.state() == before
        assert line.put(put_to, content=right).status_code == 201
    held = setting.cloud.node.queue.get(bytes.fromhex(setting.entry))
    assert held is not None
    assert held.complete


# -- invitations -----------------------------------------------------------------------------------------


def _invite(setting: Setting) -> str:
    roles = {"roles": ["carry"], "label": "courier"}
    return str(setting.cloud.ask("POST", "/api/v1/admin/invitations", roles)["code"])


def _guess(code: str, number: int) -> str:
    """Return a code with the right fingerprint and another secret."""
    said = parse_code(code)
    return encode_code(Invitation(said.fingerprint, bytes([said.secret[0] ^ number]) + said.secret[1:]))


def _join(setting: Setting, folder: Path, code: str) -> str:
    """Try to join; return the code of the refusal, or nothing."""
    try:
        LocalNode(folder).join(code, setting.cloud.mesh_address)
    except joining.PeerRefused as error:
        return error.peer_code
    return ""


def test_an_invitation_that_is_used_twice_late_or_guessed_lets_nobody_in(
    setting: Setting, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wrong try is one line; the node that was let in stays, and nobody else comes."""
    used, guessed, late = _invite(setting), _invite(setting), ""
    assert _join(setting, tmp_path / "first", used) == ""
    members = len(setting.cloud.get("/api/v1/status")["members"])

    with one_line(caplog):
        assert _join(setting, tmp_path / "second", used) == "code-wrong"
    for number in (1, 2):
        with one_line(caplog):
            assert _join(setting, tmp_path / f"guess{number}", _guess(guessed, number)) == "code-wrong"
    with one_line(caplog):  # three wrong tries have ended it, the first of them at the used one
        assert _join(setting, tmp_path / "third", guessed) == "code-wrong"
    late = _invite(setting)
    clock = setting.cloud.node.clock
    now = clock.monotonic_ms
    with monkeypatch.context() as later:
        later.setattr(clock, "monotonic_ms", lambda: now() + _LATE_MS)
        with one_line(caplog):
            assert _join(setting, tmp_path / "late", late) == "code-wrong"

    assert len(setting.cloud.get("/api/v1/status")["members"]) == members


# -- sticks ----------------------------------------------------------------------------------------------


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _grow(path: Path) -> None:
    """Make a file longer than any of its kind, without needing the room for it."""
    with path.open("r+b") as file:
        file.truncate(64 * 1024**3)


@dataclass(frozen=True)
class OnStick:
    """The files of a stick that belong to one study."""

    facts: Path
    manifest: Path
    blob: Path


STICKS: dict[str, Callable[[OnStick], None]] = {
    "facts of text": lambda stick: _write(stick.facts, TEXT),
    "facts in a map": lambda stick: _write(stick.facts, cbor.encode({"a": 1})),
    "facts without end": lambda stick: _grow(stick.facts),
    "a forged fact": lambda stick: _write(stick.facts.with_name("0" * 16 + ".CBR"), cbor.encode([TEXT])),
    "a manifest of text": lambda stick: _write(stick.manifest, TEXT),
    "a manifest without end": lambda stick: _grow(stick.manifest),
    "a blob of zeros": lambda stick: _write(stick.blob, bytes(1000)),
    "a blob without end": lambda stick: _grow(stick.blob),
    "a blob that is gone": lambda stick: stick.blob.unlink(),
}


def _exported(setting: Setting, folder: Path, entry: str) -> OnStick:
    """Write all that the clinic has on a new stick; return what belongs to one study."""
    folder.mkdir()
    setting.clinic.ask("POST", "/api/v1/admin/stick/export", {"folder": str(folder), "name": "blue"})
    names = [blob.hex().upper() for blob, _ in setting.clinic.node.queue.blobs(bytes.fromhex(entry))]
    (batch,) = folder.rglob("FACTS/*.CBR")
    manifest, blob, *_ = (next(folder.rglob(f"BLOBS/*/{name}")) for name in names)
    return OnStick(batch, manifest, blob)


def _take_in(setting: Setting, stick: Path) -> None:
    setting.cloud.ask("POST", "/api/v1/admin/stick/import", {"folder": str(stick)})


def _is_held(setting: Setting, entry: str) -> bool:
    held = setting.cloud.node.queue.get(bytes.fromhex(entry))
    return held is not None and held.complete


@pytest.mark.parametrize("name", STICKS)
def test_a_damaged_stick_harms_nothing_and_is_logged_once(
    setting: Setting, caplog: pytest.LogCaptureFixture, tmp_path: Path, name: str
) -> None:
    """What is right on it counts, what is not is left; the next stick brings the study."""
    number = 500 + list(STICKS).index(name)
    (entry,) = setting.clinic.submit({"IM1": made_slice(number, 1, octets=20_000, name=PATIENT)})
    STICKS[name](_exported(setting, tmp_path / "damaged", entry))

    with one_line(caplog):
        _take_in(setting, tmp_path / "damaged")

    assert _is_held(setting, entry) == (name == "a forged fact")
    _exported(setting, tmp_path / "whole", entry)
    _take_in(setting, tmp_path / "whole")
    assert _is_held(setting, entry)


def test_a_stick_whose_name_is_not_readable_is_none(setting: Setting, tmp_path: Path) -> None:
    """Nothing of it is taken, and the person is told to look at the folder."""
    before = setting.state()
    (tmp_path / "stick").mkdir()
    folder = {"folder": str(tmp_path / "stick"), "name": "blue"}
    setting.clinic.ask("POST", "/api/v1/admin/stick/export", folder)
    _grow(next((tmp_path / "stick").rglob("STICK.CBR")))

    with pytest.raises(Refusal) as refusal:
        _take_in(setting, tmp_path / "stick")
    assert refusal.value.code == "no-such-stick"
    assert setting.state() == before
