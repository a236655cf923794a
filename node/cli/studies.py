"""Commands about studies: studies, status, salvage; `submit` is in `node.cli.submitting`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.options import Data, Json
from node.cli.output import SETBACKS, Output, size, told_plainly
from node.cli.remote import running

NodeUrl = Annotated[
    str | None, typer.Option("--node", help="A running node's URL. [default: this machine's]")
]


def studies(data: Data, node: NodeUrl = None, as_json: Json = False) -> None:
    """List the studies of this mesh and where each is."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data, node) as remote:
        said = remote.get("/api/v1/studies")
        out.value(said)
        show_stories(out, said["studies"])
        if not said["studies"]:
            out.say("No study is known here. [bold]clinicmesh submit[/] hands one in.")


def salvage(
    folder: Annotated[Path, typer.Argument(help="The dead node's data folder, or its blobs.", exists=True)],
    data: Data,
    as_json: Json = False,
) -> None:
    """Hand over everything undelivered from the files of a dead node, without its database or keys."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        with out.busy("Reading the dead node's files, and taking over what was not delivered …"):
            said = remote.post("/api/v1/admin/salvage", {"folder": str(folder.resolve())})
        out.value(said)
        out.say(
            f"[bold]{said['handed_over']}[/] of {said['found']} entries handed over; "
            f"{said['known_already']} were here already, {said['ended_before']} had ended, "
            f"{said['incomplete']} are not whole in that folder."
        )


def show_stories(out: Output, stories: list[Any]) -> None:
    """Show where studies are."""
    rows = []
    for one in stories:
        erased = one["erased"]
        rows.append(
            [
                one["code"],
                _state(one) + (" !" if one["priority"] == "urgent" else ""),
                one["copies"],
                ", ".join(one["holders"]),
                size(one["bytes"]),
                f"{erased['n']} of {erased['of']}" if one["evidence"] else "",
                one["entry_id"][:8],
            ]
        )
    out.table(["study", "where it is", "copies", "also on", "size", "erased on", "entry"], rows)


def _state(story: Any) -> str:
    """Say where a study is, and, where that is known, what keeps it or when it will have arrived."""
    if story["trouble"] is not None:
        return f"{story['state']}: needs a person, see `clinicmesh troubles list`"
    delivery = story["delivery"] or {}
    if delivery.get("estimate_s") is not None:
        seconds = delivery["estimate_s"]
        about = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
        return f"{story['state']}, in about {about}"
    if delivery.get("setback"):
        return f"{story['state']}: {SETBACKS.get(delivery['setback'], delivery['setback'])}"
    return str(story["state"])


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"
