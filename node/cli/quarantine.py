"""Commands about files that could not be read: list, take out, send anyway, remove."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import Data, Json, group
from node.cli.output import Output, size, told_plainly
from node.cli.remote import Remote, running
from node.errors import Refused

quarantine = group("Files that could not be read, with their bytes.")

_SHOWN, _FEWEST = 8, 4  # digits of a submission: in the list, and to name it by
_File = Annotated[str, typer.Argument(metavar="FILE", help="The file, as `quarantine list` shows it.")]


@quarantine.command("list")
def list_files(data: Data, as_json: Json = False) -> None:
    """List what waits for a person, and why."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.get("/api/v1/admin/quarantine")
        out.value(said)
        rows = [
            [
                f"{one['submission'][:_SHOWN]}/{one['number']}",
                one["name"],
                one["code"],
                size(one["bytes"]),
                _may(one),
            ]
            for one in said["files"]
        ]
        out.table(["file", "called", "why", "size", "can be sent"], rows)
        for reason in dict.fromkeys(f"{one['code']}: {one['reason']}" for one in said["files"]):
            out.say(f"  {reason}")
        if not rows:
            out.say("Nothing is in quarantine.")


@quarantine.command("export")
def export(
    file: _File,
    to: Annotated[
        Path, typer.Argument(help="A new file for its bytes. It will hold patient data, unsealed.")
    ],
    data: Data,
    as_json: Json = False,
) -> None:
    """Take a file out, to have it looked at elsewhere. It stays in quarantine."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if to.exists():
            raise Refused("file-exists", "There is a file of this name already; name another one.")
        written = remote.download(f"/api/v1/admin/quarantine/{_path(remote, file)}", to)
        out.value({"file": file, "to": str(to), "bytes": written})
        out.say(f"{size(written)} written. [bold]Patient data, not sealed:[/] delete it when you are done.")


@quarantine.command("send")
def send(
    file: _File,
    data: Data,
    person: Annotated[str, typer.Option(help="Who decides.")],
    same_person: Annotated[
        bool,
        typer.Option(
            "--same-person",
            help="It names another patient than its study, or it was not noted whom; both are one.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a file as it is. If the PACS refuses it, that shows under `troubles`."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        body = {"person": person, "same_person": same_person}
        said = remote.post(f"/api/v1/admin/quarantine/{_path(remote, file)}/send", body)
        out.value(said)
        out.say(f"On its way as entry {said['entry_id'][:8]}.")


@quarantine.command("remove")
def remove(
    file: _File,
    data: Data,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Give a file up; its bytes are erased."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if not yes:
            typer.confirm("Its bytes are erased here for good. Go on?", abort=True, err=True)
        remote.delete(f"/api/v1/admin/quarantine/{_path(remote, file)}")
        out.value({"removed": file})
        out.say("Removed.")


def _path(remote: Remote, file: str) -> str:
    """Return the whole name of a file in quarantine, by the first digits of its submission and its number."""
    digits, _, number = file.partition("/")
    names = [
        f"{one['submission']}/{one['number']}"
        for one in remote.get("/api/v1/admin/quarantine")["files"]
        if len(digits) >= _FEWEST and one["submission"].startswith(digits) and str(one["number"]) == number
    ]
    if len(names) != 1:
        raise Refused("not-quarantined", "Name the file as `clinicmesh quarantine list` shows it.")
    return names[0]


def _may(one: dict[str, bool]) -> str:
    if not one["sendable"]:
        return "no"
    return "perhaps another patient" if one["other_patient"] else "yes"
