"""Frames between the node and its worker process: `[1 octet kind][u32 length][payload]`, big-endian.

To the worker: `F` a file, `u64 size, u8 kind` and its first octets; `M` more octets. From it: `N` need,
`u64 offset, u32 size`; `A` the answer in JSON; before it, of a data set without a header, `H` the header
that makes a file of it; first of all `R`, ready.
"""

import struct
from typing import BinaryIO

FILE, MORE, NEED, HEADER, ANSWER, READY = b"F", b"M", b"N", b"H", b"A", b"R"
KINDS = ("part10", "bare", "headless", "headless-big", "jpeg", "png", "pdf")
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
