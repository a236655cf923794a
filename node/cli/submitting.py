"""The command `submit`: files, folders, ZIPs and mounted CDs, with the same checks as the app."""

import contextlib
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import typer

from node.cli.options import Data, Json
from node.cli.output import Output, many, plain, size, told_plainly
from node.cli.packing import Picked, StoredZip, Unreadable, pick, readable
from node.cli.remote import Remote, running
from node.cli.studies import NodeUrl, show_stories
from node.errors import Refused

_POLL_S = 0.3
_SETTLED = frozenset({"kept", "failed", "differs", "removed"})
_DELIVERED = frozenset({"delivered", "partly-delivered", "withdrawn", "recalled"})
_TROUBLED = frozenset({"troubled"})
_NAMED = 5


class Shows(StrEnum):
    """What pictures show."""

    PHOTO = "photo"
    FILM = "film"
    SCAN = "scan"
    SCREEN = "screen"


def submit(
    paths: Annotated[list[Path], typer.Argument(help="Files, folders, ZIPs or a mounted CD.", exists=True)],
    data: Data,
    node: NodeUrl = None,
    impression: Annotated[str, typer.Option(help="The referring clinician's impression.")] = "",
    pictures: Annotated[
        Shows | None,
        typer.Option(help="Send pictures and PDFs along; pictures show this. [default: they are left out]"),
    ] = None,
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
        kept = hand_in(remote, out, picked, confirmation, ask=not yes, pictures=pictures)
        stories = [remote.get(f"/api/v1/studies/{entry}") for entry in kept["entries"]]
        out.say("[bold]Safe on this node.[/] You can remove the CD or close the folder.")
        if kept["problem"] is not None:
            out.say(kept["problem"]["detail"])
        show_stories(out, stories)
        if wait:
            stories = [_wait_delivered(remote, out, entry) for entry in kept["entries"]]
        out.value({"submission": kept["id"], "state": kept["state"], "studies": stories})


def hand_in(
    remote: Remote,
    out: Output,
    picked: Sequence[Picked],
    confirmation: dict[str, Any],
    *,
    ask: bool,
    pictures: Shows | None = None,
) -> Any:
    """Upload files, show what they are, confirm, and return the submission once it is kept.

    Raises:
        Refused: nothing in it can be sent, or it is not what was confirmed.
    """
    made = _upload_readable(remote, out, list(picked))
    with out.busy("Looking at what it is …"):
        found = _wait_for(remote, made["id"], frozenset({"examined"}) | _SETTLED)
    if found["examination"] is not None:
        show_examination(out, found["examination"])
    if found["state"] != "examined":
        raise Refused(found["problem"]["code"], found["problem"]["detail"])
    chosen = _chosen(out, found["examination"], pictures)
    if ask and not (
        _are_one(found["examination"], chosen) and _yes("Is this the right patient, and shall it be sent?")
    ):
        remote.delete(f"/api/v1/submissions/{made['id']}")
        out.say("[bold]Not sent.[/] What was uploaded is erased on the node; your files are as they were.")
        raise typer.Exit(1)
    with out.busy("Sealing it …"):
        remote.post(f"/api/v1/submissions/{made['id']}/confirm", {**chosen, **confirmation})
        kept = _wait_for(remote, made["id"], _SETTLED)
    if kept["state"] != "kept":
        raise Refused(kept["problem"]["code"], kept["problem"]["detail"])
    return kept


def _are_one(examination: Any, chosen: dict[str, Any]) -> bool:
    """Ask of each study whose images name several patients whether they are one; `--yes` never says so."""
    for one, confirmed in zip(examination["studies"], chosen["studies"], strict=True):
        if one["other_patients"]:
            if not _yes("Images of one study name different patients. Are all of one person?"):
                return False
            confirmed["patients"] = 1 + len(one["other_patients"])
    return True


def _yes(question: str) -> bool:
    """Ask; whoever stops the command here, or is not there to be asked, has not said yes."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False


def _chosen(out: Output, examination: Any, pictures: Shows | None) -> dict[str, Any]:
    """Return which studies and documents are confirmed.

    Raises:
        Refused: pictures cannot be told whose they are.
    """
    keys = ("study_uid", "digest", "instances")
    studies = [{key: one[key] for key in keys} for one in examination["studies"]]
    documents = examination["documents"]
    if not documents or (pictures is None and studies):
        if documents:
            out.say("Pictures and PDFs are left out; `--pictures photo` sends them along.")
        return {"studies": studies}
    if len(studies) != 1:
        raise Refused(
            "document-study-unknown",
            "Pictures and PDFs are sent with the images of one study. Name its folder and them together, or "
            "use the app, which asks whose they are.",
        )
    kinds = [
        {"sha256": one["sha256"], "kind": "pdf" if one["kind"] == "pdf" else str(pictures)}
        for one in documents
    ]
    return {"studies": studies, "documents": kinds, "documents_study": studies[0]["study_uid"]}


def _upload_readable(remote: Remote, out: Output, picked: list[Picked]) -> Any:
    """Upload what can be read; what a scratched disc does not give is named and left out.

    Raises:
        Refused: nothing can be read.
    """
    while True:
        try:
            return _upload(remote, out, picked)
        except Unreadable as failed:
            with out.busy("A file cannot be read. Looking which others …"):
                good = [one for one in picked if one is not failed.picked and readable(one)]
            bad = [one.name for one in picked if one not in good]
            out.say(f"[bold]{many(len(bad), 'file')} cannot be read[/], left out: {_some(bad)}.")
            if not good:
                raise Refused("nothing-readable", "None of these files can be read.") from None
            picked = good


def _upload(remote: Remote, out: Output, picked: list[Picked]) -> Any:
    """Upload what was picked: one file as it is, several as one stored ZIP; return the submission.

    Raises:
        Unreadable: one of them cannot be read to its end; the submission was taken back.
    """
    single = len(picked) == 1
    made = remote.submission("file" if single else "zip")
    try:
        with contextlib.ExitStack() as stack:
            stream: BinaryIO
            if single:
                one = stack.enter_context(picked[0].opened())
                stream, length = cast("BinaryIO", one), one.length
            else:
                packed = StoredZip(picked)
                stream, length = cast("BinaryIO", packed), packed.length
            bar = stack.enter_context(out.progress(f"Uploading {many(len(picked), 'file')}", length))
            remote.upload(
                made["upload_url"],
                made["id"],
                stream,
                length,
                lambda sent: bar.advance(bar.task_ids[0], sent),
            )
    except Unreadable:
        remote.delete(f"/api/v1/submissions/{made['id']}")
        raise
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


def show_examination(out: Output, examination: Any) -> None:
    """Show what a submission holds, and what of it is not sent and why."""
    rows = [
        [
            one["patient"]["name"],
            one["patient"]["birth_date"],
            one["study_date"],
            ", ".join(one["modalities"]),
            ", ".join(one["body_parts"]),
            len(one["series"]),
            one["instances"],
            size(one["bytes"]),
        ]
        for one in examination["studies"]
    ]
    if rows:
        columns = ["patient", "born", "study date", "modality", "body part", "series", "images", "size"]
        out.table(columns, rows)
    for one in examination["studies"]:
        if one["other_patients"]:
            names = [f"{who['name']} ({who['id']})" for who in (one["patient"], *one["other_patients"])]
            out.say(f"[bold]Images of one study name different patients[/]: {_some(names)}.")
    if len(rows) > 1:
        count, patients = len(rows), examination["patients"]
        whose = "of one patient" if patients == 1 else f"of [bold]{patients} patients[/]"
        out.say(f"[bold]{count} studies[/] {whose}. All of them are sent.")
    _show_known(out, examination["studies"])
    _show_disc(out, examination["dicomdir"])
    for one in examination["documents"]:
        pixels = f", {one['width']} × {one['height']}" if one["width"] else ""
        out.say(f"  {one['kind'].upper()}: {plain(one['name'])} ({size(one['bytes'])}{pixels})")
    for kind in ("skipped", "quarantined"):
        by_reason: dict[str, list[str]] = {}
        for one in examination[kind]:
            by_reason.setdefault(one["reason"], []).append(one["name"])
        for reason, names in by_reason.items():
            out.say(f"  {len(names)} {kind}: {_some(names) or 'what you named'}. {reason}")


def _show_known(out: Output, studies: Any) -> None:
    known, changed = (sum(one[key] for one in studies) for key in ("known", "changed"))
    if known:
        out.say(f"Handed in here before: {many(known, 'image')}. The PACS keeps each of them once.")
    if any(one["repaired"] for one in studies):
        out.say("The files declare a wrong character set; names are shown as they were meant. Look at them.")
    if changed:
        out.say(
            f"[bold]Handed in before, with other content then: {many(changed, 'image')}.[/] "
            "The PACS will say which it keeps."
        )


def _show_disc(out: Output, disc: Any) -> None:
    if disc is None:
        return
    if disc["present"] == disc["listed"]:
        out.say(f"The CD lists {many(disc['listed'], 'image')}; nothing is missing.")
        return
    out.say(f"[bold]The CD lists {many(disc['listed'], 'image')}, {disc['present']} are here.[/]")
    out.say(f"  missing or cut off: {_some(disc['missing'])}.")


def _some(names: Sequence[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(plain, names[:_NAMED])) + more
