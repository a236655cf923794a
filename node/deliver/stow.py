"""Sending instances by STOW-RS (PS3.18 §10.5): streamed, in batches, one result for each instance.

Called by `node.deliver.dicomweb`. Bodies are the original bytes, opened anew for each request, with an
exact Content-Length (some archives answer 411 without) under HTTP/1.1. A status is only a hint: what an
answer names counts, and what it does not name is unknown. dicomweb-client is not used for this: its retry
sends an empty body the second time and takes the answer for success (seen with 0.61.2).
"""

import contextlib
import email.utils
import logging
import secrets
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import httpx

from node.deliver.access import CLOSED
from node.deliver.answer import StoreAnswer, read_answer
from node.deliver.destination import Outgoing, Result
from node.deliver.reasons import explain, failure_outcome
from node.errors import DestinationBusy, DestinationLocked, DestinationUnreachable, StoreDamaged
from sync.evidence import Outcome

log = logging.getLogger(__name__)

# Fewer writes than a small slice has parts, and small enough that a short write copies little of the rest.
_WRITE_BYTES = 262_144
_LONGEST_ANSWER = 64 * 1024 * 1024
_LATER = frozenset({408, 425, 429, 502, 503, 504, 507})
_AUTH = frozenset({401, 403, 407})
# Nothing that takes images is at this address.
_WRONG_ADDRESS = frozenset({404, 405, 410, 501})


# Something of the batch failed, and the answer does not say which: to be sent alone if it is not there.
ONE_OF_SEVERAL = "one-of-several"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request carries at most."""

    instances: int = 10
    octets: int = 16 * 1024 * 1024


class BatchSize:
    """Learns how much a destination takes at once: halves when it refuses, grows again by an eighth.

    What was refused with 413 is remembered as a ceiling. A single instance may always be tried.
    """

    def __init__(self, most: Limits) -> None:
        self._most = most
        self._instances = most.instances
        self._octets = most.octets
        self._ceiling = 2**63

    def learnt(self) -> dict[str, int]:
        """Return what is worth remembering."""
        kept = {"instances": self._instances, "octets": self._octets}
        return kept if self._ceiling == 2**63 else kept | {"ceiling": self._ceiling}

    def take_up(self, learnt: Mapping[str, int]) -> None:
        """Go on from what was learnt before."""
        self._instances = max(1, min(self._most.instances, learnt.get("instances", self._instances)))
        self._octets = max(1, min(self._most.octets, learnt.get("octets", self._octets)))
        self._ceiling = max(1, learnt.get("ceiling", self._ceiling))

    def cut(self, instances: Sequence[Outgoing]) -> int:
        """Return how many of `instances` go into the next request; at least one."""
        total = 0
        for count, instance in enumerate(instances[: self._instances]):
            total += instance.size
            if count and total > self._octets:
                return count
        return min(len(instances), self._instances)

    def refused(self, batch: Sequence[Outgoing]) -> None:
        """Note that a batch was too large."""
        self._ceiling = min(self._ceiling, _octets(batch))
        self.shrink(batch)

    def shrink(self, batch: Sequence[Outgoing]) -> None:
        """Carry half of this batch next time; on a bad line less is lost when it breaks."""
        self._octets = max(1, min(self._octets, _octets(batch)) // 2)
        self._instances = max(1, min(self._instances, len(batch)) // 2)

    def went_well(self) -> None:
        """Grow a little, below what was ever refused."""
        self._instances = min(self._most.instances, self._instances + max(1, self._instances // 8))
        grown = self._octets + max(1, self._octets // 8)
        self._octets = min(self._most.octets, grown, max(1, self._ceiling - self._ceiling // 8))


def _octets(batch: Sequence[Outgoing]) -> int:
    return sum(instance.size for instance in batch)


class StowSender:
    """Sends to one STOW-RS service.

    Args:
        client: sends the requests and knows what lets us in; made by `node.deliver.access.http_client`.
        base_url: of the DICOMweb service, without a slash at the end.
        limits: how much one request carries at most.
        listed: tells which images of a study are there, after a connection was closed under us.

    Attributes:
        size: how much one request carries.
    """

    def __init__(
        self,
        client: httpx.Client,
        base_url: str,
        limits: Limits | None = None,
        listed: Callable[[str], Container[str]] | None = None,
    ) -> None:
        self._listed = listed or _nothing
        self._reuses = True
        self._answered = False
        self._client = client
        self._base_url = base_url
        self.size = BatchSize(limits or Limits())

    def send(self, instances: Sequence[Outgoing], *, alone: bool = False) -> list[Result]:
        """Send instances of one study and return one result for each, in that order.

        What was too large is halved. Else nothing is sent twice here: an archive may have kept what it did
        not name, and some handle duplicates badly.

        Args:
            instances: of one study.
            alone: one instance a request, so that an answer that names nobody is about this one.

        Raises:
            DestinationUnreachable, DestinationBusy, DestinationLocked: what was under way is unknown.
            StoreDamaged: an instance could not be read, or is not as long as it should be.
        """
        results: list[Result] = []
        at = 0
        while at < len(instances):
            batch = instances[at : at + (1 if alone else self.size.cut(instances[at:]))]
            results += self._send_batch(batch)
            at += len(batch)
        return results

    def _send_batch(self, batch: Sequence[Outgoing]) -> list[Result]:
        started = time.monotonic()
        try:
            status, headers, answer = self._post(batch)
        except _Dropped:
            return self._send_the_rest(batch)
        ms = int((time.monotonic() - started) * 1000)
        log.debug("batch sent instances=%d bytes=%d status=%d ms=%d", len(batch), _octets(batch), status, ms)
        names_somebody = bool(answer.stored or answer.failed)
        if status == 413 and not names_somebody:
            self.size.refused(batch)
            if len(batch) > 1:
                return self.send(batch)
        elif not names_somebody:
            raise_for_all(status, headers.get("Retry-After"))
        else:
            self.size.went_well()
        return [_of_instance(i, status, answer, alone=len(batch) == 1) for i in batch]

    def _send_the_rest(self, batch: Sequence[Outgoing]) -> list[Result]:
        """Go on where a connection was closed as we used it again: ask, then send what is not there.

        Archives close a connection that rests, Orthanc after a second: on a line of 700 ms that is often.
        """
        there = self._listed(batch[0].study_uid)
        results = {i.uid: _result(i, Outcome.UNKNOWN, "not-named") for i in batch if i.uid in there}
        rest = [i for i in batch if i.uid not in there]
        results |= {one.uid: one for one in (self._send_batch(rest) if rest else [])}
        return [results[i.uid] for i in batch]

    def _post(self, batch: Sequence[Outgoing]) -> tuple[int, httpx.Headers, StoreAnswer]:
        boundary = secrets.token_hex(16)
        body = _Body(batch, boundary)
        url = f"{self._base_url}/studies/{quote(batch[0].study_uid, safe='')}"
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(body.size),
            "Accept": "application/dicom+json",
            **({} if self._reuses else {"Connection": "close"}),
        }
        reused, dropped = self._reuses and self._answered, False
        try:
            with self._client.stream("POST", url, headers=headers, content=body) as response:
                answer = read_answer(_whole(response))
                self._answered = True
                return response.status_code, response.headers, answer
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            kind = type(error).__name__
            dropped = isinstance(error, CLOSED)
        # Outside of the handler: the error of httpx holds the URL, and must not be chained.
        log.info("line broke while sending error=%s instances=%d", kind, len(batch))
        self._reuses = False  # from now on each request has a connection of its own
        if dropped and reused and self._listed is not _nothing:
            raise _Dropped
        if len(batch) > 1:
            self.size.shrink(batch)
        raise DestinationUnreachable("the line broke while sending")


class _Dropped(Exception):
    """A connection that was used before was closed before any answer came."""


def _nothing(study_uid: str) -> Container[str]:
    return ()


class _Body:
    """A multipart/related body (RFC 2387) of original bytes, one part an instance."""

    def __init__(self, batch: Sequence[Outgoing], boundary: str) -> None:
        self._batch = batch
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
        self._end = f"--{boundary}--\r\n".encode("ascii")
        self.size = sum(len(self._head) + i.size + 2 for i in batch) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        """Give the body in pieces of 256 KiB: many small slices in one, one large in many."""
        waiting: list[bytes] = []
        length = 0
        for piece in self._pieces():
            if length + len(piece) <= _WRITE_BYTES:
                waiting.append(piece)
                length += len(piece)
                continue
            if waiting:
                yield b"".join(waiting)
            view = memoryview(piece)
            full = len(piece) - len(piece) % _WRITE_BYTES
            for at in range(0, full, _WRITE_BYTES):
                yield bytes(view[at : at + _WRITE_BYTES])
            waiting, length = [bytes(view[full:])], len(piece) - full
        yield b"".join(waiting)

    def _pieces(self) -> Iterator[bytes]:
        for instance in self._batch:
            yield self._head
            length = 0
            for piece in instance.open():
                length += len(piece)
                yield piece
            if length != instance.size:
                raise StoreDamaged(f"an instance has {length} bytes where {instance.size} were expected")
            yield b"\r\n"
        yield self._end


def _whole(response: httpx.Response) -> bytes:
    """Read an answer up to its limit; one beyond it names nobody."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _LONGEST_ANSWER:
            return b""
    return bytes(body)


def raise_for_all(status: int, retry_after: str | None, *, missing: bool = False) -> None:
    """Raise where an answer that names nobody is about the destination, not about these instances.

    Args:
        status: of the answer.
        retry_after: its Retry-After.
        missing: a 404 only says that what was asked for is not there.
    """
    if status in _AUTH:
        raise DestinationLocked(f"the destination answers {status}")
    if status in _LATER:
        raise DestinationBusy(retry_after_s(retry_after))
    if (status in _WRONG_ADDRESS and not (missing and status == 404)) or 300 <= status < 400:
        raise DestinationUnreachable(f"no PACS answers at this address ({status})")


def retry_after_s(value: str | None) -> float | None:
    """Return what a Retry-After header (RFC 9110 §10.2.3) asks for in seconds; None if it says nothing.

    A date is taken relative to this machine's clock, which may be wrong, so at most an hour is believed.
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(min(int(value), 86_400))
    with contextlib.suppress(TypeError, ValueError):
        then = email.utils.parsedate_to_datetime(value).timestamp()
        return min(max(0.0, then - time.time()), 3_600.0)
    return None


def _of_instance(instance: Outgoing, status: int, answer: StoreAnswer, *, alone: bool) -> Result:
    stored = answer.stored.get(instance.uid)
    failure = answer.failed.get(instance.uid)
    if stored is not None and failure is not None:
        return _result(instance, Outcome.UNKNOWN, "contradiction")
    if stored is not None:
        return _result(instance, Outcome.STORED_WITH_WARNING if stored else Outcome.STORED, stored)
    if failure is None and alone and answer.others:
        failure = answer.others[0]
    if failure is not None:
        return _result(instance, failure_outcome(failure), failure)
    if status == 424 or status >= 500:
        return _result(instance, Outcome.RETRY, f"http-{status}")
    if status >= 400 and alone:
        return _result(instance, Outcome.REJECTED, f"http-{status}")
    if status >= 400 or answer.others:
        return _result(instance, Outcome.UNKNOWN, ONE_OF_SEVERAL)
    return _result(instance, Outcome.UNKNOWN, "not-named" if answer.readable else "not-dicomweb")


def _result(instance: Outgoing, outcome: Outcome, code: str) -> Result:
    return Result(instance.uid, outcome, code, explain(code))
