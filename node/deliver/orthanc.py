"""A PACS that is an Orthanc, spoken to by its own REST API instead of DICOMweb.

Made by `node.deliver.build`. Fulfils `node.deliver.destination.Destination`. One request an instance, with
the original bytes. At the level "checksum" no image goes over the line a second time: Orthanc reads its file
from its disk, compares it with the MD5 that it took at the arrival, and that and the size are ours. MD5 is
enough against accidents; who could forge a file there could forge the answer, too. At "read-back" the file
itself comes back.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from node.deliver.access import CLOSED, Access, http_client
from node.deliver.destination import Auth, Outgoing, Result
from node.deliver.reading import counted, in_order, of_proof, read_and_compare, result
from node.deliver.reasons import failure_outcome
from node.deliver.stow import raise_for_all
from node.errors import DestinationUnreachable, StoreDamaged
from sync.evidence import Evidence, InstanceProof, Outcome

log = logging.getLogger(__name__)

_PIECE = 262_144
_LONGEST_ANSWER = 64 * 1024 * 1024
# What Orthanc says of an instance that it has under another name, or took in.
_STORED = {"Success": Outcome.STORED, "AlreadyStored": Outcome.UNKNOWN, "FilteredOut": Outcome.REJECTED}
_CODES = {"AlreadyStored": "0111", "FilteredOut": "0124"}


class OrthancDestination:
    """One Orthanc.

    Args:
        url: its base URL, such as `https://pacs.example/orthanc`; no DICOMweb root.
        access: what lets us in.
        idle_s: how long a connection may stand still.
        tls: whom to trust and how to show ourselves, or None for the public certificates.
        coerced: tags that it is recorded to change in what it stores.
    """

    def __init__(
        self,
        url: str,
        access: Access | None = None,
        *,
        idle_s: float = 120,
        tls: Any = None,
        coerced: frozenset[int] = frozenset(),
    ) -> None:
        self._base_url = url.rstrip("/")
        self._access = access or Auth()
        self._client = http_client(self._access, idle_s=idle_s, tls=tls)
        self._coerced = coerced
        self._reuses = True

    @property
    def strongest(self) -> Evidence:
        """Its files can be read back."""
        return Evidence.READ_BACK

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._access.close()

    def present(self, study_uid: str) -> frozenset[str]:
        """Return the SOP Instance UIDs that it has of a study."""
        return frozenset(self._listed(study_uid))

    def store(self, instances: Sequence[Outgoing]) -> list[Result]:
        """Send instances of one study, one by one; see `Destination.store`."""
        if not instances:
            return []
        listed = self._listed(instances[0].study_uid)
        results: dict[str, Result] = {}
        for instance in instances:
            if instance.uid in listed:
                proof = self._compare(instance, listed[instance.uid])
                results[instance.uid] = of_proof(instance.uid, proof, enough=Evidence.CHECKSUM)
            else:
                results[instance.uid] = self._send(instance)
        for outcome, count in counted(results):
            log.info("instances sent outcome=%s instances=%d", outcome, count)
        return in_order(instances, results)

    def prove(
        self, study_uid: str, instances: Sequence[Outgoing], demanded: Evidence
    ) -> dict[str, InstanceProof]:
        """Find out what it shows of these instances; see `Destination.prove`."""
        listed = self._listed(study_uid)
        here = [one for one in instances if one.uid in listed]
        proofs = {one.uid: InstanceProof(one.sha256, Evidence.LISTED) for one in here}
        if demanded <= Evidence.LISTED:
            return proofs
        seen = 0
        try:
            for instance in here:
                name = listed[instance.uid]
                ask = self._read if demanded >= Evidence.READ_BACK else self._compare
                proofs[instance.uid] = ask(instance, name) or proofs[instance.uid]
                seen += 1
        except DestinationUnreachable:
            # What was proven before the line broke stays proven.
            if not seen:
                raise
            log.info("line broke while proving proven=%d total=%d", seen, len(here))
        return proofs

    def fetch(self, instance: Outgoing) -> bytes | None:
        """Return the file of an instance as it is given back; for the doctor, which sends small ones."""
        name = self._listed(instance.study_uid).get(instance.uid)
        pieces = None if name is None else self._file(name)
        return None if pieces is None else b"".join(pieces)

    def again(self, instance: Outgoing) -> Result:
        """Send an instance although it is there; for the doctor."""
        return self._send(instance)

    def remove(self, study_uid: str) -> bool:
        """Remove a study; for the doctor, which removes its own."""
        gone = False
        for resource in self._json("POST", "/tools/lookup", content=study_uid.encode("ascii")):
            if isinstance(resource, dict) and resource.get("Type") == "Study":
                gone = self._call("DELETE", f"/studies/{_plain(resource.get('ID'))}")[0] == 200
        return gone

    # -- asking ---------------------------------------------------------------------------------

    def _listed(self, study_uid: str) -> dict[str, str]:
        """Return SOP Instance UID → Orthanc's name of the instance; a UID may stand under two patients."""
        found: dict[str, str] = {}
        for resource in self._json("POST", "/tools/lookup", content=study_uid.encode("ascii")):
            if not isinstance(resource, dict) or resource.get("Type") != "Study":
                continue
            for item in self._json("GET", f"/studies/{_plain(resource.get('ID'))}/instances"):
                tags = item.get("MainDicomTags") if isinstance(item, dict) else None
                uid = tags.get("SOPInstanceUID") if isinstance(tags, dict) else None
                if isinstance(uid, str):
                    found[uid.strip(" \0")] = _plain(item.get("ID"))
        return found

    def _compare(self, instance: Outgoing, name: str) -> InstanceProof | None:
        """Ask for size and MD5, and let it read its file anew; where they differ, look at the file."""
        file = f"/instances/{name}/attachments/dicom"
        size, md5 = self._text(f"{file}/size"), self._text(f"{file}/md5")
        if size == str(instance.size) and md5.lower() == _md5(instance):
            status, _ = self._call("POST", f"{file}/verify-md5", content=b"")
            if status == 200:
                return InstanceProof(instance.sha256, Evidence.CHECKSUM)
        return self._read(instance, name)

    def _read(self, instance: Outgoing, name: str) -> InstanceProof | None:
        return read_and_compare(instance, lambda: self._file(name), self._coerced)

    def _file(self, name: str) -> Iterator[bytes] | None:
        """Give the file of an instance; None if there is none."""
        headers = {"Accept-Encoding": "identity"}
        response = self._open("GET", f"/instances/{name}/file", headers=headers)
        if response.status_code == 200:
            return _body(response)
        response.close()
        raise_for_all(response.status_code, response.headers.get("Retry-After"), missing=True)
        return None

    def _send(self, instance: Outgoing) -> Result:
        headers = {"Content-Type": "application/dicom", "Content-Length": str(instance.size)}
        status, said = self._call("POST", "/instances", content=_File(instance), headers=headers)
        raise_for_all(status, None)
        if status == 200 and isinstance(said, dict):
            word = str(said.get("Status", ""))
            code = _CODES.get(word, "" if word in _STORED else "not-named")
            return result(instance.uid, _STORED.get(word, Outcome.UNKNOWN), code)
        if status >= 500:
            return result(instance.uid, Outcome.RETRY, f"http-{status}")
        code = f"http-{status}"
        return result(instance.uid, Outcome.REJECTED if status >= 400 else failure_outcome("0111"), code)

    # -- HTTP -----------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **more: Any) -> list[Any]:
        status, said = self._call(method, path, **more)
        raise_for_all(status, None)
        if status != 200 or not isinstance(said, list):
            raise DestinationUnreachable(f"no Orthanc answers at this address ({status})")
        return said

    def _text(self, path: str) -> str:
        status, said = self._call("GET", path)
        raise_for_all(status, None, missing=True)
        return str(said).strip() if status == 200 and not isinstance(said, dict | list) else ""

    def _call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        response = self._open(method, path, **more)
        body = bytearray()
        for piece in _body(response):
            body += piece
            if len(body) > _LONGEST_ANSWER:
                response.close()
                raise DestinationUnreachable("an answer without end")
        try:
            return response.status_code, json.loads(body)
        except ValueError:
            return response.status_code, body.decode("utf-8", "replace")

    def _open(self, method: str, path: str, *, again: bool = True, **more: Any) -> httpx.Response:
        """Send a request; once more if a connection that rested was closed as it was used again.

        Orthanc closes one after a second, which on a slow line is often. All that is asked for here may be
        asked for twice: an image that is there already is not stored again.
        """
        headers = {**more.pop("headers", {}), **({} if self._reuses else {"Connection": "close"})}
        dropped = False
        try:
            request = self._client.build_request(method, f"{self._base_url}{path}", headers=headers, **more)
            return self._client.send(request, stream=True)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            kind = type(error).__name__
            dropped = isinstance(error, CLOSED)
        if dropped and again and self._reuses:
            self._reuses = False
            return self._open(method, path, again=False, headers=headers, **more)
        # Outside of the handler: the error of httpx holds the URL, and must not be chained.
        raise _broken(kind)


def _body(response: httpx.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_bytes(_PIECE)
        return
    except (httpx.HTTPError, httpx.StreamError) as error:
        kind = type(error).__name__
    finally:
        response.close()
    raise _broken(kind)


def _broken(kind: str) -> DestinationUnreachable:
    log.info("line broke error=%s", kind)
    return DestinationUnreachable("the line to the destination broke")


class _File:
    """The bytes of an instance, given anew to each request."""

    def __init__(self, instance: Outgoing) -> None:
        self._instance = instance

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        for piece in self._instance.open():
            length += len(piece)
            view = memoryview(piece)
            for at in range(0, len(piece), _PIECE):
                yield bytes(view[at : at + _PIECE])
        if length != self._instance.size:
            raise StoreDamaged(f"an instance has {length} bytes where {self._instance.size} were expected")


def _md5(instance: Outgoing) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in instance.open():
        digest.update(piece)
    return digest.hexdigest()


def _plain(name: object) -> str:
    """Return Orthanc's name of a resource, which comes to stand in URLs: hexadecimal with dashes."""
    if not isinstance(name, str) or not name or set(name) - set("0123456789abcdef-"):
        raise DestinationUnreachable("what answers is no Orthanc")
    return name
