"""Files that were made to harm: small ones that want to become large, deep, long, or something else.

`python -m support.hostile NAME…` examines them in a process of its own and prints as JSON what was found of
each, the seconds that it took, and what the kernel counted: CPU time and peak memory of the worker and of the
process that examined.
"""

import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.dicoms import DEFLATED, element, header, jpeg, part10, png, study_zip, zip_of
from support.slices import made_slice

from node.intake.dicom import HeaderReader
from node.intake.examine import examine
from node.intake.spool import SpoolReader, SpoolWriter

GB = 1 << 30
_KEY = bytes(range(32))
PIXELS = element(0x7FE0, 0x10, "OW", bytes(2000))


def _deflated_zeros(before: bytes, octets: int) -> bytes:
    """Return `before` and so many zeros, deflated, without ever having the zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begin = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + block * (octets >> 20) + packer.flush()


def _zeros_in_zip(octets: int) -> bytes:
    """Return a ZIP with one file of zeros. Its CRC-32 is wrong, which is found out only by reading it all."""
    packed = _deflated_zeros(b"", octets)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(packed), octets, 1, 0) + b"a"
    entry = (b"PK\1\2", 20, 20, 0, 8, 0, 33, 0, len(packed), octets, 1, 0, 0, 0, 0, 0, 0)
    directory = struct.pack("<4s6H3I5H2I", *entry) + b"a"
    end = (b"PK\5\6", 0, 0, 1, 1, len(directory), len(local) + len(packed), 0)
    return local + packed + directory + struct.pack("<4s4H2IH", *end)


def _many_entries(count: int, *, length: int = 0) -> bytes:
    """Return a ZIP whose directory lists one empty file so many times."""
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * count
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, length or len(directory), len(local), 0)
    return local + directory + end


def _overlapping(count: int) -> bytes:
    """Return a ZIP in which so many names share the octets of one file (David Fifield's bomb, simplified)."""
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = body.compress(bytes(10 << 20)) + body.flush()
    crc, size = zlib.crc32(bytes(10 << 20)), 10 << 20
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, crc, len(packed), size, 1, 0) + b"a"
    entry = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 33, crc, len(packed), size, 1, 0, 0, 0, 0, 0, 0
    )
    directory = (entry + b"a") * count
    at = len(local) + len(packed)
    return (
        local
        + packed
        + directory
        + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), at, 0)
    )


def _nested(levels: int) -> bytes:
    data = study_zip()
    for _ in range(levels):
        data = zip_of({"a.zip": data}, method=zipfile.ZIP_DEFLATED)
    return data


def _backwards(files: int) -> bytes:
    """Return a packed ZIP in a ZIP whose directory lists its files from the last to the first."""
    inner = zip_of({f"{n:03}": b"text" + random.Random(n).randbytes(20_000) for n in range(files)})
    end = inner.rindex(b"PK\5\6")
    at = struct.unpack_from("<I", inner, end + 16)[0]
    entries = inner[at:end].split(b"PK\1\2")[1:]
    turned = inner[:at] + b"".join(b"PK\1\2" + entry for entry in reversed(entries)) + inner[end:]
    return zip_of({"a.zip": turned}, method=zipfile.ZIP_DEFLATED)


def _deep(depth: int) -> bytes:
    opening = struct.pack("<HH2sHI", 8, 0x1111, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return part10(header() + opening * depth + closing * depth + PIXELS)


def _claims(octets: int) -> bytes:
    return part10(header() + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, octets) + b"abc")


def _preamble(beginning: bytes) -> bytes:
    return beginning.ljust(128, b"\0") + part10(header() + PIXELS)[128:]


CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "ZIP: 1 GB of zeros": (lambda: _zeros_in_zip(GB), "zip-ratio"),
    "ZIP: 20,001 files": (lambda: _many_entries(20_001), "zip-too-large"),
    "ZIP: a million files": (lambda: _many_entries(1_000_000), "zip-too-large"),
    "ZIP: a directory that claims 3 GB": (lambda: _many_entries(1, length=3 * GB), "zip-damaged"),
    "ZIP: ten levels": (lambda: _nested(10), "zip-in-zip"),
    "ZIP: a bomb in a ZIP": (lambda: zip_of({"a.zip": _zeros_in_zip(GB)}), "zip-ratio"),
    "ZIP: files on top of each other": (lambda: _overlapping(5_000), "zip-too-large"),
    "ZIP: few files on top of each other": (lambda: _overlapping(50), "zip-overlaps"),
    "ZIP: read backwards": (lambda: _backwards(500), "not-dicom"),
    "ZIP: climbs out": (lambda: zip_of({"../../.ssh/authorized_keys": b"ssh-rsa"}), "zip-climbs-out"),
    "ZIP: climbs out of a ZIP": (lambda: zip_of({"a.zip": zip_of({"/etc/passwd": b"x"})}), "zip-climbs-out"),
    "DICOM: 1 MB that inflates to 1 GB": (
        lambda: part10(
            _deflated_zeros(header() + element(0x7FE0, 0x10, "OW", b"")[:-4] + struct.pack("<I", GB), GB),
            syntax=DEFLATED,
        ),
        "inflates-too-much",
    ),
    "DICOM: 100,000 sequences deep": (lambda: _deep(100_000), "too-complex"),
    "DICOM: two million empty elements": (
        lambda: part10(header() + element(0x29, 0x10, "LO", b"") * 2_000_000),
        "too-complex",
    ),
    "DICOM: two million without a header": (
        lambda: header() + element(0x29, 0x10, "LO", b"") * 2_000_000,
        "too-complex",
    ),
    "DICOM: pixels that claim 4 GB": (lambda: _claims(0xFFFFFFFE), "truncated"),
    "DICOM: a DOS program in the preamble": (lambda: _preamble(b"MZ\x90\0"), "accepted"),
    "DICOM: a Linux program in the preamble": (lambda: _preamble(b"\x7fELF\2\1\1"), "accepted"),
    "polyglot: DICOM and PDF": (lambda: _preamble(b"%PDF-1.7\n") + b"\n%%EOF\n", "accepted"),
    "polyglot: DICOM and ZIP": (lambda: made_slice(1, 1) + study_zip(2), "accepted"),
    "polyglot: JPEG and ZIP": (lambda: jpeg(640, 480) + study_zip(), "jpeg"),
    "polyglot: JPEG and program": (lambda: jpeg(640, 480, more=b"\xff\xfe\0\x08MZ\x90\0\3\0"), "jpeg"),
    "JPEG: 60,000 × 60,000": (lambda: jpeg(60_000, 60_000), "picture-too-large"),
    "JPEG: 16 MB of fill octets": (lambda: b"\xff\xd8" + b"\xff" * (16 << 20), "picture-damaged"),
    "PNG: 60,000 × 60,000": (lambda: _grown(png(640, 480)), "picture-too-large"),
    "PNG: a million chunks": (lambda: png(640, 480)[:33] + _chunk(b"tEXt") * 1_000_000, "picture-damaged"),
}
"""What to make, and what the examination says of it."""


def _chunk(name: bytes) -> bytes:
    return struct.pack(">I", 0) + name + struct.pack(">I", zlib.crc32(name))


def _grown(data: bytes) -> bytes:
    return data[:16] + struct.pack(">II", 60_000, 60_000) + data[24:]


def spooled(data: bytes, path: Path) -> None:
    """Write bytes as an upload, and its size beside it."""
    writer = SpoolWriter(path, "u", key=_KEY, offset=0, position=0)
    for begin in range(0, len(data), 1 << 20):
        writer.write(data[begin : begin + (1 << 20)])
    writer.close()
    path.with_suffix(".json").write_text(json.dumps({"position": writer.position, "length": len(data)}))


def examined(path: Path, headers: HeaderReader) -> str:
    """Examine an upload, and say what was found: a code, "accepted", or a kind of document."""
    sizes = json.loads(path.with_suffix(".json").read_text())
    with SpoolReader(path, "u", keys=[(0, _KEY)], **sizes) as file:
        found = examine(file, "upload", headers)
    if found.code is not None:
        return found.code
    return "accepted" if found.studies else found.documents[0].kind


def measured(paths: dict[str, Path]) -> dict[str, Any]:
    """Examine uploads, one after the other, and say what the kernel counted for all of them together."""
    headers, found = HeaderReader(), {}
    for name, path in paths.items():
        begin = time.monotonic()
        code = examined(path, headers)
        found[name] = {"code": code, "seconds": round(time.monotonic() - begin, 2)}
    headers.close()
    worker, own = (resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    return {
        "found": found,
        "cpu_s": round(sum(use.ru_utime + use.ru_stime for use in (worker, own)), 2),
        "worker_mb": worker.ru_maxrss / 1000,
        "own_mb": own.ru_maxrss / 1000,
    }


def main(names: list[str]) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / str(number) for number, name in enumerate(names)}
        # In a process of its own, and so is what makes them: the kernel's peaks are of a process, and one
        # that is started begins with the peak of the one that starts it.
        _forked(lambda: [spooled(CASES[name][0](), path) for name, path in paths.items()])
        _forked(lambda: print(json.dumps(measured(paths)), flush=True))


def _forked(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a case failed")


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
