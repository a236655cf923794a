"""The app judges every odd file as the node does: pydicom's test data and real scans, by one table."""

from pathlib import Path
from typing import Any

import pydicom
import pytest
from playwright.sync_api import Browser, Page, expect
from pydicom.data import get_testdata_file
from support.corpus import expectations, specimens
from support.folders import new_uid
from support.picking import arrived, confirm, pick
from support.real_clinic import RealClinic

from node.intake.detect import DICOM, Content, content_of
from node.intake.dicom import HeaderReader

pytestmark = pytest.mark.chromium

DIST = Path(__file__).parents[2] / "pwa" / "dist"
SPECIMENS = list(specimens())
EXPECTED = expectations()
# What the node says of a file, and what the app says then: it looks less deep, so it has fewer reasons.
SAID = {
    "accepted": "taken",
    "dicomdir": "index",
    "not-dicom": "not-dicom",
    "other-archive": "not-dicom",
    "truncated": "incomplete",
    "malformed": "incomplete",
    "no-uids": "incomplete",
}
# The app does not walk to the end of what has no pixels: the node finds these, and asks a person.
ONLY_THE_NODE_FINDS = {
    "pydicom/charset_files/chrJapMulti.dcm",
    "pydicom/charset_files/chrJapMultiExplicitIR6.dcm",
    "pydicom/charset_files/chrKoreanMulti.dcm",
    "pydicom/test_files/rtplan_truncated.dcm",
    "pydicom-data/bad_sequence.dcm",
}
# The reading worker, asked as the page asks it.
ASK = """async (worker) => {
    const files = [...document.querySelector("#corpus").files].map((file, n) => ({file, path: `${n}`}));
    const own = new Worker(worker, {type: "module"});
    const answer = await new Promise((done, failed) => {
        own.onerror = failed;
        own.onmessage = ({data}) => data.type === "progress" || done(data);
        own.postMessage({type: "detect", files});
    });
    own.terminate();
    const {patients, skipped, pictures, files: count} = answer.detection;
    const verdicts = Array(count).fill("nothing");
    for (const {studies} of patients)
        for (const {files} of studies) for (const index of files) verdicts[index] = "taken";
    for (const {reason, names} of skipped) for (const name of names) verdicts[name] = reason;
    for (const {index, kind} of pictures) verdicts[index] = kind;
    return verdicts;
}"""


def verdicts(window: Browser, url: str, paths: list[Path]) -> list[str]:
    """Return what the built app's worker says of each file."""
    (worker,) = (DIST / "assets").glob("reading.worker-*.js")
    context = window.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(url)
    page.evaluate(
        """document.body.append(Object.assign(document.createElement("input"),
            {type: "file", multiple: true, id: "corpus"}))"""
    )
    page.locator("#corpus").set_input_files(paths)
    said: Any = page.evaluate(ASK, f"/assets/{worker.name}")
    context.close()
    return list(said)


def test_the_app_takes_what_the_node_takes(window: Browser, room: RealClinic) -> None:
    """What only the app left out would never reach the hospital; what only it took would come back."""
    said = verdicts(window, room.url, [one.path for one in SPECIMENS])

    found = {one.name: verdict for one, verdict in zip(SPECIMENS, said, strict=True)}
    wanted = {name: SAID[EXPECTED[name].examination] for name in found}
    assert found == wanted | dict.fromkeys(ONLY_THE_NODE_FINDS, "taken")


def test_images_without_their_beginning_arrive_as_the_node_would_make_them(
    tab: Page, room: RealClinic, tmp_path: Path
) -> None:
    """Old devices write data sets without a header. The app adds the one that the node would."""
    folder = tmp_path / "old"
    folder.mkdir()
    wanted: dict[str, bytes] = {}
    headers = HeaderReader()
    for number, path in enumerate(_old_files(tmp_path)):
        data = path.read_bytes()
        with path.open("rb") as rest:
            found = headers.read(rest.read(1 << 20), rest, len(data), content_of(data))
        assert found.header is not None and found.prefix
        wanted[found.header.uid] = found.prefix + data
        (folder / f"IM{number}").write_bytes(data)
    headers.close()

    pick(tab, "folder", folder)
    expect(tab.get_by_text(f"{len(wanted)} images")).to_be_visible()
    confirm(tab)

    assert arrived(room, wanted) == wanted


def _old_files(folder: Path) -> list[Path]:
    """Write images of one study without a header, in each coding, and one that lacks only its preamble."""
    study, made = new_uid(), []
    for name in ("CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "CT_small.dcm"):
        bare = bool(made) and name == "CT_small.dcm"
        data = pydicom.dcmread(str(get_testdata_file(name)))
        data.PatientName, data.PatientID = "Old^Otto", "O-1"
        data.PatientBirthDate, data.PatientSex = "19400101", "M"
        data.StudyInstanceUID, data.SOPInstanceUID = study, new_uid()
        if not bare:
            data.preamble = None
            del data.file_meta
        path = folder / f"old{len(made)}"
        data.save_as(path, enforce_file_format=bare)
        if bare:
            path.write_bytes(path.read_bytes()[132:])
        made.append(path)
    assert {content_of(path.read_bytes()) for path in made} == DICOM - {Content.PART10}
    return made
