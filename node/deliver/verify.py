"""Asking a PACS what it has: QIDO-RS, metadata, and reading back by WADO-RS (PS3.18 §10.4, §10.6).

Called by `node.deliver.dicomweb`. Home of dicomweb-client, which does QIDO-RS and metadata; whole
instances are streamed by httpx, hashed as they come, and never held (except the few of `compare`).
UIDs stand in the URLs to the PACS, as DICOMweb requires; this module logs none, and both libraries
are hushed by `node.logs`.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import requests
from dicomweb_client.web import DICOMwebClient

from node.deliver.access import Access
from node.deliver.commitment import Commitments
from node.deliver.compare import Digest, same_data_set, same_metadata
from node.deliver.destination import Outgoing
from node.deliver.multipart import Event, MultipartParser, PartBegins, PartData, PartEnds, boundary_of
from node.deliver.stow import retry_after_s
from node.errors import BadSettings, DestinationBusy, DestinationLocked, DestinationUnreachable, Refused
from sync.evidence import Evidence, InstanceProof

log = logging.getLogger(__name__)

_PAGE = 500
_LARGEST_PARSED = 64 * 1024 * 1024
_REQUEST_BYTES = 128 * 1024
_METADATA_BYTES = 4 * 1024 * 1024  # the header of an image; pixels come behind it
_LATER = frozenset({408, 425, 429, 502, 503, 504})
_UID = re.compile(r"[0-9A-Za-z.]{1,64}")


class Verifier:
    """Asks one DICOMweb service.

    Args:
        client: reads whole instances; made by `node.deliver.access.http_client`.
        base_url: of the DICOMweb service, without a slash at the end.
        access: what lets us in; `client` knows it by itself.
        session: what dicomweb-client asks with; made by `node.deliver.access.session`, closed here.
        idle_s: how long an answer may stand still.
        coerced: tags that this destination is recorded to change.

    Attributes:
        commitments: asks for storage commitment.
    """

    def __init__(
        self,
        client: httpx.Client,
        base_url: str,
        access: Access,
        *,
        session: requests.Session,
        idle_s: float = 120,
        coerced: frozenset[int] = frozenset(),
    ) -> None:
        self._client = client
        self._base_url = base_url
        self._access = access
        self.commitments = Commitments(client, base_url)
        self._coerced = coerced
        # Known once an archive was seen to rewrite group 0002: then content digests are taken at once.
        self._rewrites_meta = False
        try:
            self._dicomweb = DICOMwebClient(
                base_url, session=session, permissive_uid=True, timeout=(10.0, idle_s)
            )
            # It sends the Host header without the port (0.61.2), which servers with several names refuse.
            self._dicomweb.host = httpx.URL(base_url).netloc.decode("ascii")
        except (ValueError, httpx.InvalidURL):
            raise BadSettings("the destination's URL is not one of a DICOMweb service") from None
        # Its own retry would hide a busy server for half a minute; the schedule decides.
        self._dicomweb.set_http_retry_params(retry=False)
        self._session = session

    def close(self) -> None:
        """Close the connections of dicomweb-client."""
        self._session.close()

    def listed(self, study_uid: str) -> dict[str, str]:
        """Return what QIDO-RS lists of a study: SOP Instance UID → Series Instance UID.

        Pages are asked for until nothing new comes: servers cap them as they like, some ignore the offset.
        """
        found: dict[str, str] = {}
        seen = 0
        while True:
            page = self._json(
                partial(self._dicomweb.search_for_instances, study_uid, limit=_PAGE, offset=seen)
            )
            before = len(found)
            for item in page:
                uid, series = _text(item, "00080018"), _text(item, "0020000E")
                # They come to stand in URLs.
                if _UID.fullmatch(uid) and _UID.fullmatch(series):
                    found[uid] = series
            seen += len(page)
            if len(found) == before:
                return found

    def prove(
        self, study_uid: str, instances: Sequence[Outgoing], demanded: Evidence
    ) -> dict[str, InstanceProof]:
        """Find out what the destination shows of these instances (see `Destination.prove`)."""
        listed = self.listed(study_uid)
        here = [i for i in instances if i.uid in listed]
        proofs = {i.uid: InstanceProof(i.sha256, Evidence.LISTED) for i in here}
        if not here or demanded <= Evidence.LISTED:
            return proofs
        if demanded is Evidence.METADATA:
            return proofs | self._prove_metadata(study_uid, here, listed)
        proofs |= self._prove_by_reading(study_uid, here, listed)
        if demanded is Evidence.COMMITTED:
            read = [i for i in here if proofs[i.uid].level is Evidence.READ_BACK]
            committed = self.commitments.committed(read)
            proofs |= {i.uid: InstanceProof(i.sha256, demanded) for i in read if i.uid in committed}
        return proofs

    def fetch(self, instance: Outgoing) -> bytes | None:
        """Return the file of an instance as it is given back, whole and in memory; None if it is not."""
        series = self.listed(instance.study_uid).get(instance.uid)
        if series is None:
            return None
        study = f"{self._base_url}/studies/{quote(instance.study_uid, safe='')}"
        return self._read_whole(f"{study}/series/{series}/instances/{instance.uid}", "*")

    def _prove_metadata(
        self, study_uid: str, instances: Sequence[Outgoing], listed: Mapping[str, str]
    ) -> dict[str, InstanceProof]:
        shown: dict[str, Any] = {}
        for series in {listed[i.uid] for i in instances}:
            for item in self._json(partial(self._dicomweb.retrieve_series_metadata, study_uid, series)):
                shown[_text(item, "00080018")] = item
        proofs = {}
        for instance in instances:
            if instance.uid not in shown:
                continue
            same = same_metadata(_first_bytes(instance, _METADATA_BYTES), shown[instance.uid])
            if same is not None:
                level = Evidence.METADATA if same else Evidence.LISTED
                proofs[instance.uid] = InstanceProof(instance.sha256, level, conflict=not same)
        return proofs

    def _prove_by_reading(
        self, study_uid: str, instances: Sequence[Outgoing], listed: Mapping[str, str]
    ) -> dict[str, InstanceProof]:
        """Read series whole where most of one is wanted, then look closer at what did not match."""
        wanted: dict[str, list[Outgoing]] = defaultdict(list)
        for instance in instances:
            wanted[listed[instance.uid]].append(instance)
        sizes: dict[str, int] = defaultdict(int)
        for series in listed.values():
            sizes[series] += 1
        proofs: dict[str, InstanceProof] = {}
        try:
            for series, members in wanted.items():
                url = f"{self._base_url}/studies/{quote(study_uid, safe='')}/series/{series}"
                if len(members) > 1 and sizes[series] <= len(members) * _worth(members):
                    proofs |= self._read_series(url, members)
                for instance in members:
                    if instance.uid not in proofs:
                        proof = self._read_instance(f"{url}/instances/{instance.uid}", instance)
                        proofs |= {} if proof is None else {instance.uid: proof}
        except (DestinationUnreachable, DestinationBusy):
            # What was proven before the line broke stays proven; else a study that takes longer
            # than the line holds could never be finished.
            if not proofs:
                raise
            log.info("line broke while reading back proven=%d total=%d", len(proofs), len(instances))
        return proofs

    def _read_series(self, url: str, members: Sequence[Outgoing]) -> dict[str, InstanceProof]:
        """Read a series and match by digests alone; what does not match is left for a closer look."""
        proofs: dict[str, InstanceProof] = {}
        by_whole = {i.sha256: i for i in members}
        by_content: dict[tuple[str, bytes], Outgoing] = {}
        if self._rewrites_meta:
            for instance in members:
                content = _content_digest(instance)
                if content is not None:
                    by_content[content] = instance
        try:
            for digest in self._digests(url, content=self._rewrites_meta):
                found = by_whole.get(digest.whole()) or by_content.get(digest.content() or ("", b""))
                if found is not None:
                    proofs[found.uid] = InstanceProof(found.sha256, Evidence.READ_BACK)
        except (_NotGiven, DestinationUnreachable):
            log.info("series not read whole proven=%d total=%d", len(proofs), len(members))
        return proofs

    def _digests(self, url: str, *, content: bool) -> Iterator[Digest]:
        digest = Digest(content=content)
        for event in self._parts(url, "*"):
            if isinstance(event, PartData):
                digest.update(event.data)
            elif isinstance(event, PartEnds):
                yield digest
                digest = Digest(content=content)

    def _read_instance(self, url: str, instance: Outgoing) -> InstanceProof | None:
        """Read one instance and compare: all bytes, then what follows group 0002, then parsed.

        Above 64 MiB files that differ behind group 0002 are not parsed: they count as different.
        """
        proven = InstanceProof(instance.sha256, Evidence.READ_BACK)
        try:
            (digest,) = self._digests(url, content=True)
        except (_NotGiven, ValueError):
            return None
        if digest.whole() == instance.sha256:
            return proven
        content = digest.content()
        if content is not None and content == _content_digest(instance):
            self._rewrites_meta = True
            return proven
        if max(instance.size, digest.size) <= _LARGEST_PARSED:
            ours = b"".join(instance.open())
            for syntax in ("*", instance.syntax):
                theirs = self._read_whole(url, syntax)
                if theirs is not None and same_data_set(ours, theirs, self._coerced):
                    return proven
        return InstanceProof(instance.sha256, Evidence.LISTED, conflict=True)

    def _read_whole(self, url: str, syntax: str) -> bytes | None:
        parts = bytearray()
        try:
            for event in self._parts(url, syntax):
                if isinstance(event, PartData):
                    parts += event.data
                    if len(parts) > 2 * _LARGEST_PARSED:
                        return None
        except _NotGiven:
            return None
        return bytes(parts)

    def _parts(self, url: str, syntax: str) -> Iterator[Event]:
        """Give the parts of a WADO-RS answer as they arrive.

        Raises:
            _NotGiven: the PACS does not give this, or what it gives are no instances.
            DestinationUnreachable: the line broke, or the answer ends before its last part does.
        """
        headers = {
            "Accept": f'multipart/related; type="application/dicom"; transfer-syntax={syntax}',
            # Orthanc compresses with gzip for whoever takes it: slower than most lines.
            "Accept-Encoding": "identity",
        }
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                _check(response.status_code, response.headers.get("Retry-After"))
                yield from _events(response)
                return
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            kind = type(error).__name__
        # Outside of the handler: the error of httpx holds the URL, and must not be chained.
        log.info("line broke while reading back error=%s", kind)
        raise DestinationUnreachable("the line broke while reading back")

    def _json(self, ask: Callable[[], Any]) -> list[Any]:
        """Ask by dicomweb-client; a study that the PACS does not know is an empty list."""
        fields = self._access.as_headers()
        self._session.headers.update(fields)
        status, retry_after, found = self._ask(ask)
        if status == 401 and self._access.renew(fields):
            self._session.headers.update(self._access.as_headers())
            status, retry_after, found = self._ask(ask)
        if found is not None:
            return found
        try:
            if status:
                _check(status, retry_after)
        except _NotGiven:
            if status == 404:
                return []
        raise DestinationUnreachable(f"the destination does not answer a query ({status})")

    def _ask(self, ask: Callable[[], Any]) -> tuple[int, str | None, list[Any] | None]:
        """Return what dicomweb-client brings, or the status and when to come back; 0 without an answer."""
        try:
            return 200, None, [item for item in ask() if isinstance(item, dict)]
        except requests.HTTPError as error:
            if error.response is not None:
                return error.response.status_code, error.response.headers.get("Retry-After"), None
        except (requests.RequestException, ValueError, TypeError):
            pass
        # The errors hold the URL, and must not be chained to what is raised.
        return 0, None, None


class _NotGiven(Exception):
    """The PACS does not give what was asked for."""


def _check(status: int, retry_after: str | None) -> None:
    if status in (401, 403, 407):
        raise DestinationLocked(f"the destination answers {status}")
    if status in _LATER:
        raise DestinationBusy(retry_after_s(retry_after))
    if status != 200:
        raise _NotGiven


def _events(response: httpx.Response) -> Iterator[Event]:
    """Give the parts of an answer; a body that is one instance is one part."""
    content_type = response.headers.get("Content-Type", "")
    boundary = boundary_of(content_type)
    if boundary is None:
        if not content_type.lower().startswith("application/dicom") or "json" in content_type.lower():
            raise _NotGiven
        yield PartBegins({})
        for piece in response.iter_bytes():
            yield PartData(piece)
        yield PartEnds()
        return
    parser = MultipartParser(boundary)
    try:
        for piece in response.iter_bytes():
            yield from parser.feed(piece)
    except Refused:
        raise _NotGiven from None
    if not parser.complete:
        raise DestinationUnreachable("an answer ends before its last part does")


def _content_digest(instance: Outgoing) -> tuple[str, bytes] | None:
    digest = Digest(content=True)
    for piece in instance.open():
        digest.update(piece)
    return digest.content()


def _first_bytes(instance: Outgoing, most: int) -> bytes:
    head = bytearray()
    for piece in instance.open():
        head += piece
        if len(head) >= most:
            break
    return bytes(head[:most])


def _text(item: Mapping[str, Any], tag: str) -> str:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values and values[0] is not None else ""


def _worth(members: Sequence[Outgoing]) -> float:
    """Return how many times as many instances a series may have as are wanted, and still be read whole.

    A request by itself costs about as much as reading 128 kB: a few round trips far away, some milliseconds
    of the archive's near by. With chunks of 100 and single requests the proof of 5,000 small slices took
    nine minutes beside Orthanc, now two and a half.
    """
    return 1 + _REQUEST_BYTES * len(members) / max(1, sum(one.size for one in members))
