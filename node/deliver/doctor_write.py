"""What a PACS does with images, found out with a synthetic study that is removed again where it allows that.

Called by the API after a person said yes. Nothing of any patient is sent: the study's patient is called
"TEST^CLINICMESH", and all of its UIDs are drawn anew. Found out are the codings and kinds of image that the
PACS takes, what it changes, what it does with the same image twice and with another one under the same
identifier, and the largest image that goes through.
"""

import hashlib
import logging
import time
from base64 import b85decode
from dataclasses import dataclass, field
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

from node.deliver.compare import UNREADABLE
from node.deliver.destination import Outgoing, Probed, Result
from node.deliver.doctor import FAILED, OK, SKIPPED, WARNING, Examination
from node.errors import DestinationBusy, DestinationLocked, DestinationUnreachable
from sync.evidence import Evidence, InstanceProof, Outcome

log = logging.getLogger(__name__)

PATIENT = "TEST^CLINICMESH"

_EXPLICIT, _IMPLICIT, _BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_DEFLATED, _RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
_JPEG, _JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
_SYNTAXES = {
    _IMPLICIT: "implicit VR",
    _DEFLATED: "deflated",
    _BIG: "big endian",
    _JPEG: "JPEG",
    _JPEG_2000: "JPEG 2000",
    _RLE: "RLE",
}
_CAPTURE, _PHOTO, _PDF = (
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.77.1.4",
    "1.2.840.10008.5.1.4.1.1.104.1",
)
_CT = "1.2.840.10008.5.1.4.1.1.2"
_CLASSES = {_CAPTURE: "secondary captures", _PHOTO: "photographs", _PDF: "PDF documents"}
_SIZES = tuple(1024 * 1024 * n for n in (1, 4, 16, 32))
_ENOUGH_S = 20.0  # a step that takes longer is the last one
_KEPT = frozenset({Outcome.STORED, Outcome.STORED_WITH_WARNING, Outcome.ALREADY_THERE_SAME})
_GREY_JPEG = b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV01yid4h#wq4h;?x5fBp?C>j_R78o%jB^@X_Gd(;xGdMRuNL)@pL{~*OI8bd-S6^ahX"
    "lFi6ad~iLcwA*?WB<Sa3kU!R00;pA5di<h03QGV0R;g80RaI400000000000RjUA1qKHQ2?`7U!~nGr00IF60|EpC1qB2I00"
    "04f0RjU61Q7)iAu&M)6H#FYB5@QlfsvsIBSNvk6;jdgBr{@if(Z&17Z@2DB_<~*DJnEIHa9pqIzvQ7Mn_0VN>fx-R##YAT4Q"
    "8oW@l(=YIAgTc6WGrdV_?8hKGoWijtF*m6n&7nVO=bq@|{(sHv*5v$VCgx45~w!o$SH#>dFX%F@%+)z;V8+1laa<K*S$=jiF"
    "`@$&QZ_4fDp`TGCb00;pA002J#EC1O"
)
_GREY_JPEG_2000 = b85decode(
    "|4;u>04V?f0000800008000000000000008000080000000000009R90sm3}3;+NC0RRI81ONg5TmTI~KuAbXNJvmfNKpS|0"
    "3`qcLvm$dbY)~9VtF7>aAj^vP(?=|c4cyNX>V>IGA=bPH2;tQ3IG5A000sI0soVLfPjGi*#"
)
_GREY_RLE = (
    b"\x01\0\0\0\x40\0\0\0" + bytes(56) + b"\xc1\x80"  # one segment: 64 times the octet 128 (PS3.5 annex G)
)
_TINY_PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def probe(pacs: Probed, found: Examination) -> None:
    """Send the synthetic study, note what comes of it, and remove it again."""
    study = _Study()
    try:
        if _basics(pacs, study, found):
            _codings(pacs, study, found)
            _duplicates(pacs, study, found)
            _largest(pacs, study, found)
    except (DestinationUnreachable, DestinationBusy, DestinationLocked) as error:
        advice = "Try again; if it breaks at the same place, tell the hospital where."
        found.add("write", FAILED, f"The line was lost in between: {error}.", advice)
    _clean_up(pacs, study, found)


@dataclass(slots=True)
class _Study:
    """The synthetic study; `sent` says whether there is anything to remove."""

    uid: str = field(default_factory=lambda: str(generate_uid(prefix=None)))
    series: str = field(default_factory=lambda: str(generate_uid(prefix=None)))
    sent: bool = False

    def image(
        self, sop_class: str = _CT, syntax: str = _EXPLICIT, *, octets: int = 0, mark: str = ""
    ) -> Outgoing:
        """Return a new image; `octets` of pixels beyond those of 8 by 8."""
        return self.like(str(generate_uid(prefix=None)), sop_class, syntax, octets=octets, mark=mark)

    def like(
        self, uid: str, sop_class: str = _CT, syntax: str = _EXPLICIT, *, octets: int = 0, mark: str = ""
    ) -> Outgoing:
        """Return an image of this identifier."""
        self.sent = True
        made = _part10(_data_set(self, uid, sop_class, octets, mark), syntax)
        return Outgoing(
            study_uid=self.uid,
            uid=uid,
            sop_class=sop_class,
            syntax=syntax,
            size=len(made),
            sha256=hashlib.sha256(made).digest(),
            open=lambda: iter((made,)),
        )


def _basics(pacs: Probed, study: _Study, found: Examination) -> bool:
    """Send one ordinary image; what does not work with it works with none."""
    image = study.image()
    result = _send(pacs, image)
    if result.outcome not in _KEPT:
        advice = "Ask the hospital to let us store images."
        return found.add(
            "store", FAILED, f"It does not take a plain CT image. {result.detail}".strip(), advice
        )
    found.add("store", OK, "It takes a plain CT image.")
    proof = _proof(pacs, image, Evidence.COMMITTED)
    found.strongest = pacs.strongest
    if proof is not None and proof.conflict:
        return _coercions(pacs, image, found)
    level = None if proof is None else proof.level
    if level is None:
        advice = "Ask the hospital whether images wait for somebody to release them."
        return found.add("proof", FAILED, "It took the image and does not show it.", advice)
    found.strongest = level
    return found.add("proof", OK, f"It shows what it has: {level.value}.")


def _coercions(pacs: Probed, image: Outgoing, found: Examination) -> bool:
    """Find out which attributes it changes."""
    given = pacs.fetch(image)
    tags = None if given is None else _changed(b"".join(image.open()), given)
    if not tags:
        advice = "Ask the hospital what it changes, or demand less evidence."
        return found.add("coercions", FAILED, "It gives back another image than it took.", advice)
    names = ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in sorted(tags))
    found.learnt["coerces"] = sorted(tags)
    advice = "It is noted: these may differ, all else must be the same."
    return found.add("coercions", WARNING, f"It changes {len(tags)} attribute(s): {names}.", advice)


def _codings(pacs: Probed, study: _Study, found: Examination) -> None:
    refused, changed = [], []
    for syntax, name in _SYNTAXES.items():
        image = study.image(_CT if syntax in (_IMPLICIT, _BIG, _DEFLATED) else _CAPTURE, syntax)
        if _send(pacs, image).outcome not in _KEPT:
            refused.append(name)
        elif (proof := _proof(pacs, image, Evidence.READ_BACK)) is not None and proof.conflict:
            changed.append(name)
    if "implicit VR" in refused:
        found.learnt["needs-explicit-vr"] = 1
    _tell(
        found,
        "codings",
        ok="It takes and gives back each coding that was tried.",
        bad=[("refuses", refused), ("changes", changed)],
        advice="Images in a refused coding wait for a person. Implicit ones are sent as explicit ones.",
    )
    refused = [name for uid, name in _CLASSES.items() if _send(pacs, study.image(uid)).outcome not in _KEPT]
    _tell(
        found,
        "kinds",
        ok="It takes photographs, captures and PDF documents.",
        bad=[("refuses", refused)],
        advice="Ask the hospital to allow them; else such documents wait for a person.",
    )


def _tell(found: Examination, check: str, *, ok: str, bad: list[tuple[str, list[str]]], advice: str) -> None:
    said = [f"{verb} {', '.join(names)}" for verb, names in bad if names]
    if said:
        found.add(check, WARNING, f"It {' and '.join(said)}.", advice)
    else:
        found.add(check, OK, ok)


def _duplicates(pacs: Probed, study: _Study, found: Examination) -> None:
    image = study.image(mark="first")
    _send(pacs, image)
    if _proof(pacs, image, Evidence.READ_BACK) is None:
        found.add("duplicates", SKIPPED, "It does not show what it has, so nobody can tell.")
        return
    pacs.again(image)
    if _proof(pacs, image, Evidence.READ_BACK) is None:
        advice = "Tell the hospital: an image that arrives twice is lost there. We never send one twice."
        found.add("duplicates", WARNING, "An image that is sent twice is gone.", advice)
        return
    other = study.like(image.uid, mark="other")
    answer = pacs.again(other).outcome
    if _is_shown(_proof(pacs, image, Evidence.READ_BACK)):
        how = "and says so" if answer not in _KEPT else "but answers as if it had taken the new one"
        detail = f"Of two images with one identifier it keeps the first, {how}. We compare both."
        found.add("duplicates", OK, detail)
    elif _is_shown(_proof(pacs, other, Evidence.READ_BACK)):
        detail = "It replaces an image by another one of the same identifier."
        advice = "Ask the hospital to forbid that; we look before we send, others may not."
        found.add("duplicates", WARNING, detail, advice)
    else:
        found.add("duplicates", SKIPPED, "What it keeps of two that differ cannot be read back.")


def _is_shown(proof: InstanceProof | None) -> bool:
    level = None if proof is None or proof.conflict else proof.level
    return level is not None and level >= Evidence.CHECKSUM


def _largest(pacs: Probed, study: _Study, found: Examination) -> None:
    """Send larger and larger images until one is refused or takes long."""
    taken = 0
    for octets in _SIZES:
        started = time.monotonic()
        try:
            answer = _send(pacs, study.image(octets=octets))
        except DestinationUnreachable:
            answer = None
        if answer is None or answer.outcome not in _KEPT:
            found.learnt["largest"] = taken or _SIZES[0] // 2
            limit = f"{taken // 1024**2} MB go through" if taken else "not even 1 MB goes through"
            advice = "A proxy is often the reason: ask to raise its limit (nginx: `client_max_body_size`)."
            found.add("largest", WARNING, f"An image of {octets // 1024**2} MB is refused; {limit}.", advice)
            return
        taken = octets
        if time.monotonic() - started > _ENOUGH_S:
            break
    found.add("largest", OK, f"Images of {taken // 1024**2} MB go through; larger ones were not tried.")


def _clean_up(pacs: Probed, study: _Study, found: Examination) -> None:
    if not study.sent:
        return
    try:
        gone = pacs.remove(study.uid) and not pacs.present(study.uid)
    except (DestinationUnreachable, DestinationBusy, DestinationLocked):
        gone = False
    if gone:
        found.add("removed", OK, "The test study is gone again.")
        return
    advice = f"Ask the hospital to delete the study {study.uid} of the patient {PATIENT}."
    found.add("removed", WARNING, "The test study cannot be removed from here.", advice)


def _send(pacs: Probed, image: Outgoing) -> Result:
    (answer,) = pacs.store([image])
    return answer


def _proof(pacs: Probed, image: Outgoing, demanded: Evidence) -> InstanceProof | None:
    return pacs.prove(image.study_uid, [image], demanded).get(image.uid)


# -- making images ----------------------------------------------------------------------------------


def _data_set(study: _Study, uid: str, sop_class: str, octets: int, mark: str) -> Dataset:
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = sop_class, uid
    made.StudyDate = made.ContentDate = "20200101"
    made.StudyTime = made.ContentTime = "120000"
    made.Modality = {_CT: "CT", _PDF: "DOC", _PHOTO: "XC"}.get(sop_class, "OT")
    made.PatientName, made.PatientID = PATIENT, "CLINICMESH-TEST"
    made.PatientBirthDate, made.PatientSex = "", "O"
    made.StudyInstanceUID, made.SeriesInstanceUID = study.uid, study.series
    made.StudyID, made.AccessionNumber, made.ReferringPhysicianName = "TEST", "", ""
    made.StudyDescription = "ClinicMesh test, delete"
    made.SeriesNumber = made.InstanceNumber = 1
    made.ImageComments = mark
    if sop_class == _PDF:
        made.DocumentTitle, made.MIMETypeOfEncapsulatedDocument = "Test", "application/pdf"
        made.BurnedInAnnotation = "NO"
        made.EncapsulatedDocument = _TINY_PDF + b"\n" * (len(_TINY_PDF) % 2)
        return made
    made.ConversionType = "SYN"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = (8 if not octets else octets // 1024), (8 if not octets else 1024)
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = b"\x80" * (made.Rows * made.Columns)
    made["PixelData"].VR = "OB"
    return made


def _part10(made: Dataset, syntax: str) -> bytes:
    frame = {_JPEG: _GREY_JPEG, _JPEG_2000: _GREY_JPEG_2000, _RLE: _GREY_RLE}.get(syntax)
    if frame is not None:
        made.PixelData = encapsulate([frame])
        made["PixelData"].is_undefined_length = True
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    file = BytesIO()
    pydicom.dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()


def _changed(ours: bytes, theirs: bytes) -> set[int]:
    """Return the tags that differ; nothing if the pixels do, or one cannot be parsed."""
    try:
        mine, other = (pydicom.dcmread(BytesIO(part10)) for part10 in (ours, theirs))
        tags = {int(tag) for tag in {*mine.keys(), *other.keys()} if mine.get(tag) != other.get(tag)}
        return set() if 0x7FE00010 in tags else tags
    except UNREADABLE:
        return set()
