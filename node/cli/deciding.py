"""Commands for what people decide about studies: troubles, withdraw, recall; and receipts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.options import Data, Json, group
from node.cli.output import Output, told_plainly
from node.cli.remote import Remote, running
from node.errors import Refused

Entry = Annotated[
    str, typer.Argument(help="The study: its code (K7F-2QX), or the first digits of its entry.")
]
Person = Annotated[str, typer.Option(help="Who decides.")]
Reason = Annotated[str, typer.Option(help="Why, without patient data.")]

troubles = group("Entries that need a person.")


@troubles.command("list")
def list_troubles(data: Data, as_json: Json = False) -> None:
    """List what needs a person, and why."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.get("/api/v1/troubles")
        out.value(said)
        rows = [
            [one["code"], trouble["code"], trouble["instances"], trouble["detail"], one["entry_id"][:16]]
            for one in said["troubles"]
            for trouble in one["troubles"]
        ]
        out.table(["study", "why", "images", "what happened", "entry"], rows)
        for one in said["troubles"]:
            for reason in one["reasons"]:
                out.say(f"  {one['code']}: {len(reason['instances'])} × {reason['code']}: {reason['detail']}")
        if not rows:
            out.say("Nothing needs a person.")


@troubles.command("decide")
def decide(
    entry: Entry,
    decision: Annotated[str, typer.Argument(help="retry, accept, leave-out, destination or urgent.")],
    data: Data,
    person: Person,
    destination: Annotated[str, typer.Option(help="For `destination`: which PACS.")] = "",
    folder: Annotated[
        Path | None,
        typer.Option(help="For `leave-out`: where the images that are left out are written first."),
    ] = None,
    instance: Annotated[
        list[int] | None,
        typer.Option(help="For `leave-out` and `accept`: only this image, by its place. May be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide about an entry; the decision is signed and travels to the forwarders."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        body = {
            "entry_id": entry_of(remote, entry),
            "decision": decision,
            "person": person,
            "destination": destination,
            "folder": "" if folder is None else str(folder.resolve()),
            "instances": instance or None,
        }
        out.value(remote.post("/api/v1/admin/decisions", body))
        if decision == "leave-out":
            out.say(f"The images that are left out were written to {folder}. They hold patient data.")
        out.say("Decided. The forwarder acts on it as soon as it hears of it.")


def withdraw(entry: Entry, data: Data, person: Person, reason: Reason = "", as_json: Json = False) -> None:
    """Take a study back before the PACS has it: on the node that took it in, or on one that delivers."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        path = f"/api/v1/studies/{entry_of(remote, entry)}/withdraw"
        said = remote.post(path, {"person": person, "reason": reason})
        out.value(said)
        out.say("Taken back. Every node erases it as soon as it hears of it.")
        if said["proven"]:
            out.say(
                f"[bold]{said['proven']} of {said['instances']} images[/] are in the PACS already. Ask the "
                "hospital to delete them; `clinicmesh receipt` on the node that delivers names them."
            )


def recall(entry: Entry, data: Data, person: Person, reason: Reason = "", as_json: Json = False) -> None:
    """Have a delivered study sent again that the PACS has lost, on a node that delivers."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        path = f"/api/v1/studies/{entry_of(remote, entry)}/recall"
        out.value(remote.post(path, {"person": person, "reason": reason}))
        out.say("Recalled. Nodes that still hold the study announce it again, and it is delivered again.")


def receipt(entry: Entry, data: Data, as_json: Json = False) -> None:
    """Show what was proven of each image of a study that this node delivered. Holds UIDs."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.get(f"/api/v1/studies/{entry_of(remote, entry)}/receipt")
        out.value(said)
        if said["person"]:
            out.say(f"Taken back by {said['person']}. {said['reason'] or ''}")
        if said["digest"] is None:
            return
        out.say(f"{said['destination']} showed {len(said['instances'])} images, {said['demanded']} demanded.")
        out.say(f"Study {said['study_uid']}. Receipt {said['digest']}. Second look: {said['second_look']}.")
        out.table(["image", "shown", "sent as", "remark"], [_row(one) for one in said["instances"]])
        out.table(["left out"], [[one["uid"]] for one in said["left_out"]])


def entry_of(remote: Remote, named: str) -> str:
    """Return the entry that a person means by a code or by its first digits.

    Raises:
        Refused: none, or several.
    """
    if len(named) == 64:
        return named
    stories = remote.get("/api/v1/studies")["studies"]
    found = [
        one["entry_id"]
        for one in stories
        if one["code"] == named.upper() or (len(named) >= 8 and one["entry_id"].startswith(named.lower()))
    ]
    if len(found) != 1:
        raise Refused("study-unknown", "No study, or more than one, is known by that here.")
    return str(found[0])


def _row(one: Any) -> list[str]:
    sent = one["sent"]
    return [
        one["uid"] or one["sha256"][:16],
        one["level"],
        "" if sent is None else sent["how"],
        one["remark"],
    ]
