"""Commands about the audit trail: audit show, audit verify, audit export."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from node.audit import heard_of, verify
from node.cli.options import Data, Json, group
from node.cli.output import Output, told_plainly
from node.cli.remote import Remote, running
from node.errors import Refused

audit = group("Who did what to which study: the trail that cannot be changed unseen.")
_OUTCOMES = {0: "", 4: "refused", 8: "failed"}


@audit.command("show")
def show(
    data: Data,
    last: Annotated[int, typer.Option(help="How many of the newest lines.", min=1)] = 40,
    entry: Annotated[str, typer.Option(help="Only of this entry or submission; first digits do.")] = "",
    as_json: Json = False,
) -> None:
    """Show the newest lines: when, who, what, to which entry."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = [
            line for line in _lines(remote) if line.get("ParticipantObjectID", "").startswith(entry.lower())
        ]
        shown = said[-last:]
        out.value(shown)
        rows = [
            [
                line["EventDateTime"][:19].replace("T", " "),
                line["UserID"],
                line["What"],
                line.get("ParticipantObjectID", "")[:8],
                " ".join(
                    [_OUTCOMES.get(line["EventOutcomeIndicator"], ""), *_told(line.get("Detail", {}))]
                ).strip(),
            ]
            for line in shown
        ]
        out.table(["when (UTC)", "who", "what", "entry", "more"], rows)
        if not rows:
            out.say("Nothing was recorded yet." if not entry else "Nothing was recorded about that entry.")


@audit.command("verify")
def check(
    data: Data,
    of: Annotated[
        Path | None,
        typer.Option(
            "--of",
            help="What `audit export` wrote at another node: hold it against the heads that this one heard.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that no line was changed, moved or cut off. Exit code 1 if one was.

    A node's own look cannot tell that its owner wrote the trail anew and signed that. Another node can: with
    --of it compares the other's export with every head that it has heard from it.
    """
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if of is not None:
            _check_other(out, remote, of)
            return
        said = remote.get("/api/v1/admin/audit/verify")
        out.value(said)
        if said["broken_at"] is not None:
            out.say(f"[bold red]Line {said['broken_at']} is not what was written[/]; those before it are.")
        if said["missing"]:
            out.say(
                f"[bold red]{said['missing']} lines are missing at the end[/]: this node has signed a head "
                f"of {said['signed']} lines. Was an old copy of its data folder restored?"
            )
        if said["intact"]:
            out.say(
                f"[bold]Intact[/]: {said['lines']} lines; the last signed head is of line {said['signed']}."
            )
        if not said["intact"]:
            raise typer.Exit(1)


@audit.command("export")
def export(
    data: Data,
    to: Annotated[Path | None, typer.Option("--to", help="A file. [default: standard output]")] = None,
    after: Annotated[
        int, typer.Option(help="Leave out so many lines: those that were exported before.", min=0)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Write the trail as JSON lines, named after DICOM PS3.15 A.5, for a log server or an auditor."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        text = remote.text(f"/api/v1/admin/audit?after={after}")
        if to is None:
            print(text, end="")
            return
        try:
            with to.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise Refused("file-exists", "There is a file of that name already; choose another.") from None
        count = text.count("\n")
        out.value({"lines": count, "file": str(to)})
        out.say(f"{count} lines written to {to}.")


def _check_other(out: Output, remote: Remote, of: Path) -> None:
    """Hold another node's exported trail against the heads of it that this node's trail has noted."""
    octets = of.read_bytes().splitlines()
    try:
        source = str(json.loads(octets[0])["AuditSourceID"])
    except (IndexError, ValueError, KeyError, TypeError):
        raise Refused("no-trail", "This file is not what `clinicmesh audit export` writes.") from None
    heads = heard_of(remote.text("/api/v1/admin/audit").splitlines(), source)
    found = verify(iter(octets), heads)
    out.value(
        {
            "node": source.removeprefix("node:"),
            "intact": found.intact,
            "lines": found.lines,
            "broken_at": found.broken_at,
            "missing": found.missing,
            "heads": len(heads),
        }
    )
    if found.broken_at is not None:
        out.say(f"[bold red]Line {found.broken_at} is not what was written[/], or one before it.")
    if found.missing:
        out.say(f"[bold red]{found.missing} lines are missing at the end.[/]")
    if found.intact:
        last = max(heads, default=0)
        out.say(
            f"[bold]Intact[/]: {found.lines} lines; {len(heads)} heads were heard, the last of line {last}."
        )
    if not found.intact:
        raise typer.Exit(1)


def _lines(remote: Remote) -> Iterator[dict[str, Any]]:
    for line in remote.text("/api/v1/admin/audit").splitlines():
        yield json.loads(line)


def _told(detail: dict[str, Any]) -> list[str]:
    return [f"{key} {value}" for key, value in detail.items() if key != "fact"]
