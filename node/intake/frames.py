"""Frames between the node and its worker process: `[1 octet kind][u32 length][payload]`, big-endian.

To the worker: `F` a file, `u64 size, u8 preamble` and its first octets; `M` more octets. From it: `N` need,
`u64 offset, u32 size`; `A` the answer in JSON; first of all `R`, ready.
"""

import struct
from typing import BinaryIO

FILE, MORE, NEED, ANSWER, READY = b"F", b"M", b"N", b"A", b"R"
FRAME = struct.Struct(">cI")
OPENING = struct.Struct(">QB")
WANT = struct.Struct(">QI")


def send(sink: BinaryIO, kind: bytes, *payload: bytes) -> None:
    """Write one frame."""
    sink.write(FRAME.pack(kind, sum(map(len, payload))) + b"".join(payload))
    sink.flush()


def receive(source: BinaryIO) -> tuple[bytes, bytes]:
    """Read one frame.

    Raises:
        EOFError: the other end is gone.
    """
    head = source.read(FRAME.size)
    if len(head) < FRAME.size:
        raise EOFError
    kind, length = FRAME.unpack(head)
    payload = source.read(length)
    if len(payload) < length:
        raise EOFError
    return kind, payload
