"""Multipart bodies in pieces of every size, and the heads of files: what the read-back stands on."""

import pytest
from support.slices import made_slice, pydicom_file

from node.deliver.multipart import MultipartParser, PartBegins, PartData, PartEnds, boundary_of
from node.deliver.part10 import file_meta
from node.errors import Refused

PARTS = [b"", b"short", b"with\r\n--edg inside\r\n", b"\r\n", bytes(range(256)) * 40, b"x--edge"]


def body_of(parts: list[bytes], *, preamble: bytes = b"", head: bytes = b"Content-Type: a/b\r\n") -> bytes:
    return preamble + b"".join(b"--edge\r\n" + head + b"\r\n" + p + b"\r\n" for p in parts) + b"--edge--\r\n"


def parsed(body: bytes, step: int) -> tuple[list[bytes], bool]:
    parser, parts, ended = MultipartParser(b"edge"), [], 0
    for at in range(0, len(body), step):
        for event in parser.feed(body[at : at + step]):
            if isinstance(event, PartBegins):
                parts.append(b"")
            elif isinstance(event, PartData):
                parts[-1] += event.data
            else:
                assert isinstance(event, PartEnds)
                ended += 1
    return parts[:ended], parser.complete


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1000, 10**6])
@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"This is a preamble\r\n"])
@pytest.mark.parametrize("head", [b"", b"Content-Type: application/dicom\r\nMIME-Version: 1.0\r\n"])
def test_parts_come_out_as_they_went_in_however_the_network_cuts_them(step, preamble, head) -> None:
    """A delimiter may fall apart at any byte."""
    assert parsed(body_of(PARTS, preamble=preamble, head=head), step) == (PARTS, True)


def test_a_body_that_is_cut_anywhere_is_not_complete() -> None:
    """A truncated answer must not pass for a whole one."""
    body = body_of([b"one", b"two"])
    closing = body.rindex(b"--\r\n") + 2

    for cut in range(closing):
        parts, complete = parsed(body[:cut], 16)
        assert not complete
        assert parts in ([], [b"one"], [b"one", b"two"])


@pytest.mark.parametrize("bad", [b"--edgeX\r\n\r\nx\r\n--edge--", b"--edge\r\n" + b"a" * 20_000])
def test_what_is_no_multipart_body_is_refused(bad: bytes) -> None:
    """And does not fill the memory in search of an end."""
    with pytest.raises(Refused):
        parsed(bad, 100)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', b"abc"),
        ('Multipart/Related; Boundary="a b c"; type=x', b"a b c"),
        ("application/dicom; boundary=x", None),
        ("multipart/related", None),
        ("", None),
    ],
)
def test_the_boundary_is_found_in_any_spelling(content_type: str, boundary: bytes | None) -> None:
    """Servers quote it or not, and order parameters as they like."""
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "ExplVR_BigEnd.dcm", "MR_small_RLE.dcm"])
def test_the_data_set_begins_behind_group_0002(name: str) -> None:
    """pydicom's length of group 0002 is the measure."""
    part10 = pydicom_file(name)

    meta = file_meta(part10[:1000])

    assert meta is not None
    assert meta.data_set_at == 144 + int.from_bytes(part10[140:144], "little")
    assert meta.syntax.startswith("1.2.840.10008.1.2")


@pytest.mark.parametrize("head", [b"", b"\0" * 400, made_slice(1, 1)[:140], made_slice(1, 1)[:200]])
def test_a_head_without_an_end_is_told(head: bytes) -> None:
    """Then nothing is known of where the content begins, and nothing is compared by it."""
    assert file_meta(head) is None
