"""Reconciliation: two nodes find out which facts one has and the other has not.

This is the Negentropy protocol, version 1, a range-based set reconciliation
(https://github.com/hoytech/negentropy, docs/negentropy-protocol-v1.md; the idea is told at
https://logperiodic.com/rbsr.html). Our messages are the same, byte for byte, as those of the
reference implementations (one case apart, told at `_NOTHING`), so any of them can check ours.
The mesh client and the mesh service call this module.

In short. Both sides sort their items by (timestamp, id). The initiator cuts its set into 16 ranges
of equal count and sends a fingerprint of each; a small range (fewer than 32 items) goes as a list of ids.
The other side compares: an equal fingerprint settles a range, an unequal one is cut again and
sent back, a list is answered by the own list. The initiator learns what it has and the peer needs (`have`)
and what the peer has and it needs (`need`); the responder learns nothing and keeps no state.
A fingerprint is a sum, so prefix sums give that of any range without touching its items.

Layout of a message (spec, "Message" to "Bound"): the version byte 0x61, then ranges, each

    upper bound | mode | payload         the lower bound is the upper one of the range before
    bound   = varint(0 for infinity, else 1 + difference to the timestamp before) | varint(n) | n id bytes
    mode    = 0 skip (no payload) | 1 fingerprint (16 bytes) | 2 ids (varint(count), 32 bytes each)

What a range that no message names means is "skip to infinity". With a frame limit a message ends early
with one fingerprint of all that is left, and the rest is settled by later rounds.

A lying peer can keep a conversation going for ever, each message well-formed; the caller bounds
the number of rounds.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate, islice, pairwise
from typing import NamedTuple

from sync.errors import BadReconcileMessage, ReconcileMisuse

Item = tuple[int, bytes]
"""A timestamp below 2**64 - 1 and an id of 32 bytes."""

VERSION = 0x61
ID_BYTES = 32
FINGERPRINT_BYTES = 16
BUCKETS = 16
MIN_FRAME_LIMIT = 4096

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""A list of a million ids: more than one message of an honest peer ever holds here."""

# A message that would come closer to the frame limit than this ends with a fingerprint of the rest.
# The number is the reference implementations': room for one more bound, id and fingerprint.
_FRAME_RESERVE = 200

_SKIP, _FINGERPRINT, _IDS = 0, 1, 2
_TIMESTAMP_BYTES = 8
_KEY_BYTES = _TIMESTAMP_BYTES + ID_BYTES
_MAX_VARINT_BYTES = 10
_MAX_UINT64 = 2**64 - 1
_SUM_MASK = 2**256 - 1

# Items and bounds are kept as one byte string each, the timestamp big-endian before the id (or a part
# of it): the order of byte strings is then the order of the spec, and comparing needs no Python code.
_INFINITY = b"\xff" * _TIMESTAMP_BYTES

# Every 16th prefix sum is kept: 100,000 items cost 0.4 MB of sums, and a sum in between at most 15 additions.
_STRIDE = 16


class Snapshot:
    """An immutable sorted set of items that knows the fingerprint of each of its ranges.

    Raises:
        ReconcileMisuse: an item twice, an id that is not 32 bytes, a timestamp out of range.
    """

    __slots__ = ("_keys", "_sums")

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._keys: list[bytes] = _sorted_keys(items)
        self._sums: list[int] = [0]
        _refuse_repeats(self._keys)
        self._sum_up()

    def __len__(self) -> int:
        """Count the items."""
        return len(self._keys)

    def with_added(self, items: Iterable[Item]) -> "Snapshot":
        """Make the snapshot of this set and `items`; this one stays as it is.

        What sorts before the oldest added item is taken over, so adding new facts at the end is cheap.

        Raises:
            ReconcileMisuse: as for a new snapshot, or an item is in this set already.
        """
        added = _sorted_keys(items)
        if not added:
            return self
        place = bisect_left(self._keys, added[0])
        rest = self._keys[place:] + added
        rest.sort()
        _refuse_repeats(rest)
        grown = Snapshot.__new__(Snapshot)
        grown._keys = self._keys[:place] + rest
        grown._sums = self._sums[: place // _STRIDE + 1]
        grown._sum_up()
        return grown

    def root_fingerprint(self) -> bytes:
        """Give the 16 bytes that stand for the whole set: equal sets, equal bytes."""
        return self.fingerprint(0, len(self._keys))

    def fingerprint(self, start: int, end: int) -> bytes:
        """Give the 16 bytes that stand for the items at start to end - 1 (spec, "Fingerprint Algorithm")."""
        total = (self._sum_before(end) - self._sum_before(start)) & _SUM_MASK
        counted = total.to_bytes(ID_BYTES, "little") + _varint(end - start)
        return hashlib.sha256(counted).digest()[:FINGERPRINT_BYTES]

    def ids(self, start: int, end: int) -> list[bytes]:
        """List the ids of the items at start to end - 1."""
        return [key[_TIMESTAMP_BYTES:] for key in self._keys[start:end]]

    def position(self, bound: bytes, start: int) -> int:
        """Find the first item from start on that does not sort before the bound."""
        return bisect_left(self._keys, bound, start)

    def whole_bound(self, index: int) -> bytes:
        """Give the bound that begins exactly at an item."""
        return self._keys[index]

    def shortest_bound(self, index: int) -> bytes:
        """Give the shortest bound between an item and the one before it (spec, "Bound")."""
        before, after = self._keys[index - 1], self._keys[index]
        if before[:_TIMESTAMP_BYTES] != after[:_TIMESTAMP_BYTES]:
            return after[:_TIMESTAMP_BYTES]
        differing = next(at for at in range(_TIMESTAMP_BYTES, _KEY_BYTES) if before[at] != after[at])
        return after[: differing + 1]

    def _sum_before(self, index: int) -> int:
        block, beyond = divmod(index, _STRIDE)
        return self._sums[block] + sum(_numbers(self.ids(index - beyond, index)))

    def _sum_up(self) -> None:
        """Add the sums that are still missing, after the last one present."""
        start = (len(self._sums) - 1) * _STRIDE
        running = accumulate(_numbers(self.ids(start, len(self._keys))), initial=self._sums[-1])
        self._sums += islice(running, _STRIDE, None, _STRIDE)


class Reconciler:
    """One side of a conversation over one snapshot.

    The initiator calls `initiate` once and `reconcile` with every answer, until that gives None; after each
    call `have` and `need` hold the ids that this call found; no id comes twice in a conversation.
    The responder calls `respond`; nothing is kept between its calls, so each may use another object.

    Args:
        snapshot: our set, which stays the same for the whole conversation.
        frame_limit: no message of ours is longer, in bytes; 0 for no limit, else at least 4096.

    Raises:
        ReconcileMisuse: the frame limit is not allowed.
    """

    __slots__ = (
        "_frame_limit",
        "_initiated",
        "_left_out",
        "_snapshot",
        "_told_have",
        "_told_need",
        "have",
        "need",
    )

    def __init__(self, snapshot: Snapshot, frame_limit: int = 0) -> None:
        if frame_limit != 0 and frame_limit < MIN_FRAME_LIMIT:
            raise ReconcileMisuse(f"a frame limit is 0 or at least {MIN_FRAME_LIMIT} bytes")
        self._snapshot = snapshot
        self._frame_limit = frame_limit
        self._initiated = False
        self._left_out: int | None = None
        self._told_have: set[bytes] = set()
        self._told_need: set[bytes] = set()
        self.have: list[bytes] = []
        self.need: list[bytes] = []

    def initiate(self) -> bytes:
        """Give the first message of a conversation.

        Raises:
            ReconcileMisuse: this conversation has begun already.
        """
        if self._initiated:
            raise ReconcileMisuse("this conversation has begun already")
        self._initiated = True
        out = _Writer()
        self._write_split(out, 0, len(self._snapshot), _INFINITY)
        return bytes(out.data)

    def reconcile(self, message: bytes) -> bytes | None:
        """Take the responder's answer; give the next message, or None when all is known.

        Raises:
            BadReconcileMessage: no honest peer sends this; `have` and `need` are empty then.
            ReconcileMisuse: `initiate` was not called.
        """
        self.have, self.need = [], []
        if not self._initiated:
            raise ReconcileMisuse("the initiator speaks first")
        if _version_of(message) != VERSION:
            raise BadReconcileMessage("the peer speaks another version of the protocol")
        ranges = _read_ranges(message)
        answer = self._answer(ranges)
        return answer if len(answer) > 1 else None

    def respond(self, message: bytes) -> bytes:
        """Answer an initiator's message; one of another version is answered with the version we speak.

        Raises:
            BadReconcileMessage: no honest peer sends this.
            ReconcileMisuse: this object is an initiator.
        """
        if self._initiated:
            raise ReconcileMisuse("an initiator does not answer as a responder")
        if _version_of(message) != VERSION:
            return bytes([VERSION])
        return self._answer(_read_ranges(message))

    def _answer(self, ranges: "list[_Range]") -> bytes:
        """Settle or cut each range of a message; the initiator notes what the lists of ids tell."""
        out = _Writer()
        size = len(self._snapshot)
        lower, lower_bound, skipping = 0, b"", False
        left_out, self._left_out = self._left_out, None
        for bound, mode, payload in ranges:
            upper = self._snapshot.position(bound, lower)
            complete = len(out.data)
            if mode == _FINGERPRINT and payload != self._snapshot.fingerprint(lower, upper):
                skipping = out.write_skip(lower_bound, skipping)
                self._write_split(out, lower, upper, bound)
            elif (
                mode == _FINGERPRINT and left_out is not None and payload == _NOTHING and bound > lower_bound
            ):
                skipping = out.write_skip(lower_bound, skipping)
                out.write_ids(bound, [])
            elif mode == _IDS and not self._initiated:
                skipping = out.write_skip(lower_bound, skipping)
                upper = self._write_own_ids(out, complete, lower, upper, bound)
                complete = len(out.data)
            else:
                if mode == _IDS:
                    self._note_difference(payload, lower, upper)
                skipping = True
            if self._is_full(len(out.data)):
                del out.data[complete:]
                out.write_fingerprint(_INFINITY, self._snapshot.fingerprint(upper, size))
                self._left_out = lower if self._initiated and upper == size else None
                return bytes(out.data)
            lower, lower_bound = upper, bound
        if left_out is not None and lower <= left_out:
            self.have += _first_told(self._snapshot.ids(left_out, size), self._told_have)
        return bytes(out.data)

    def _write_split(self, out: "_Writer", lower: int, upper: int, bound: bytes) -> None:
        """Write our items from lower to upper - 1: as ids when few, else as fingerprints of 16 parts."""
        count = upper - lower
        if count < 2 * BUCKETS:
            out.write_ids(bound, self._snapshot.ids(lower, upper))
            return
        each, larger = divmod(count, BUCKETS)
        start = lower
        for bucket in range(BUCKETS):
            end = start + each + (bucket < larger)
            end_bound = bound if end == upper else self._snapshot.shortest_bound(end)
            out.write_fingerprint(end_bound, self._snapshot.fingerprint(start, end))
            start = end

    def _write_own_ids(self, out: "_Writer", complete: int, lower: int, upper: int, bound: bytes) -> int:
        """Write as many of our ids as the frame takes; give the position where the list ends."""
        end = upper
        if self._frame_limit:
            room = self._frame_limit - _FRAME_RESERVE - complete
            end = min(upper, lower + room // ID_BYTES + 1)
        out.write_ids(
            bound if end == upper else self._snapshot.whole_bound(end), self._snapshot.ids(lower, end)
        )
        return end

    def _note_difference(self, listed: bytes, lower: int, upper: int) -> None:
        theirs = dict.fromkeys(listed[at : at + ID_BYTES] for at in range(0, len(listed), ID_BYTES))
        ours = self._snapshot.ids(lower, upper)
        known = set(ours)
        self.have += _first_told([x for x in ours if x not in theirs], self._told_have)
        self.need += _first_told([x for x in theirs if x not in known], self._told_need)

    def _is_full(self, size: int) -> bool:
        return self._frame_limit != 0 and size > self._frame_limit - _FRAME_RESERVE


class _Range(NamedTuple):
    bound: bytes
    mode: int
    payload: bytes


class _Writer:
    """A message in the making; timestamps are written as differences, so ranges go in order."""

    __slots__ = ("_timestamp", "data")

    def __init__(self) -> None:
        self.data = bytearray([VERSION])
        self._timestamp = 0

    def write_skip(self, bound: bytes, wanted: bool) -> bool:
        """Write a skip if one is wanted; give False, for none is wanted after it."""
        if wanted:
            self._write_bound(bound)
            self.data.append(_SKIP)
        return False

    def write_fingerprint(self, bound: bytes, fingerprint: bytes) -> None:
        self._write_bound(bound)
        self.data.append(_FINGERPRINT)
        self.data += fingerprint

    def write_ids(self, bound: bytes, ids: list[bytes]) -> None:
        self._write_bound(bound)
        self.data.append(_IDS)
        self.data += _varint(len(ids))
        self.data += b"".join(ids)

    def _write_bound(self, bound: bytes) -> None:
        if bound == _INFINITY:
            self.data += b"\0\0"
            return
        timestamp = int.from_bytes(bound[:_TIMESTAMP_BYTES], "big")
        self.data += _varint(timestamp - self._timestamp + 1)
        self._timestamp = timestamp
        self.data.append(len(bound) - _TIMESTAMP_BYTES)
        self.data += bound[_TIMESTAMP_BYTES:]


class _Reader:
    """A message being read; every step checks that the bytes are there."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._at = start

    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left():
            raise BadReconcileMessage("the message ends too early")
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def varint(self) -> int:
        value = 0
        for position in range(self._at, min(self._at + _MAX_VARINT_BYTES, len(self._data))):
            byte = self._data[position]
            value = value << 7 | byte & 0x7F
            if value == 0 and byte == 0x80:
                raise BadReconcileMessage("a number is longer than it needs to be")
            if byte < 0x80:
                if value > _MAX_UINT64:
                    break
                self._at = position + 1
                return value
        raise BadReconcileMessage("a number is cut off or above 64 bits")

    def bound(self, timestamp_before: int) -> bytes:
        """Read a bound that is not before the given timestamp."""
        shifted = self.varint()
        timestamp = timestamp_before + shifted - 1 if shifted else _MAX_UINT64
        prefix_bytes = self.varint()
        if prefix_bytes > ID_BYTES:
            raise BadReconcileMessage("a bound is longer than an id")
        if shifted == 0 and prefix_bytes:
            raise BadReconcileMessage("an id beyond infinity")
        if shifted and timestamp >= _MAX_UINT64:
            raise BadReconcileMessage("a timestamp above 64 bits")
        return timestamp.to_bytes(_TIMESTAMP_BYTES, "big") + self.take(prefix_bytes)


def _read_ranges(message: bytes) -> list[_Range]:
    """Read all ranges of a message, so that a bad one changes nothing."""
    reader = _Reader(message, start=1)
    ranges = []
    before = bytes(_KEY_BYTES)
    while reader.left():
        bound = reader.bound(int.from_bytes(before[:_TIMESTAMP_BYTES], "big"))
        padded = bound.ljust(_KEY_BYTES, b"\0")
        if padded < before:
            raise BadReconcileMessage("bounds go backwards")
        before = padded
        mode = reader.varint()
        if mode == _SKIP:
            payload = b""
        elif mode == _FINGERPRINT:
            payload = reader.take(FINGERPRINT_BYTES)
        elif mode == _IDS:
            payload = reader.take(reader.varint() * ID_BYTES)
        else:
            raise BadReconcileMessage("a mode that version 1 does not know")
        ranges.append(_Range(bound, mode, payload))
    return ranges


def _version_of(message: bytes) -> int:
    if not message:
        raise BadReconcileMessage("an empty message")
    if len(message) > MAX_MESSAGE_BYTES:
        raise BadReconcileMessage("the message is too long")
    if message[0] >> 4 != VERSION >> 4:
        raise BadReconcileMessage("not a message of this protocol")
    return message[0]


def _varint(value: int) -> bytes:
    """Write a number in base 128, most significant digit first (spec, "Varint")."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def _first_told(ids: list[bytes], told: set[bytes]) -> list[bytes]:
    """Drop and note what was told before: ranges that a full frame left out are gone through again."""
    fresh = [item_id for item_id in ids if item_id not in told]
    told.update(fresh)
    return fresh


def _numbers(ids: list[bytes]) -> Iterable[int]:
    return (int.from_bytes(item_id, "little") for item_id in ids)


def _sorted_keys(items: Iterable[Item]) -> list[bytes]:
    try:
        keys = [timestamp.to_bytes(_TIMESTAMP_BYTES, "big") + item_id for timestamp, item_id in items]
    except OverflowError:
        raise ReconcileMisuse("a timestamp is not within 64 bits") from None
    if any(len(key) != _KEY_BYTES for key in keys):
        raise ReconcileMisuse(f"an id is not {ID_BYTES} bytes")
    keys.sort()
    if keys and keys[-1] >= _INFINITY:
        raise ReconcileMisuse("the highest timestamp is reserved for infinity")
    return keys


def _refuse_repeats(keys: list[bytes]) -> None:
    if any(before == after for before, after in pairwise(keys)):
        raise ReconcileMisuse("an item twice")


_NOTHING = Snapshot().root_fingerprint()
"""The fingerprint of no items, which a peer's word may stand for without being true.

A full frame ends with a fingerprint of what comes after the range that did not fit. When that range was
the last one, this is the fingerprint of nothing, though the sender may have items there. The reference
implementations take it for agreement if the reader has nothing there, and never tell those items. So an
initiator that had to send such a message remembers from where it left items out (`_left_out`):
silence about them then means that the peer has none of them, and the same word from the peer is asked about
with an empty list, the only message of ours that no reference implementation sends.
"""
