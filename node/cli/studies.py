"""Commands about studies: submit, studies, status, troubles, salvage."""

import contextlib
import time
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import typer

from node.cli.options import Data, Json
from node.cli.output import Output, size, told_plainly
from node.cli.packing import Picked, StoredZip, pick
from node.cli.remote import Remote, running
from node.errors import Refused

_POLL_S = 0.3
_SETTLED = frozenset({"kept", "failed", "differs", "removed"})
_DELIVERED = frozenset({"delivered", "partly-delivered", "withdrawn", "recalled"})
_TROUBLED = frozenset({"troubled"})
NodeUrl = Annotated[
    str | None, typer.Option("--node", help="A running node's URL. [default: this machine's]")
]


def submit(
    paths: Annotated[list[Path], typer.Argument(help="Files, folders, ZIPs or a mounted CD.", exists=True)],
    data: Data,
    node: NodeUrl = None,
    impression: Annotated[str, typer.Option(help="The referring clinician's impression.")] = "",
    urgent: Annotated[bool, typer.Option("--urgent", help="Let it travel first.")] = False,
    destination: Annotated[str | None, typer.Option(help="The PACS. [default: the only one]")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm without asking: the patient is right.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the PACS has it.")] = False,
    as_json: Json = False,
) -> None:
    """Hand studies in: upload, see what they are, confirm."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data, node) as remote:
        picked = pick(paths)
        if not picked:
            raise Refused("nothing-picked", "There are no files in what you named.")
        confirmation = {
            "impression": impression,
            "priority": "urgent" if urgent else "routine",
            "destination": destination,
        }
        kept = hand_in(remote, out, picked, confirmation, ask=not yes)
        stories = [remote.get(f"/api/v1/studies/{entry}") for entry in kept["entries"]]
        out.say("[bold]Safe on this node.[/] You can remove the CD or close the folder.")
        _show_stories(out, stories)
        if wait:
            stories = [_wait_delivered(remote, out, entry) for entry in kept["entries"]]
        out.value({"submission": kept["id"], "state": kept["state"], "studies": stories})


def studies(data: Data, node: NodeUrl = None, as_json: Json = False) -> None:
    """List the studies of this mesh and where each is."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data, node) as remote:
        said = remote.get("/api/v1/studies")
        out.value(said)
        _show_stories(out, said["studies"])


def status(data: Data, node: NodeUrl = None, as_json: Json = False) -> None:
    """Say how this node is: peers, what waits, disk."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data, node) as remote:
        said = remote.get("/api/v1/status")
        out.value(said)
        locked = " [bold red]locked[/]" if said["locked"] else ""
        out.say(
            f"[bold]{said['label']}[/] ({said['node']}) of {said['mesh']}{locked}, version {said['version']}"
        )
        out.say(f"Roles: {', '.join(said['roles']) or 'none'}.  Destinations: {_list(said['destinations'])}.")
        counts = ", ".join(f"{count} {state}" for state, count in said["studies"].items())
        disk = said["disk"]
        out.say(f"Studies: {counts or 'none'}.  Held: {size(disk['held'])}, free {size(disk['free'])}.")
        out.table(
            ["peer", "node", "last met"],
            [[one["address"], one["node"], _ago(one["met_s_ago"])] for one in said["peers"]],
        )


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


# -- steps ----------------------------------------------------------------------------------------


def hand_in(
    remote: Remote, out: Output, picked: list[Picked], confirmation: dict[str, Any], *, ask: bool
) -> Any:
    """Upload files, show what they are, confirm, and return the submission once it is kept.

    Raises:
        Refused: nothing in it can be sent, or it is not what was confirmed.
    """
    made = _upload(remote, out, picked)
    found = _wait_for(remote, made["id"], frozenset({"examined"}) | _SETTLED)
    if found["state"] != "examined":
        raise Refused(found["problem"]["code"], found["problem"]["detail"])
    _show_examination(out, found["examination"])
    if ask:
        typer.confirm("Is this the right patient, and shall it be sent?", abort=True, err=True)
    keys = ("study_uid", "digest", "instances")
    studies_ = [{key: one[key] for key in keys} for one in found["examination"]["studies"]]
    remote.post(f"/api/v1/submissions/{made['id']}/confirm", {"studies": studies_, **confirmation})
    kept = _wait_for(remote, made["id"], _SETTLED)
    if kept["state"] != "kept":
        raise Refused(kept["problem"]["code"], kept["problem"]["detail"])
    return kept


def _upload(remote: Remote, out: Output, picked: list[Picked]) -> Any:
    """Upload what was picked: one file as it is, several as one stored ZIP; return the submission."""
    single = len(picked) == 1
    made = remote.submission("file" if single else "zip")
    with contextlib.ExitStack() as stack:
        if single:
            file = stack.enter_context(picked[0].path.open("rb"))
            stream: BinaryIO = file
            length = picked[0].path.stat().st_size
        else:
            packed = StoredZip(picked)
            stream, length = cast("BinaryIO", packed), packed.length
        bar = stack.enter_context(out.progress(f"Uploading {len(picked)} files", length))
        remote.upload(
            made["upload_url"], made["id"], stream, length, lambda sent: bar.advance(bar.task_ids[0], sent)
        )
    return made


def _wait_for(remote: Remote, submission: str, states: frozenset[str]) -> Any:
    while True:
        said = remote.get(f"/api/v1/submissions/{submission}")
        if said["state"] in states:
            return said
        if said["problem"] is not None and said["problem"]["code"] == "keystore-locked":
            raise Refused("keystore-locked", said["problem"]["detail"])
        time.sleep(_POLL_S)


def _wait_delivered(remote: Remote, out: Output, entry: str) -> Any:
    """Wait until an entry has ended or needs a person; show each step as it happens."""
    shown: set[str] = set()
    while True:
        story = remote.get(f"/api/v1/studies/{entry}")
        for step in story["journey"]:
            if step["done"] and step["step"] not in shown:
                shown.add(step["step"])
                out.say(f"  {story['code']}: {step['step']} {step['by'] or ''}".rstrip())
        if story["state"] in _TROUBLED:
            raise Refused("needs-a-person", "The PACS refused a part of it; see `clinicmesh troubles list`.")
        if story["state"] in _DELIVERED:
            return story
        time.sleep(_POLL_S)


def _show_examination(out: Output, examination: Any) -> None:
    rows = [
        [
            one["patient"]["name"],
            one["patient"]["birth_date"],
            one["study_date"],
            ", ".join(one["modalities"]),
            len(one["series"]),
            one["instances"],
            size(one["bytes"]),
        ]
        for one in examination["studies"]
    ]
    out.table(["patient", "born", "study date", "modality", "series", "images", "size"], rows)
    if len(rows) > 1:
        count, patients = len(rows), examination["patients"]
        out.say(f"[bold]{count} studies of {patients} patients.[/] All of them are sent.")
    for kind in ("skipped", "quarantined"):
        by_reason: dict[str, list[str]] = {}
        for one in examination[kind]:
            by_reason.setdefault(one["reason"], []).append(one["name"])
        for reason, names in by_reason.items():
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            out.say(f"  {kind}: {', '.join(names[:2])}{more}. {reason}")


def _show_stories(out: Output, stories: list[Any]) -> None:
    rows = []
    for one in stories:
        erased = one["erased"]
        rows.append(
            [
                one["code"],
                one["state"],
                one["priority"],
                one["copies"],
                ", ".join(one["holders"]),
                size(one["bytes"]),
                f"{erased['n']} of {erased['of']}" if one["evidence"] else "",
                one["entry_id"][:8],
            ]
        )
    out.table(["study", "state", "priority", "copies", "also on", "size", "erased on", "entry"], rows)


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _ago(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    return f"{seconds} s ago" if seconds < 120 else f"{seconds // 60} min ago"
