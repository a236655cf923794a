"""What the press makes is what DICOM and a real PACS take for good: valid, stored, given back, and shown."""

import io
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from PIL import Image
from support.orthanc import missing, running_orthanc
from support.outgoing import outcomes, outgoing, verdict
from support.pictures import CONTEXT, CORNERS, as_held, coded, corners, motif, near, ordered, profile

from node.deliver.dicomweb import DicomWebDestination
from node.wrap.order import SERIES, Order, StudyContext, uid_of
from node.wrap.press import Press
from sync.evidence import Outcome

PHOTO = coded(motif(), quality=92, icc_profile=profile())
WORDS = "Fracture of the left wrist? مريض يعاني من ألم منذ 3 أيام. 患者胸痛。 रोगी 🦴"


def _made() -> dict[str, bytes]:
    """Return one instance of each kind, by what it is."""
    orders: dict[str, tuple[Order, bytes]] = {
        "photo": (ordered(PHOTO), PHOTO),
        "turned": (ordered(as_held(6), number=2), as_held(6)),
        "grey": (ordered(coded(motif().convert("L")), number=3), coded(motif().convert("L"))),
        "film": (ordered(PHOTO, "film", body_part="CHEST"), PHOTO),
        "scan": (ordered(coded(motif(), "PNG"), "scan"), coded(motif(), "PNG")),
        "impression": (
            Order("impression", "impression", CONTEXT, uid_of("i"), text=WORDS, written="202601031011"),
            b"",
        ),
    }
    sixteen = coded(motif().convert("L").convert("I;16"), "PNG")
    orders["screen"] = (ordered(sixteen, "screen"), sixteen)
    bare = replace(ordered(PHOTO), context=StudyContext("2.25.78", "Doe Jane"))
    orders["bare"] = (bare, PHOTO)
    with Press() as press:
        made = {
            name: b"".join(press.wrap(order, lambda data=data: iter((data,))).pieces())  # type: ignore[misc]
            for name, (order, data) in orders.items()
        }
        made["page"] = b"".join(press.captures(made["impression"])[0].pieces())
        document = _a_pdf()
        made["pdf"] = b"".join(press.wrap(ordered(document, "pdf"), lambda: iter((document,))).pieces())
    return made


def _a_pdf() -> bytes:
    from fpdf import FPDF

    pdf = FPDF()
    pdf.add_page()
    return bytes(pdf.output())


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return _made()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with running_orthanc(tmp_path_factory.mktemp("wrapped")) as running:
        yield running.url


@pytest.mark.needs("dciodvfy")
def test_each_wrapped_object_is_valid_dicom(made: dict[str, bytes], tmp_path: Path) -> None:
    """By the checker that the field trusts; warnings are about what nobody can know, such as the side."""
    faults = {}
    for name, part10 in made.items():
        file = tmp_path / f"{name}.dcm"
        file.write_bytes(part10)
        told = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        lines = (told.stdout + told.stderr).splitlines()
        faults[name] = [line for line in lines if line.startswith("Error")] or told.returncode

    assert faults == dict.fromkeys(made, 0)
    assert set(SERIES) <= {*made}


@pytest.mark.orthanc
def test_a_real_pacs_stores_and_gives_back_each_of_them(made: dict[str, bytes], orthanc: str) -> None:
    """Read back equal, as the mesh demands before it erases anything."""
    pacs = DicomWebDestination(f"{orthanc}/dicom-web", idle_s=30)
    sent = [outgoing(part10) for name, part10 in made.items() if name != "bare"]

    assert outcomes(pacs, sent) == [Outcome.STORED] * len(sent)
    assert len(verdict(pacs, sent).proven) == len(sent)
    assert outcomes(pacs, [outgoing(made["bare"])]) == [Outcome.STORED]
    pacs.close()


@pytest.mark.orthanc
def test_a_real_pacs_shows_them_the_right_way_up_and_in_their_colours(
    made: dict[str, bytes], orthanc: str
) -> None:
    """What the radiologist sees is what the clinician held."""
    with httpx.Client(base_url=orthanc, trust_env=False, timeout=60) as http:
        seen = {}
        for name in ("photo", "turned", "film", "scan", "grey", "page"):
            stored = http.post("/instances", content=made[name]).json()
            # Of grey pictures, "preview" stretches the contrast.
            how = "image-uint8" if name == "grey" else "preview"
            preview = http.get(f"/instances/{stored['ID']}/{how}", headers={"Accept": "image/png"})
            assert preview.status_code == 200, (name, preview.text)
            seen[name] = Image.open(io.BytesIO(preview.content))
        document = http.post("/instances", content=made["impression"]).json()["ID"]
        pdf = http.get(f"/instances/{document}/pdf")

    for name in ("photo", "turned", "film", "scan"):
        got = corners(seen[name])
        assert all(near(a, b, 40) for a, b in zip(got, CORNERS, strict=True)), (name, got)
    greys = corners(motif().convert("L"))
    assert all(near(a, b, 40) for a, b in zip(corners(seen["grey"]), greys, strict=True))
    assert seen["page"].height > seen["page"].width
    assert pdf.content.startswith(b"%PDF-")
