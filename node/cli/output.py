"""What commands print: text for people, or one JSON value with `--json`; errors with a next step."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from node.errors import NodeError
from sync.errors import SyncError

_NEXT = {
    "node-not-running": "Start it with `clinicmesh run`, then try again.",
    "keystore-locked": "Start the node with `clinicmesh run --passphrase`.",
    "keys-unprotected": "`clinicmesh passphrase`, then `clinicmesh run --passphrase`; "
    "for a node that is made now: --passphrase.",
    "disk-full": "Make room on the disk; nothing that was acknowledged is lost.",
    "peer-unreachable": "Check that the other node runs, and that both are on the same network.",
    "code-wrong": "Ask for a new code: each works once, for ten minutes.",
    "bad-invitation": "Check the code and the address, or ask for a new code.",
}


_LITERAL = "\0"  # after a bracket that is no tag
_TAG = re.compile(r"\[(/|bold red|bold|dim|red|yellow|green)\]")


SETBACKS = {
    "no-network": "the PACS is out of reach",
    "pacs-busy": "the PACS is busy",
    "credentials": "the PACS refuses the credentials, or this node is locked",
    "study": "tried again soon",
}
"""What kept a study from the PACS the last time, in words (`sync.forwarding.Setback`)."""


class Output:
    """Where a command prints. With `as_json` only JSON goes to standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False)

    def value(self, value: Any) -> None:
        """Print a value as JSON; nothing without `--json`."""
        if self.as_json:
            print(json.dumps(value, indent=2, ensure_ascii=False))

    def say(self, text: str) -> None:
        """Print a sentence for people, with `[bold]…[/]`, `[dim]` or a colour in it.

        A sentence that begins with spaces keeps them before each of its lines. What comes from elsewhere can
        do no more harm than to be bold; `plain` spares it that.
        """
        if not self.as_json:
            said = text.lstrip(" ")
            self.console.print(Padding(_styled(said), (0, 0, 0, len(text) - len(said)), expand=False))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
        """Print a table for people; nothing without rows. No cell is cut: a long one takes more lines."""
        cells = [[Text("" if cell is None else _printable(str(cell))) for cell in row] for row in rows]
        if self.as_json or not cells:
            return
        heads = [Column(name, overflow="fold") for name in columns]
        table = Table(
            *heads, title=title or None, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD
        )
        for row in cells:
            table.add_row(*row)
        self.console.print(table)

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[Progress]:
        """Show a bar for so many octets while the block runs; `advance(0, n)` moves it."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, disable=self.as_json) as progress:
            progress.add_task(text, total=total)
            yield progress

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show that something of unknown length is under way while the block runs."""
        if self.as_json:
            yield
            return
        with self.console.status(text):
            yield


@contextmanager
def told_plainly(*, as_json: bool = False) -> Iterator[None]:
    """Turn errors into one sentence, its code, and what to do next; exit with 1."""
    try:
        yield
    except (NodeError, SyncError) as error:
        detail = str(error) or error.code
        if as_json:
            print(json.dumps({"error": {"code": error.code, "detail": detail}}))
        else:
            console = Console(stderr=True, highlight=False)
            console.print(_styled(f"[bold]{detail}[/] ({error.code})"), soft_wrap=True)
            if error.code in _NEXT:
                console.print(_NEXT[error.code], soft_wrap=True)
        sys.stdout.flush()
        raise typer.Exit(1) from None


def plain(text: str) -> str:
    """Return text that came from elsewhere, whose brackets are no tags of ours."""
    return text.replace("[", "[" + _LITERAL)


def _styled(text: str) -> Text:
    """Return text with our few tags as styles."""
    shown, styles, begin = Text(), [""], 0
    for tag in _TAG.finditer(text):
        if tag[1] == "/" and len(styles) == 1:
            continue
        shown.append(_printable(text[begin : tag.start()]), styles[-1])
        begin = tag.end()
        if tag[1] == "/":
            styles.pop()
        else:
            styles.append(tag[1])
    return shown.append(_printable(text[begin:]), styles[-1])


def _printable(text: str) -> str:
    """Return text without what would move a terminal's cursor."""
    kept = text.replace(_LITERAL, "")
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in kept
    )


def many(count: int, what: str) -> str:
    """Return a number of things: 1 image, 2 images, 3 studies."""
    if count == 1:
        return f"1 {what}"
    return f"{count} {what[:-1]}ies" if what.endswith("y") else f"{count} {what}s"


def size(octets: float) -> str:
    """Return a size for people: 512 B, 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000 or unit == "GB":
            return f"{octets:.0f} {unit}" if unit == "B" or octets >= 100 else f"{octets:.1f} {unit}"
        octets /= 1000
    return ""


def when(unix_ms: int) -> str:
    """Return a moment for people, by this machine's clock and zone: 2026-03-01 14:05."""
    return datetime.fromtimestamp(unix_ms / 1000).strftime("%Y-%m-%d %H:%M")
