"""A PACS that speaks DIMSE: C-STORE to send, and whatever it offers to prove.

Made by `node.deliver.build`. Fulfils `node.deliver.destination.Destination`. One association serves many
instances. What can be shown depends on what the other side accepts when the association is made:

nothing but C-STORE    "answered": it said that it stored the image, and can be asked nothing more
C-FIND                 "listed"
C-GET                  "read-back": the data set came back on the same association, and is the same
N-ACTION               "committed", if its report comes on the same association; a report on a new one would
                       have to find a way in to us, and is not waited for
"""

import logging
import queue
import ssl
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.association import Association

from node.deliver.association import (
    COMMIT,
    FIND,
    GET,
    Line,
    Pair,
    context_of,
    end,
    gives_back,
    hold,
    knows_class,
    offers,
    release,
    send_bytes,
)
from node.deliver.destination import Outgoing, Result
from node.deliver.part10 import HEAD_BYTES, FileMeta, file_meta
from node.deliver.places import Address
from node.deliver.reading import counted, in_order, of_proof, read_and_compare, result
from node.deliver.reasons import failure_outcome
from node.errors import DestinationUnreachable, StoreDamaged
from sync.evidence import Evidence, InstanceProof, Outcome

log = logging.getLogger(__name__)

_ASKED_AT_ONCE = 50
_COMMIT_S = 60.0
_REMEMBERED = 100_000
_PENDING = frozenset({0xFF00, 0xFF01})


class DimseDestination:
    """One DICOM node.

    Args:
        url: `dicom://CALLED@host:port`, or `dicom+tls://…`.
        calling: our own title.
        idle_s: how long the line may stand still.
        commit_s: how long a report of a storage commitment is waited for.
        tls: whom to trust and how to show ourselves.
        coerced: tags that it is recorded to change in what it stores.
    """

    def __init__(
        self,
        url: str,
        *,
        calling: str = "CLINICMESH",
        idle_s: float = 120,
        commit_s: float = _COMMIT_S,
        tls: ssl.SSLContext | None = None,
        coerced: frozenset[int] = frozenset(),
    ) -> None:
        self._idle_s = idle_s
        self._commit_s = commit_s
        self._coerced = coerced
        self._came: dict[str, bytes] = {}
        self._reports: queue.Queue[Dataset] = queue.Queue()
        self._way = Line(Address.of(url), calling, idle_s, tls, self._got, self._reports.put)
        self._line: Association | None = None
        self._pairs: dict[Pair, None] = {}
        self._answered: dict[str, bytes] = {}
        self._number = 0
        self._strongest = Evidence.COMMITTED
        self._reports_come = True  # until one did not

    @property
    def strongest(self) -> Evidence:
        """What the last association offered; before the first one, what any might."""
        return self._strongest

    def close(self) -> None:
        """End the association."""
        release(self._line)
        self._line = None

    def present(self, study_uid: str) -> frozenset[str]:
        """Return the SOP Instance UIDs that C-FIND lists for a study; nothing where it is not offered."""
        line = self._associated([])
        return frozenset(self._listed(line, study_uid)) if offers(line, FIND) else frozenset()

    def store(self, instances: Sequence[Outgoing]) -> list[Result]:
        """Send instances of one study, one after another; see `Destination.store`."""
        if not instances:
            return []
        line = self._associated(instances)
        study_uid = instances[0].study_uid
        listed = self._listed(line, study_uid) if offers(line, FIND) else {}
        old = [one for one in instances if one.uid in listed]
        proofs = self._read(line, study_uid, old, listed) if old and gives_back(line) else {}
        results = {one.uid: of_proof(one.uid, proofs.get(one.uid)) for one in old}
        for instance in instances:
            if instance.uid in results:
                continue
            if self._answered.get(instance.uid) == instance.sha256:
                results[instance.uid] = result(instance.uid, Outcome.ALREADY_THERE_SAME)
            else:
                results[instance.uid] = self._send(line, instance)
        for outcome, count in counted(results):
            log.info("instances sent outcome=%s instances=%d", outcome, count)
        return in_order(instances, results)

    def prove(
        self, study_uid: str, instances: Sequence[Outgoing], demanded: Evidence
    ) -> dict[str, InstanceProof]:
        """Find out what it shows of these instances; see `Destination.prove`."""
        said = [one for one in instances if self._answered.get(one.uid) == one.sha256]
        proofs = {one.uid: InstanceProof(one.sha256, Evidence.ANSWERED) for one in said}
        if demanded is Evidence.ANSWERED and len(proofs) == len(instances):
            return proofs
        line = self._associated(instances)
        if not offers(line, FIND):
            return self._commit(line, said, proofs) if demanded is Evidence.COMMITTED else proofs
        listed = self._listed(line, study_uid)
        here = [one for one in instances if one.uid in listed]
        # What it answered with success and does not list, it does not have.
        proofs = {one.uid: InstanceProof(one.sha256, Evidence.LISTED) for one in here}
        if demanded > Evidence.LISTED and gives_back(line):
            proofs |= self._read(line, study_uid, here, listed)
        if demanded is Evidence.COMMITTED:
            proofs = self._commit(line, [one for one in here if not proofs[one.uid].conflict], proofs)
        return proofs

    def fetch(self, instance: Outgoing) -> bytes | None:
        """Return the file of an instance as it is given back; for the doctor, which sends small ones."""
        line = self._associated([instance])
        if not gives_back(line) or not offers(line, FIND):
            return None
        series = self._listed(line, instance.study_uid).get(instance.uid)
        if series is None:
            return None
        self._fetch(line, instance.study_uid, series, [instance])
        return self._came.pop(instance.uid, None)

    def again(self, instance: Outgoing) -> Result:
        """Send an instance although it is there; for the doctor."""
        return self._send(self._associated([instance]), instance)

    def remove(self, study_uid: str) -> bool:
        """DIMSE has no way to remove anything."""
        return False

    # -- sending --------------------------------------------------------------------------------

    def _associated(self, instances: Sequence[Outgoing]) -> Association:
        """Return an association that was asked for all these kinds of instances."""
        wanted = dict.fromkeys((one.sop_class, one.syntax) for one in instances)
        if self._line is not None and self._line.is_established and wanted.keys() <= self._pairs.keys():
            return self._line
        release(self._line)
        self._pairs = wanted | self._pairs
        self._line = line = self._way.open(self._pairs)
        if offers(line, COMMIT) and self._reports_come:
            self._strongest = Evidence.COMMITTED
        elif gives_back(line) and offers(line, FIND):
            self._strongest = Evidence.READ_BACK
        else:
            self._strongest = Evidence.LISTED if offers(line, FIND) else Evidence.ANSWERED
        return line

    def _send(self, line: Association, instance: Outgoing) -> Result:
        pair = (instance.sop_class, instance.syntax)
        if context_of(line, pair) is None:
            known = knows_class(line, instance.sop_class)
            return result(instance.uid, Outcome.REJECTED, "C122" if known else "0122")
        meta = _meta(instance)
        if meta is None:
            return result(instance.uid, Outcome.REJECTED, "no-file-header")
        self._number = self._number % 65_535 + 1
        try:
            content = _data_set(instance, meta.data_set_at)
            status = send_bytes(line, pair, instance.uid, content, number=self._number, idle_s=self._idle_s)
        except StoreDamaged:
            end(line)  # half of an instance is on its way
            raise
        code = f"{status:04X}"
        if status == 0x0000 or status in (0x0001, 0x0107, 0x0116) or code.startswith("B"):
            if len(self._answered) >= _REMEMBERED:
                self._answered.clear()
            self._answered[instance.uid] = instance.sha256
            if status == 0x0000:
                return result(instance.uid, Outcome.STORED)
            return result(instance.uid, Outcome.STORED_WITH_WARNING, code)
        return result(instance.uid, failure_outcome(code), code)

    # -- asking ---------------------------------------------------------------------------------

    def _listed(self, line: Association, study_uid: str) -> dict[str, str]:
        """Return SOP Instance UID → Series Instance UID, asked level by level (PS3.4 §C.4.1)."""
        found: dict[str, str] = {}
        for series in self._find(line, "SERIES", {"StudyInstanceUID": study_uid, "SeriesInstanceUID": ""}):
            series_uid = str(series.get("SeriesInstanceUID", ""))
            keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": ""}
            for image in self._find(line, "IMAGE", keys) if series_uid else ():
                if uid := str(image.get("SOPInstanceUID", "")):
                    found[uid] = series_uid
        return found

    def _find(self, line: Association, level: str, keys: Mapping[str, Any]) -> list[Dataset]:
        found: list[Dataset] = []
        hold(line)
        for status, identifier in self._asked(lambda: line.send_c_find(_query(level, keys), FIND)):
            if status in _PENDING and identifier is not None:
                found.append(identifier)
            elif status not in _PENDING and status != 0x0000:
                raise DestinationUnreachable(f"the destination does not answer a query ({status:04X})")
        return found

    def _asked(self, ask: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Yield statuses and what came with them; the end of the line is an error."""
        try:
            for status, identifier in ask():
                if "Status" not in status:
                    raise DestinationUnreachable("the line broke while asking")
                yield int(status.Status), identifier
            return
        except (RuntimeError, ValueError, AttributeError) as error:
            kind = type(error).__name__
        log.info("line broke while asking error=%s", kind)
        raise DestinationUnreachable("the line broke while asking")

    def _read(
        self, line: Association, study_uid: str, instances: Sequence[Outgoing], listed: Mapping[str, str]
    ) -> dict[str, InstanceProof]:
        """Let images come back by C-GET, some at a time, and compare their data sets."""
        proofs: dict[str, InstanceProof] = {}
        wanted: dict[str, list[Outgoing]] = defaultdict(list)
        for instance in instances:
            wanted[listed[instance.uid]].append(instance)
        try:
            for series, members in wanted.items():
                for batch in _batches(members):
                    self._fetch(line, study_uid, series, batch)
                    for instance in batch:
                        file = self._came.pop(instance.uid, None)
                        proof = None if file is None else _compared(instance, file, self._coerced)
                        proofs |= {} if proof is None else {instance.uid: proof}
        except DestinationUnreachable:
            # What was proven before the line broke stays proven.
            if not proofs:
                raise
            log.info("line broke while reading back proven=%d total=%d", len(proofs), len(instances))
        finally:
            self._came.clear()
        return proofs

    def _fetch(self, line: Association, study_uid: str, series: str, batch: Sequence[Outgoing]) -> None:
        self._came.clear()
        uids = [one.uid for one in batch]
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series, "SOPInstanceUID": uids}
        hold(line)
        for _ in self._asked(lambda: line.send_c_get(_query("IMAGE", keys), GET)):
            pass

    def _got(self, uid: str, syntax: str, data_set: bytes) -> None:
        """Take what comes by C-GET (in pynetdicom's thread, while we wait)."""
        self._came[uid] = _part10(syntax, data_set)

    def _commit(
        self, line: Association, instances: Sequence[Outgoing], proofs: Mapping[str, InstanceProof]
    ) -> dict[str, InstanceProof]:
        """Ask it to take responsibility (PS3.4 annex J), and wait for the report on this association."""
        proven = dict(proofs)
        if not instances or not offers(line, COMMIT):
            return proven
        while not self._reports.empty():
            self._reports.get_nowait()
        request = Dataset()
        request.TransactionUID = generate_uid(prefix=None)
        request.ReferencedSOPSequence = [_reference(one) for one in instances]
        hold(line)
        try:
            status, _ = line.send_n_action(request, 1, COMMIT, "1.2.840.10008.1.20.1.1")
            if status.get("Status") != 0x0000:
                return proven
            while True:
                report = self._reports.get(timeout=self._commit_s)
                if report.get("TransactionUID") == request.TransactionUID:
                    break
        except (queue.Empty, RuntimeError, ValueError, AttributeError):
            log.info("no report of a commitment instances=%d", len(instances))
            self._reports_come = False
            self._strongest = Evidence.READ_BACK if gives_back(line) else Evidence.LISTED
            return proven
        self._reports_come = True
        by_uid = {one.uid: one for one in instances}
        for item in report.get("ReferencedSOPSequence", []):
            if (one := by_uid.get(str(item.get("ReferencedSOPInstanceUID", "")))) is not None:
                proven[one.uid] = InstanceProof(one.sha256, Evidence.COMMITTED)
        return proven


def _meta(instance: Outgoing) -> FileMeta | None:
    """Read where the data set begins; None if there is no file header."""
    head = bytearray()
    for piece in instance.open():
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    return file_meta(bytes(head))


def _data_set(instance: Outgoing, begins: int) -> Iterator[bytes]:
    """Give what follows group 0002, and check that the whole file was read."""
    length = 0
    for piece in instance.open():
        skipped = min(max(begins - length, 0), len(piece))
        length += len(piece)
        yield piece[skipped:] if skipped else piece
    if length != instance.size:
        raise StoreDamaged(f"an instance has {length} bytes where {instance.size} were expected")


def _compared(instance: Outgoing, file: bytes, coerced: frozenset[int]) -> InstanceProof | None:
    return read_and_compare(instance, lambda: iter((file,)), coerced)


def _part10(syntax: str, data_set: bytes) -> bytes:
    """Return a data set as a file: preamble and the transfer syntax before it."""
    value = syntax.encode("ascii")
    value += b"\0" * (len(value) % 2)
    element = b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value
    group = b"\x02\x00\x00\x00UL\x04\x00" + len(element).to_bytes(4, "little")
    return b"".join((bytes(128), b"DICM", group, element, data_set))


def _query(level: str, keys: Mapping[str, Any]) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _reference(instance: Outgoing) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.sop_class, instance.uid
    return item


def _batches(instances: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """Cut into what comes back at once: at most 50 instances or about 64 MiB."""
    batch: list[Outgoing] = []
    for instance in instances:
        if batch and (
            len(batch) >= _ASKED_AT_ONCE or sum(one.size for one in batch) + instance.size > 64 * 1024 * 1024
        ):
            yield batch
            batch = []
        batch.append(instance)
    if batch:
        yield batch
