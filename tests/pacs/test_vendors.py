"""What archives really answer: for each behaviour, the outcome of every image, and no end without proof.

The behaviours are those that vendors document, that their sources show, or that users report. Each is played
by a PACS on a real socket to the real forward job, on a clock that the test moves. docs/pacs.md shows it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.forwarders import Forwarding, two_forwarders
from support.lying_pacs import (
    Answer,
    Behaviour,
    Hangup,
    LyingPacs,
    as_json,
    as_xml,
    honest,
    lying_pacs,
    response,
)
from support.slices import made_slice
from support.source import ROOT

FILES = [made_slice(301, n) for n in (1, 2, 3)]
UIDS = [f"2.25.301.1.{n}" for n in (1, 2, 3)]
KEPT = dict(zip(UIDS, FILES, strict=True))
STORED, REJECTED, RETRY, UNKNOWN = "stored", "rejected", "retry", "unknown"
CONFLICT, WARNED, THERE = "conflict", "stored-with-warning", "already-there-same"
FLIPPED = FILES[0][:-1] + bytes([FILES[0][-1] ^ 1])


@dataclass(frozen=True)
class Case:
    """A behaviour.

    Attributes:
        who: which archive.
        does: what it does, for people.
        posts: its answers to the first store requests; then it is honest.
        first: what is noted of each image after the first run; "" for what was on its way.
        then: how it ends within hours: "delivered", or the trouble.
        before: what happens before the study comes.
        after: the setback after the first run, if it is not about the study.
    """

    who: str
    does: str
    posts: list[Behaviour] = field(default_factory=list)
    first: tuple[str, str, str] = (STORED, STORED, STORED)
    then: str = "delivered"
    before: Callable[[LyingPacs], None] = lambda pacs: None
    after: str | None = None


def keeps(*numbers: int, answer: Callable[[list[str]], Answer]) -> Behaviour:
    """Keep the parts with these places, and answer."""

    def behave(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        uids = list(parts)
        pacs.keep({uids[n]: parts[uids[n]] for n in numbers if n < len(uids)})
        return answer(uids)

    return behave


def json(status: int, stored: Any = (), failed: Any = (), **more: Any) -> Callable[[list[str]], Answer]:
    """Answer with places of what is stored, and reasons by place."""

    def answer(uids: list[str]) -> Answer:
        named = response(
            [uids[n] for n in stored if n < len(uids)],
            {uids[n]: code for n, code in dict(failed).items() if n < len(uids)},
            others=more.get("others", ()),
            warnings={uids[n]: code for n, code in more.get("warnings", {}).items()},
        )
        return Answer(status, as_json(named), headers=more.get("headers", {}))

    return answer


def refuses(code: int, status: int = 409) -> Behaviour:
    return keeps(answer=lambda uids: Answer(status, as_json(response([], dict.fromkeys(uids, code)))))


def has(uid: str, data: bytes) -> Callable[[LyingPacs], None]:
    return lambda pacs: pacs.kept.__setitem__(uid, data)


def keeps_the_old(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
    """Say "stored" of everything, and keep what was there under a UID before."""
    pacs.keep({uid: data for uid, data in parts.items() if uid not in pacs.kept})
    return Answer(200, as_json(response(list(parts))))


def google(uids: list[str], detail: str) -> Answer:
    """Return Google's answer to a conflict: 0110 in XML, and the cause in a private element."""
    xml = as_xml(uids[1:], {uids[0]: 272}).decode()
    private = f'<DicomAttribute tag="00090097" vr="LO"><Value number="1">{detail}</Value></DicomAttribute>'
    head, _, tail = xml.rpartition("</Item></DicomAttribute></NativeDicomModel>")
    return Answer(409, f"{head}{private}</Item></DicomAttribute></NativeDicomModel>{tail}".encode(),
                  "application/dicom+xml; charset=utf-8")  # fmt: skip


def hidden_after(queries: int, behaviour: Behaviour = honest) -> Behaviour:
    """Let the index lag by so many queries."""

    def behave(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        pacs.hidden = queries
        assert callable(behaviour)
        return behaviour(pacs, parts)

    return behave


def _zeroed(pacs: LyingPacs) -> None:
    pacs.given_back = lambda part10: bytes(128) + part10[128:]


def _flips(pacs: LyingPacs) -> None:
    pacs.given_back = lambda part10: part10[:-1] + bytes([part10[-1] ^ 1])


def _gives_nothing_back(pacs: LyingPacs) -> None:
    pacs.read_status = 500


def _hides_the_old(pacs: LyingPacs) -> None:
    has(UIDS[0], FLIPPED)(pacs)
    pacs.hidden = 1


ALL = (0, 1, 2)
NO, HTML = (UNKNOWN,) * 3, "text/html"
CASES = [
    Case("Orthanc", "200, AlreadyStored inside: has the very bytes already", [], (THERE, STORED, STORED),
         before=has(UIDS[0], FILES[0])),
    Case("Orthanc", "has other bytes under a UID, listed", [], (CONFLICT, STORED, STORED), "conflict",
         before=has(UIDS[0], FLIPPED)),
    Case("Orthanc", "200 to all, and keeps the old object (OverwriteInstances off)", [keeps_the_old],
         (CONFLICT, STORED, STORED), "conflict", before=_hides_the_old),
    Case("Orthanc", "400 for one unreadable part; the others are stored, the bad one is not named",
         [keeps(0, 2, answer=json(400, (0, 2))), keeps(answer=json(400))], (STORED, REJECTED, STORED),
         "rejected"),
    Case("Orthanc", "400 with an empty body (HttpDescribeErrors off), two of three are stored",
         [keeps(0, 1, answer=lambda u: Answer(400)), keeps(answer=lambda u: Answer(400))],
         (UNKNOWN, UNKNOWN, REJECTED), "rejected"),
    Case("Orthanc", "409, the parts belong to another study", [Answer(409)] * 4, (REJECTED,) * 3, "rejected"),
    Case("Orthanc", "the disk is full: A700", [refuses(0xA700, 400)], (RETRY,) * 3, after="pacs-busy"),
    Case("Orthanc", "503, the database is busy", [Answer(503)], ("", "", ""), after="pacs-busy"),
    Case("Orthanc", "0110 for one", [keeps(0, 2, answer=json(202, (0, 2), {1: 0x0110}))],
         (STORED, REJECTED, STORED), "rejected"),
    Case("dcm4chee", "XML, whatever is asked for",
         [keeps(0, 1, 2, answer=lambda u: Answer(200, as_xml(u), "application/dicom+xml"))]),
    Case("dcm4chee", "409, all failed, A778: another patient ID", [refuses(0xA778)], (REJECTED,) * 3,
         "rejected"),
    Case("dcm4chee", "A777, no patient ID, for one", [keeps(0, 1, answer=json(202, (0, 1), {2: 0xA777}))],
         (STORED, STORED, REJECTED), "rejected"),
    Case("dcm4chee", "A77A, the study is just being deleted", [refuses(0xA77A)], (RETRY,) * 3),
    Case("dcm4chee", "a random UID for a part that it cannot read (C499)",
         [keeps(0, 1, answer=lambda u: Answer(202, as_json(response(u[:2], {"1.2.3.4": 0xC499}))))],
         (STORED, STORED, UNKNOWN)),
    Case("dcm4chee", "C409, of another study", [refuses(0xC409)], (REJECTED,) * 3, "rejected"),
    Case("dcm4chee", "text/plain errorMessage with 500",
         [Answer(500, b'{"errorMessage":"Doe^Made"}', "text/plain")] * 2, (RETRY, STORED, STORED)),
    Case("dcm4chee", "200 and the old kept (OverwritePolicy NEVER)", [keeps_the_old],
         (CONFLICT, STORED, STORED), "conflict", before=_hides_the_old),
    Case("dcm4chee", "Warning: 299, and names nobody",
         [Answer(200, b"", "text/plain", {"Warning": "299 <dcm4chee>: Doe^Made"})], NO),
    Case("Google", "409, 0110 with the detail that an instance already exists, and it is the same",
         [keeps(0, 1, 2, answer=lambda u: google(u, "instance already exists"))], (UNKNOWN, STORED, STORED)),
    Case("Google", "409, already exists with other bytes", [
         keeps(1, 2, answer=lambda u: google(u, "instance AlreadyExists with different content"))],
         (CONFLICT, STORED, STORED), "conflict", before=_hides_the_old),
    Case("Google", "409, an invalid file", [keeps(1, 2, answer=lambda u: google(u, "invalid DICOM")) ],
         (REJECTED, STORED, STORED), "rejected"),
    Case("Google", "429 with Retry-After", [Answer(429, b"", HTML, {"Retry-After": "600"})], ("", "", ""),
         after="pacs-busy"),
    Case("Google", "the search lags behind the store", [hidden_after(1)]),
    Case("Azure", "204 to a request that was not empty", [Answer(204)], NO),
    Case("Azure", "45070: already there, the same", [keeps(0, 1, 2, answer=json(409, (), {0: 45070, 1: 45070,
         2: 45070}))], NO),
    Case("Azure", "45070: already there, other bytes", [keeps(1, 2, answer=json(202, (1, 2), {0: 45070}))],
         (CONFLICT, STORED, STORED), "conflict", before=_hides_the_old),
    Case("Azure", "202 for warnings only, 45063",
         [keeps(0, 1, 2, answer=json(202, ALL, warnings={1: 45063}))],
         (STORED, WARNED, STORED)),
    Case("Azure", "45071, creation in progress", [keeps(0, 1, answer=json(202, (0, 1), {2: 45071}))],
         (STORED, STORED, RETRY)),
    Case("Azure", "43264, validation failed", [refuses(43264)], (REJECTED,) * 3, "rejected"),
    Case("Azure", "424, failed dependency", [Answer(424)] * 4, (RETRY,) * 3),
    Case("Azure", "zeroes the preamble", before=_zeroed),
    Case("AWS", "B100 and B111: stored as it is",
         [keeps(0, 1, 2, answer=json(200, ALL, warnings={0: 0xB100, 2: 0xB111}))], (WARNED, STORED, WARNED)),
    Case("AWS", "ThrottlingException", [Answer(429, b'{"__type":"ThrottlingException"}', "application/json")],
         ("", "", ""), after="pacs-busy"),
    Case("AWS", "somebody's newer object took the place (newest wins)",
         [lambda p, parts: (p.keep(parts | {UIDS[0]: FLIPPED}),
                            Answer(200, as_json(response(list(parts)))))[1]],
         (CONFLICT, STORED, STORED), "conflict"),
    Case("any", "refuses the kind of image: 0122", [refuses(0x0122)], (REJECTED,) * 3, "rejected"),
    Case("any", "does not let this sender: 0124", [refuses(0x0124)], (REJECTED,) * 3, "rejected"),
    Case("any", "OtherFailures, that name nobody",
         [keeps(0, 1, answer=json(202, (0, 1), others=[0xC000])), keeps(answer=json(409, others=[0xC000]))],
         (STORED, STORED, REJECTED), "rejected"),
    Case("any", "says stored, and keeps nothing", [keeps(answer=json(200, ALL))]),
    Case("any", "names an image as stored and as refused",
         [keeps(0, 1, 2, answer=json(202, ALL, {0: 272}))], (UNKNOWN, STORED, STORED)),
    Case("any", "gives back other pixels", [], (CONFLICT,) * 3, "conflict", before=_flips),
    Case("any", "lists images and does not give them back", [], then="waiting", before=_gives_nothing_back),
    Case("proxy", "413 with HTML to more than one image",
         [Answer(413, b"<html>too large</html>", HTML)], (STORED,) * 3),
    Case("proxy", "413 to whatever holds one certain image", [], (REJECTED, STORED, STORED), "rejected"),
    Case("proxy", "200 with a login page", [Answer(200, b"<html>Sign in</html>", HTML)], NO),
    Case("proxy", "302 to a login page", [Answer(302)], ("", "", ""), after="no-network"),
    Case("proxy", "502", [Answer(502)], ("", "", ""), after="pacs-busy"),
    Case("line", "breaks in mid-body", [Hangup(3000)], ("", "", ""), after="no-network"),
    Case("line", "GOAWAY: all is stored, the answer never comes", [], ("", "", ""), after="no-network"),
    Case("auth", "the token ends in mid-study", [Answer(401)], ("", "", ""), after="credentials"),
    Case("any", "answers after a quarter of an hour"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.who}: {case.does}"[:60])
def test_each_behaviour_has_its_outcome_and_no_end_without_proof(case: Case, tmp_path: Path) -> None:
    """The PACS may say what it likes: what ends a study is what it shows."""
    with lying_pacs() as pacs:
        mesh, members = two_forwarders()
        node = Forwarding(tmp_path, mesh, members[:1], pacs.url)
        pacs.posts = list(case.posts)
        if case.does.startswith("GOAWAY"):
            pacs.posts = [_keeps_and_hangs_up]
        if case.does.startswith("answers after"):
            pacs.posts = [_late(node)]
        if case.does.startswith("413 to whatever"):
            pacs.posts = [_refuses_the_first] * 9
        case.before(pacs)
        entry = node.keep(FILES)

        node.run()
        proofs = node.queue.proofs(entry)
        noted = tuple(proofs[n].outcome for n in sorted(proofs))
        state, setback = node.state(entry), node.setback(entry)
        _check_proof(node, pacs, entry)

        assert noted == case.first
        assert case.after is None or (state != "delivered" and setback == case.after)
        for _ in range(12 if case.then == "delivered" else 2):
            if node.view(entry).tombstone is None:
                assert case.then == "delivered" or _end(node, entry) == case.then
                if case.posts and case.then != "delivered":
                    pacs.posts = list(case.posts)
                node.run(between_ms=31 * 60_000)
                _check_proof(node, pacs, entry)
        assert _end(node, entry) == case.then
        sent = [uid for body in pacs.bodies for uid in body]
        if case.then == "delivered" and not case.posts:
            assert len(sent) == len(set(sent))  # some archives lose a file that they receive twice
        node.close()


def _keeps_and_hangs_up(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
    pacs.keep(parts)
    raise ConnectionResetError


def _refuses_the_first(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
    return Answer(413, b"<html>too large</html>", HTML) if UIDS[0] in parts else honest(pacs, parts)


def _late(node: Forwarding) -> Behaviour:
    def answer(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        node.clock.advance(15 * 60_000)
        return honest(pacs, parts)

    return answer


def _check_proof(node: Forwarding, pacs: LyingPacs, entry: Any) -> None:
    """Nothing has ended unless the PACS holds every image, byte for byte."""
    if node.view(entry).tombstone is not None:
        assert pacs.kept == KEPT


def _end(node: Forwarding, entry: Any) -> str:
    if node.view(entry).tombstone is not None:
        return node.state(entry)
    troubles = node.troubles(entry)
    return troubles[0][0] if troubles else "waiting"


def table() -> str:
    """Return the cases as the Markdown that docs/pacs.md shows."""
    ends = {"delivered": "delivered, proven", "waiting": "asked again, for ever"}
    rows = [
        f"| {case.who} | {case.does} | {', '.join(dict.fromkeys(o or 'not known' for o in case.first))} "
        f"| {case.after or ''} | {ends.get(case.then, f'a person: `{case.then}`')} |"
        for case in CASES
    ]
    head = "| who | what it does | what is noted of the images | what waits | how it ends |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def test_the_table_stands_in_the_docs() -> None:
    """Whoever runs a PACS looks up here what becomes of a study."""
    assert table() in (ROOT / "docs" / "pacs.md").read_text(encoding="utf-8")
