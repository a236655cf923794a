"""A clinic, a courier and a cloud node whose processes are killed at random moments while studies travel.

Called by tests/journey/test_kills.py and, for longer, by bench/kills.py.
"""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.archives import by_uid, read_back
from support.nodes import HandIn, RealNode
from support.servers import serve
from support.slices import made_slice

from node import sandbox_pacs

_PACS_TAKES_S = 0.01
_SHORT = {
    "incoming": "SELECT count(*) FROM entry WHERE NOT complete AND ended_ms IS NULL AND NOT erased",
    "held": "SELECT count(*) FROM entry WHERE complete AND ended_ms IS NULL",
    "delivering": "SELECT count(*) FROM proof",
    "ended": "SELECT count(*) FROM entry WHERE ended_ms IS NOT NULL AND NOT erased",
    "erasing": "SELECT count(*) FROM entry WHERE erasing AND NOT erased",
}
_MOMENTS = ("any", *_SHORT)


@dataclass
class CountingPacs:
    """A sandbox PACS that counts how often each SOP Instance UID arrived."""

    url: str
    arrived: Counter[str] = field(default_factory=Counter)


@contextmanager
def counting_pacs(folder: Path) -> Iterator[CountingPacs]:
    """Serve a sandbox PACS that counts, and takes its time as a real one does."""
    arrived: Counter[str] = Counter()
    honest = sandbox_pacs.SandboxArchive.take

    def take(archive: sandbox_pacs.SandboxArchive, part: Path, study: str | None) -> object:
        time.sleep(_PACS_TAKES_S)
        kept, reason = honest(archive, part, study)
        if kept is not None:
            arrived[kept.uid] += 1
        return kept, reason

    sandbox_pacs.SandboxArchive.take = take  # type: ignore[assignment,method-assign]
    try:
        with serve(sandbox_pacs.sandbox_app(folder)) as url:
            yield CountingPacs(f"{url}/dicom-web", arrived)
    finally:
        sandbox_pacs.SandboxArchive.take = honest  # type: ignore[method-assign]


def noisy_study(number: int, slices: int, octets: int) -> dict[str, bytes]:
    """Return a study that no codec makes smaller, so that each phase lasts a while."""
    dice = random.Random(number)
    files = {}
    for at in range(1, slices + 1):
        data = made_slice(number, at, octets=octets)
        pixels = octets // 2 * 2 // 4 * 3
        files[f"S{number}/IM{at:04}"] = data[:-pixels] + dice.randbytes(pixels)
    return files


class Killing:
    """Kills and restarts nodes while studies travel; everything random comes from `seed`."""

    def __init__(self, nodes: Sequence[RealNode], reach: dict[str, list[RealNode]], seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()  # what a killed node had on its disk in that moment
        self._nodes = nodes
        self._reach = reach
        self._seed = seed

    def run(self, studies: Sequence[dict[str, bytes]], kills_each: int, apart_s: float) -> list[str]:
        """Hand studies in at the first node, one after another, while every node is killed so many times.

        Returns the entries. All nodes run when it is done.
        """
        with ThreadPoolExecutor(len(self._nodes) + len(studies)) as pool:
            uploads = [pool.submit(self._hand_in, study, n * apart_s) for n, study in enumerate(studies)]
            killers = [pool.submit(self._kill, node, kills_each) for node in self._nodes]
            for killer in killers:
                killer.result()
            return [entry for upload in uploads for entry in upload.result()]

    def _hand_in(self, files: dict[str, bytes], after_s: float) -> list[str]:
        time.sleep(after_s)
        return HandIn(self._nodes[0], files).until_kept()

    def _kill(self, node: RealNode, times: int) -> None:
        dice = random.Random(f"{self._seed} {node.label}")
        for _ in range(times):
            time.sleep(0.2 + dice.random())
            _wait_for_moment(node, dice.choice(_MOMENTS), dice.choice((0.5, 1.0, 2.0)) * dice.random())
            node.kill()
            self.kills[node.label] += 1
            self.struck.update(_under_way(node))
            node.start(self._reach[node.label])


def _wait_for_moment(node: RealNode, moment: str, seconds: float) -> None:
    """Wait until the node is at something short, or for so long at most."""
    deadline = time.monotonic() + seconds
    with closing(_rows(node)) as rows:
        while time.monotonic() < deadline and moment not in _told(rows):
            time.sleep(0.003)


def _under_way(node: RealNode) -> Iterator[str]:
    """Tell what a killed node was at, as far as its disk shows it."""
    if any(path.is_file() for path in node.home.spool.rglob("*")):
        yield "uploads"
    with closing(_rows(node)) as rows:
        yield from _told(rows)


def _rows(node: RealNode) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{node.home.database}?mode=ro", uri=True)


def _told(rows: sqlite3.Connection) -> set[str]:
    return {name for name, question in _SHORT.items() if rows.execute(question).fetchone()[0]}


def settle(nodes: Sequence[RealNode], entries: Sequence[str], seconds: float) -> None:
    """Wait until every node knows that every study is delivered, holds nothing, and knows that of all."""
    deadline = time.monotonic() + seconds
    for node in nodes:
        node.wait(
            lambda node=node: (
                {story["state"] for story in node.stories().values()} == {"delivered"}
                and set(entries) <= set(node.stories())
            ),
            "every study to be delivered",
            deadline - time.monotonic(),
        )
        node.wait(lambda node=node: not node.blobs(), "to erase all", deadline - time.monotonic())
    for node in nodes:
        node.wait(
            lambda node=node: all(
                story["erased"]["n"] == story["erased"]["of"] == len(nodes)
                for story in node.stories().values()
            ),
            "to know that all is erased",
            deadline - time.monotonic(),
        )


def check(nodes: Sequence[RealNode], pacs: CountingPacs, studies: Sequence[dict[str, bytes]]) -> None:
    """Check that the PACS holds every image bit for bit and got each once, and that nothing is left over."""
    files = [data for study in studies for data in study.values()]
    assert read_back(pacs.url, files) == by_uid(files)
    assert {uid: n for uid, n in pacs.arrived.items() if n != 1} == {}
    for node in nodes:
        printed = node.out.read_text()
        assert "Traceback" not in printed, printed[printed.index("Traceback") :][:3000]
        assert [path for path in node.home.spool.rglob("*") if path.is_file()] == []
