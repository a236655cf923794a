"""The press's process: decodes hostile pictures, draws pages, makes instances, and dies if one is too much.

Started by `node.wrap.press` as `python -m node.wrap.worker`. For each order it reads one line of JSON and the
file's octets, and answers with one line of JSON for each instance, followed by its octets; the last line
says `end`. Memory, CPU time and core dumps are limited by the system.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from node.confined import limit_cpu, limit_memory
from node.wrap.instance import Made
from node.wrap.order import Order

MEMORY_BYTES = 1 << 30
CPU_S = 60
_PIECE_BYTES = 1 << 20


def answer(order: Order, source: BinaryIO) -> Iterator[Made]:
    """Yield what an order asks for. Libraries are loaded when they are needed."""
    from node.wrap import capture, document, page, photo, pictures

    if order.what == "pdf":
        yield document.pdf_instance(order, lambda: _read_on(source, order.size))
    elif order.what == "impression":
        yield document.impression_instance(order, page.impression_page(order))
    elif order.what == "captures":
        yield from capture.captures(_whole(source, order.size))
    else:
        picture = pictures.load(_whole(source, order.size))
        if order.what == "picture":
            yield photo.picture_instance(order, picture)


def _read_on(source: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = source.read(min(size, _PIECE_BYTES))
        if not piece:
            raise EOFError
        size -= len(piece)
        yield piece


def _whole(source: BinaryIO, size: int) -> bytes:
    return b"".join(_read_on(source, size))


def _say(sink: BinaryIO, **told: object) -> None:
    sink.write(json.dumps(told).encode() + b"\n")


def _serve(source: BinaryIO, sink: BinaryIO, line: bytes) -> None:
    from node.wrap.pictures import BadPicture

    try:
        for made in answer(Order.from_json(line), source):
            _say(sink, uid=made.uid, sop_class=made.sop_class, syntax=made.syntax, size=made.size)
            for piece in made.pieces():
                sink.write(piece)
        _say(sink, end="")
    except BadPicture as bad:
        _say(sink, end=bad.code)
    except MemoryError:
        _say(sink, end="picture-too-large")
    sink.flush()


def main() -> None:
    """Answer one order after the other until the input ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing printed gets between the answers
    limit_memory(MEMORY_BYTES)
    while line := source.readline():
        limit_cpu(CPU_S)
        _serve(source, sink, line)


if __name__ == "__main__":
    main()
