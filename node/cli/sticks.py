"""Commands about USB sticks: stick export, import, list, forget."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import Data, Json, group
from node.cli.output import Output, many, told_plainly, when
from node.cli.remote import running

stick = group("USB sticks as couriers.")
Folder = Annotated[
    Path, typer.Argument(help="Where the stick is mounted.", exists=True, file_okay=False, resolve_path=True)
]


@stick.command("export")
def export_stick(
    folder: Folder,
    data: Data,
    name: Annotated[str, typer.Option(help="What to call the stick, if it has no name yet.")] = "",
    as_json: Json = False,
) -> None:
    """Put every undelivered study and all news on a stick, encrypted; take delivered ones off it."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        with out.busy("Writing to the stick. Do not pull it out …"):
            said = remote.post("/api/v1/admin/stick/export", {"folder": str(folder), "name": name})
        out.value(said)
        out.say(f"[bold]{said['aboard']} of {said['due']} studies aboard[/] of {said['name']}.")
        if said["left_out"]:
            out.say(f"{said['left_out']} found no room, or are damaged here. They wait here, and come again.")
        if said["removed"]:
            out.say(f"Delivered before, and taken off it now: {many(said['removed'], 'study')}.")
        out.say("You may pull the stick out now.")


@stick.command("import")
def import_stick(folder: Folder, data: Data, as_json: Json = False) -> None:
    """Take in what a stick carries: news, receipts, and every whole study that this node wants."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        with out.busy("Reading the stick and checking everything on it …"):
            said = remote.post("/api/v1/admin/stick/import", {"folder": str(folder)})
        out.value(said)
        brought = many(said["entries"], "study")
        out.say(f"From {said['name']}: [bold]{brought}[/] and {said['facts']} news taken in.")
        if said["known"]:
            out.say(f"Here already: {many(said['known'], 'study')}.")
        if said["ended"]:
            out.say(f"Delivered or taken back before: {many(said['ended'], 'study')}.")
        if said["refused"]:
            out.say(
                f"Not taken in: {many(said['refused'], 'study')}. No room here, or news are damaged. "
                "What was not taken in stays on the stick."
            )
        if said["damaged"]:
            out.say(f"{said['damaged']} files are damaged; where they come from still has them.")
        out.say("You may pull the stick out now.")


@stick.command("list")
def list_sticks(data: Data, as_json: Json = False) -> None:
    """List the sticks that are under way: who had each last, and what is aboard."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.get("/api/v1/admin/stick/list")
        out.value(said)
        rows = [
            [
                one["name"],
                "given up" if one["given_up"] else when(one["seen_at"]),
                one["seen_by"],
                one["on_their_way"],
                one["to_erase"] or "",
            ]
            for one in said["sticks"]
        ]
        out.table(["stick", "last plugged in", "at", "studies aboard", "to be erased"], rows)
        if not rows:
            out.say("No stick is under way.")


@stick.command("forget")
def forget_stick(
    name: Annotated[str, typer.Argument(help="Its name, or the first digits of its id.")],
    data: Data,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Give a stick up for lost. What is on it is encrypted; nobody waits for it to be erased any more."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if not yes:
            typer.confirm(f"Is the stick {name} lost for good?", abort=True, err=True)
        said = remote.post("/api/v1/admin/stick/forget", {"name": name})
        out.value(said)
        out.say(f"[bold]{said['name']}[/] is given up. If it turns up, plug it in: it counts again.")
