"""An association with a DICOM node (PS3.8): what is proposed, what came of it, and bytes that go over it.

Called by `node.deliver.dimse`; both are the home of pynetdicom. Instances are sent as the bytes that they
are: pynetdicom's own `send_c_store` would parse and encode them anew, or read them from a file in the clear,
and queues all fragments of an instance at once.
"""

import contextlib
import logging
import queue
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from node.deliver.places import Address
from node.errors import DestinationBusy, DestinationLocked, DestinationUnreachable

log = logging.getLogger(__name__)

FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"  # study root (PS3.4 annex C)
COMMIT = "1.2.840.10008.1.20.1"  # storage commitment push model (PS3.4 annex J)
VERIFY = "1.2.840.10008.1.1"  # C-ECHO
Pair = tuple[str, str]  # SOP Class UID, Transfer Syntax UID

_SERVICES = (VERIFY, FIND, GET, COMMIT)
_MOST_PAIRS = 100  # of the 128 contexts that an association may have
_QUEUED_FRAGMENTS = 16
_LONGEST_FRAGMENT = 262_144
# Why an acceptor refused (PS3.8 Table 9-21): the titles are the credentials of this protocol.
_TITLES = {(1, 3), (1, 7)}


@dataclass(slots=True)
class Line:
    """How an association is asked for.

    Args:
        address: of the other side.
        calling: our own title.
        idle_s: how long the line may stand still.
        tls: whom to trust and how to show ourselves, where the address asks for TLS.
        got: hears of each instance that comes by C-GET: its UIDs and transfer syntax, and its data set.
        reported: hears of a report of a storage commitment.
    """

    address: Address
    calling: str
    idle_s: float
    tls: ssl.SSLContext | None
    got: Callable[[str, str, bytes], None]
    reported: Callable[[Dataset], None]
    _roles: bool = field(default=True, init=False)
    _connected: bool = field(default=False, init=False)

    def open(self, pairs: Iterable[Pair]) -> Association:
        """Return an association that proposes each pair in a context of its own.

        Raises:
            DestinationUnreachable, DestinationBusy, DestinationLocked: there is none.
        """
        pairs = list(pairs)[:_MOST_PAIRS]
        made = self._associate(pairs)
        if made.is_aborted and self._connected and self._roles:
            self._roles = False  # some end the association over a role that they do not know
            made = self._associate(pairs)
            self._roles = not made.is_established
        if not made.is_established:
            _raise_for(made)
        return made

    def _associate(self, pairs: list[Pair]) -> Association:
        self._connected = False
        entity = AE(self.calling)
        entity.connection_timeout = min(10, self.idle_s)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.idle_s
        services = [build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in _SERVICES]
        roles = [build_role(uid, scu_role=True, scp_role=True) for uid in sorted({uid for uid, _ in pairs})]
        try:
            made = entity.associate(
                self.address.host,
                self.address.port,
                contexts=[*services, *(build_context(uid, syntax) for uid, syntax in pairs)],
                ae_title=self.address.called,
                max_pdu=131_072,
                ext_neg=list(roles) if self._roles else None,
                tls_args=(self.tls, self.address.host) if self.address.tls and self.tls else None,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._opened),
                    (evt.EVT_C_STORE, self._stored),
                    (evt.EVT_N_EVENT_REPORT, self._event),
                ],
            )
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            kind = type(error).__name__
        else:
            made.network_timeout_response = "A-RELEASE"
            return made
        log.info("no association error=%s", kind)
        raise DestinationUnreachable("no DICOM node answers at this address")

    def _opened(self, event: evt.Event) -> None:
        """Send small messages at once: else each image waits for a delayed ACK, 40 ms."""
        self._connected = True
        line = event.assoc.dul.socket
        if line is not None and line.socket is not None:
            line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.socket.settimeout(self.idle_s)

    def _stored(self, event: evt.Event) -> int:
        request: Any = event.request
        syntax = str(event.context.transfer_syntax)
        self.got(str(request.AffectedSOPInstanceUID), syntax, request.DataSet.getvalue())
        return 0x0000

    def _event(self, event: evt.Event) -> tuple[int, None]:
        self.reported(event.event_information)
        return 0x0000, None


def _raise_for(made: Association) -> None:
    if made.is_rejected:
        answer = made.acceptor.primitive
        result, source, why = answer.result, answer.result_source, answer.diagnostic  # type: ignore[union-attr]
        log.info("association refused reason=%s", f"{result}-{source}-{why}")
        if (source, why) in _TITLES:
            raise DestinationLocked(
                "the destination does not know our title, or has another one than we called"
            )
        if result == 2:
            raise DestinationBusy
        raise DestinationLocked("the destination refuses to talk to us")
    raise DestinationUnreachable("no DICOM node answers at this address")


def offers(line: Association, service: str) -> bool:
    """Say whether the other side accepted a service."""
    return any(context.abstract_syntax == service for context in line.accepted_contexts)


def gives_back(line: Association) -> bool:
    """Say whether images can come back on this association."""
    return offers(line, GET) and any(context.as_scp for context in line.accepted_contexts)


def context_of(line: Association, pair: Pair) -> PresentationContext | None:
    """Return the accepted context of exactly this pair."""
    for context in line.accepted_contexts:
        if (context.abstract_syntax, context.transfer_syntax[0]) == pair and context.as_scu:
            return context
    return None


def knows_class(line: Association, sop_class: str) -> bool:
    """Say whether the other side takes instances of a class in any coding that was proposed."""
    refused_coding = 4  # transfer syntaxes not supported (PS3.8 Table 9-18)
    return offers(line, sop_class) or any(
        context.abstract_syntax == sop_class and context.result == refused_coding
        for context in line.rejected_contexts
    )


def send_bytes(
    line: Association, pair: Pair, uid: str, data_set: Iterable[bytes], *, number: int, idle_s: float
) -> int:
    """Send one instance by C-STORE and return the status of the answer.

    Raises:
        DestinationUnreachable: the line broke or stood still; what became of the instance is unknown.
    """
    context = context_of(line, pair)
    assert context is not None and context.context_id is not None
    request = C_STORE()
    request.MessageID = number
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = pair[0], uid
    request.Priority = 0x0000
    request.DataSet = BytesIO(b"\0\0")  # so that the command says that a data set follows
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    message.data_set = None
    hold(line)
    try:
        longest = line.dimse.maximum_pdu_size or _LONGEST_FRAGMENT
        for command in message.encode_msg(context.context_id, longest):
            line.dul.send_pdu(command)
        for fragment, last in _fragments(data_set, min(longest, _LONGEST_FRAGMENT) - 6):
            _wait_for_room(line, idle_s)
            part = P_DATA()
            part.presentation_data_value_list.append(
                (context.context_id, (b"\2" if last else b"\0") + fragment)
            )
            line.dul.send_pdu(part)
        _wait_for_room(line, idle_s, most=0)
        acknowledge_at_once(line)
        _, answer = line.dimse.get_msg(block=True)
    finally:
        line._reactor_checkpoint.set()
    if not isinstance(answer, C_STORE) or not answer.is_valid_response or answer.Status is None:
        end(line)
        raise DestinationUnreachable("the line broke while sending")
    return int(answer.Status)


def acknowledge_at_once(line: Association) -> None:
    """Acknowledge what comes now without delay; Linux forgets this after a while, others do not know it.

    DCMTK, and Orthanc with it, writes an answer in two parts and waits for the first one to be acknowledged:
    40 ms for each image (measured: 9 MB/s instead of 60).
    """
    option = getattr(socket, "TCP_QUICKACK", None)
    transport = line.dul.socket
    if option is not None and transport is not None and transport.socket is not None:
        with contextlib.suppress(OSError):
            transport.socket.setsockopt(socket.IPPROTO_TCP, option, 1)


def hold(line: Association) -> None:
    """Keep pynetdicom's own thread from taking the answer to what is sent next.

    Its `send_…` do so, too, but go on when the thread says that it is about to wait, and on a busy machine it
    may still take one message (seen with 3.0.4). Here it really waits. Whoever sends lets it go on.

    Raises:
        DestinationUnreachable: the association has ended.
    """
    checkpoint: Any = line._reactor_checkpoint
    checkpoint.clear()
    while not checkpoint._cond._waiters:
        if not line.is_established or not line.is_alive():
            checkpoint.set()
            raise DestinationUnreachable("the association has ended")
        time.sleep(0.0002)


def _wait_for_room(line: Association, idle_s: float, *, most: int = _QUEUED_FRAGMENTS) -> None:
    """Wait until few fragments are on their way, so that memory stays flat and a dead line is noticed."""
    waiting: queue.Queue[Any] = line.dul.to_provider_queue
    before, since = waiting.qsize(), time.monotonic()
    while (now := waiting.qsize()) > most:
        if now != before:
            before, since = now, time.monotonic()
        if time.monotonic() - since > idle_s or not line.is_established or not line.dul.is_alive():
            end(line)
            raise DestinationUnreachable("the line broke while sending")
        time.sleep(0.0005)


def _fragments(pieces: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Cut pieces into fragments of a size; the last one is marked.

    All are of even length (PS3.8 §9.3.5.1, annex E): a deflated data set may need a byte more, which says
    nothing (PS3.5 §A.5).
    """
    waiting = bytearray()
    size -= size % 2
    for piece in pieces:
        waiting += piece
        at = 0
        while len(waiting) - at > size:
            yield bytes(waiting[at : at + size]), False
            at += size
        del waiting[:at]
    yield bytes(waiting) + b"\0" * (len(waiting) % 2), True


def end(line: Association) -> None:
    """End an association that is of no more use."""
    if line.is_established:
        line.abort()


def release(line: Association | None) -> None:
    """End an association in good order."""
    if line is not None and line.is_established:
        line.release()
