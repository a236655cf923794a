"""Examining: from the bytes of an upload to the list of its studies.

Reads each file once. Called by the flow of submissions with a finished upload; knows neither rows nor
keys. What cannot be read never stops the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from node.intake.ahead import Ahead
from node.intake.archive import Archive, BadArchive, Member
from node.intake.contents import Contents
from node.intake.detect import DICOM, DOCUMENTS, Content, content_of
from node.intake.dicom import PIECE_BYTES, Found, Header, HeaderReader
from node.intake.examination import (
    Directory,
    Document,
    Examination,
    ExaminedInstance,
    ExaminedSeries,
    ExaminedStudy,
    LeftOut,
    Patient,
    Place,
    digest_of,
    others_than,
    who,
)
from node.intake.reasons import SKIPPED
from node.intake.spool import SpoolReader
from node.store.history import Had

DOCUMENT_BYTES = 256 << 20
MISSING_NAMED = 100
_DEEPEST = 8  # folders of a DICOM file-set, PS3.10 §8.2
SMALLEST_SIDE = 128  # pixels; what is smaller is an icon or a preview

Known = Callable[[str, Sequence[ExaminedInstance]], Had]
"""Says what of a study, by its UID and the instances that came, this node has had before."""


def nothing_known(study_uid: str, instances: Sequence[ExaminedInstance]) -> Had:
    """Say that this node has had none of them."""
    return Had()


def examine(
    file: SpoolReader,
    name: str,
    headers: HeaderReader,
    known: Known = nothing_known,
    ahead: Ahead | None = None,
) -> Examination:
    """Return what an upload holds.

    Args:
        file: its plaintext.
        name: what the sender called it.
        headers: reads DICOM headers.
        known: recognises what was here before.
        ahead: what was looked at while it came.

    Raises:
        UploadDamaged: the spool file is not what was written.
    """
    if file.length == 0:
        return Examination(code="empty-file")
    findings = _Findings()
    file.seek(0)
    first = file.read(PIECE_BYTES)
    if content_of(first) is not Content.ZIP:
        findings.add(name, file.length, (), _read(first, cast("BinaryIO", file), file.length, headers))
        return findings.examination(known)
    contents = Contents(file)
    try:
        archive = contents.archive()
    except BadArchive as refused:
        return Examination(code=refused.code)
    if archive.kind == "other-document":
        return Examination(code=archive.kind)
    spent = archive.spent
    for member in archive.members:
        found = _member(archive, member, headers, ahead)
        if found.code == "zip-in-zip":
            spent = _add_inner(findings, contents, member, spent, headers)
        else:
            findings.add(member.name, member.size, (member.number,), found)
    return findings.examination(known)


def _add_inner(
    findings: "_Findings", contents: Contents, member: Member, spent: tuple[int, int], headers: HeaderReader
) -> tuple[int, int]:
    """Add the files of a ZIP in the ZIP; return how much all ZIPs together hold."""
    try:
        inner = contents.archive_in(member.number, spent)
    except BadArchive as refused:
        findings.add(member.name, member.size, (member.number,), Found(code=refused.code))
        return spent
    if inner.kind is not None:
        findings.add(member.name, member.size, (member.number,), Found(code=inner.kind))
        return spent
    # In the order of their octets: a packed ZIP would otherwise be unpacked again for each file.
    for one in inner.in_order():
        found = _member(inner, one, headers, None)
        findings.add(f"{member.name}/{one.name}", one.size, (member.number, one.number), found)
    files, octets = inner.spent
    return spent[0] + files, spent[1] + octets


def look_ahead(
    ahead: Ahead,
    file: SpoolReader,
    octets: int,
    headers: HeaderReader,
    code: Callable[[str, bytes, bytes], None] = lambda study_uid, digest, data: None,
) -> bool:
    """Examine files of a ZIP that has not come whole; False if none that is here is left.

    Args:
        ahead: what was looked at so far.
        file: the upload, as far as it is durable.
        octets: how much to read at most, one file more or less.
        headers: reads DICOM headers.
        code: called with each sound instance that can be coded whole: its study, SHA-256, and octets.

    Raises:
        UploadDamaged: the spool file is not what was written.
    """

    def look(stream: BinaryIO, size: int, data: bytes | None) -> Found:
        found = _look(stream, size, headers)
        if data is not None and found.header is not None and found.code is None and not found.prefix:
            code(found.header.study_uid, bytes.fromhex(found.sha256), data)
        return found

    return ahead.go_on(file, octets, look)


def _member(archive: Archive, member: Member, headers: HeaderReader, ahead: Ahead | None) -> Found:
    if member.code is not None:
        return Found(code=member.code)
    try:
        if ahead is not None and (stored := archive.stored(member.number)) is not None:
            seen = ahead.known(*stored)
            if seen is not None and archive.agrees(member.number, seen.local):
                return seen.found
        with archive.open(member.number) as stream:
            return _look(stream, member.size, headers)
    except BadArchive as damaged:
        return Found(code=damaged.code)


def _look(stream: BinaryIO, size: int, headers: HeaderReader) -> Found:
    return _read(stream.read(PIECE_BYTES), stream, size, headers)


def _read(first: bytes, rest: BinaryIO, size: int, headers: HeaderReader) -> Found:
    content = content_of(first)
    if content in DOCUMENTS and size > DOCUMENT_BYTES:
        return Found(code="document-too-large")
    if content in DICOM or content in DOCUMENTS:
        return headers.read(first, rest, size, content)
    return Found(code=_LEFT_OUT.get(content, "not-dicom"))


_LEFT_OUT = {
    Content.ZIP: "zip-in-zip",
    Content.PROGRAM: "program",
    Content.AUTORUN: "program",
    Content.THUMBNAIL: "thumbnail",
    Content.SYSTEM_FILE: "system-file",
    Content.OTHER_PICTURE: "other-picture",
    Content.OTHER_DOCUMENT: "other-document",
    Content.OTHER_ARCHIVE: "other-archive",
}


@dataclass(slots=True)
class _Findings:
    """What was found so far."""

    headers: dict[str, Header] = field(default_factory=dict)  # by SOP Instance UID, in order
    instances: dict[str, ExaminedInstance] = field(default_factory=dict)
    skipped: list[LeftOut] = field(default_factory=list)
    quarantined: list[LeftOut] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    listed: dict[tuple[str, str], None] | None = None  # path and UID, in order
    paths: set[str] = field(default_factory=set)  # of instances, each with all of its ends

    def add(self, name: str, size: int, place: Place, found: Found) -> None:
        code, header, instance = found.code, found.header, None
        if found.listed is not None:
            self.listed = {**(self.listed or {}), **dict.fromkeys(found.listed)}
        if header is not None:
            instance = ExaminedInstance(
                header.uid,
                header.class_uid,
                header.syntax,
                size + len(found.prefix),
                found.sha256,
                place,
                found.prefix.hex(),
            )
        if header is not None and instance is not None and code is None:
            self.paths |= _ends_of(name)
            before = self.instances.setdefault(header.uid, instance)
            if before is instance:
                self.headers[header.uid] = header
            else:
                code = "same-file-twice" if before.sha256 == instance.sha256 else "same-uid-other-bytes"
        if (picture := found.document) is not None:
            self.documents.append(
                Document(name, picture.kind, size, found.sha256, place, picture.width, picture.height)
            )
        if code in SKIPPED:
            self.skipped.append(LeftOut(name, code, size))
        elif code is not None:
            study_uid = "" if header is None else header.study_uid
            patient = None if header is None else _patient(header)
            self.quarantined.append(LeftOut(name, code, size, place, study_uid, instance, patient=patient))

    def examination(self, known: Known) -> Examination:
        by_study: dict[str, list[str]] = {}
        for uid, header in self.headers.items():
            by_study.setdefault(header.study_uid, []).append(uid)
        studies = tuple(
            _study([self.headers[uid] for uid in uids], tuple(self.instances[uid] for uid in uids), known)
            for uids in by_study.values()
        )
        documents = self._documents(disc=self.listed is not None)
        directory = None
        if self.listed is not None:
            missing = [one for one in self.listed if not self._is_here(*one)]
            names = tuple((path or uid).replace("\\", "/") for path, uid in missing[:MISSING_NAMED])
            directory = Directory(len(self.listed), len(self.listed) - len(missing), names)
        return Examination(
            studies=studies,
            patients=len({who(_patient(header)) for header in self.headers.values()}),
            skipped=tuple(self.skipped),
            quarantined=tuple(self.quarantined),
            directory=directory,
            code=None if studies or documents else self._why_nothing(),
            documents=documents,
        )

    def _is_here(self, path: str, uid: str) -> bool:
        """Say whether what a disc lists came: by its number, or by its path if it has none."""
        return uid in self.instances if uid else _plain(path) in self.paths

    def _documents(self, *, disc: bool) -> tuple[Document, ...]:
        """Sort out what belongs to a disc's viewer, is too small to show anything, or comes twice."""
        taken: dict[str, Document] = {}
        for document in self.documents:
            if disc:
                self.skipped.append(LeftOut(document.name, "disc-extra"))
            elif min(document.width or SMALLEST_SIDE, document.height or SMALLEST_SIDE) < SMALLEST_SIDE:
                self.skipped.append(LeftOut(document.name, "thumbnail"))
            elif taken.setdefault(document.sha256, document) is not document:
                self.skipped.append(LeftOut(document.name, "same-file-twice"))
        return tuple(taken.values())

    def _why_nothing(self) -> str:
        """Name the reason if there is but one."""
        codes = {item.code for item in (*self.skipped, *self.quarantined)}
        return codes.pop() if len(codes) == 1 else "nothing-to-send"


def _plain(path: str) -> str:
    """Return a path as it is compared: discs differ in case, separators and version numbers."""
    return path.replace("\\", "/").upper().removesuffix(";1").rstrip(".")


def _ends_of(name: str) -> set[str]:
    parts = _plain(name).split("/")[-_DEEPEST:]
    return {"/".join(parts[begin:]) for begin in range(len(parts))}


def _study(headers: list[Header], instances: tuple[ExaminedInstance, ...], known: Known) -> ExaminedStudy:
    first, had = headers[0], known(headers[0].study_uid, instances)
    by_series: dict[str, list[Header]] = {}
    for header in headers:
        by_series.setdefault(header.series_uid, []).append(header)
    return ExaminedStudy(
        study_uid=first.study_uid,
        digest=digest_of(instances),
        patient=_patient(first),
        study_date=first.study_date,
        description=first.study_description,
        body_parts=tuple(sorted({header.body_part for header in headers if header.body_part})),
        series=tuple(
            ExaminedSeries(
                series_uid=uid,
                modality=those[0].modality,
                number=those[0].series_number,
                description=those[0].series_description,
                images=len(those),
            )
            for uid, those in by_series.items()
        ),
        instances=instances,
        known=had.same,
        changed=had.other,
        repaired=any(header.repaired for header in headers),
        study_time=first.study_time,
        study_id=first.study_id,
        accession=first.accession,
        referring=first.referring,
        others=others_than(_patient(first), map(_patient, headers)),
    )


def _patient(header: Header) -> Patient:
    return Patient(header.patient_name, header.patient_id, header.birth_date, header.sex)
