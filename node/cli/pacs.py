"""Commands about destinations: pacs add, list, test, remove."""

from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.options import Data, Json, group
from node.cli.output import Output, told_plainly
from node.cli.remote import running
from node.errors import Refused
from sync.evidence import Evidence

pacs = group("Where studies are delivered.")

_KINDS = ("dicomweb", "orthanc", "dimse")


@pacs.command("add")
def add_pacs(
    name: Annotated[str, typer.Argument(help="What to call it: letters, digits, dots, dashes.")],
    url: Annotated[
        str,
        typer.Argument(
            help="Its DICOMweb root, such as https://pacs.example/dicom-web, or dicom://TITLE@pacs.example:104."
        ),
    ],
    data: Data,
    kind: Annotated[
        str, typer.Option(help="dicomweb, orthanc (its own REST API), or dimse. [default: by the address]")
    ] = "",
    user: Annotated[str, typer.Option(help="For Basic authentication.")] = "",
    ask_password: Annotated[bool, typer.Option("--password", help="Ask for the password.")] = False,
    ask_bearer: Annotated[bool, typer.Option("--bearer", help="Ask for a bearer token.")] = False,
    token_url: Annotated[str, typer.Option(help="OAuth 2: where tokens are fetched.")] = "",
    client_id: Annotated[str, typer.Option(help="OAuth 2: who we are there; asks for the secret.")] = "",
    scope: Annotated[str, typer.Option(help="OAuth 2: what to ask for.")] = "",
    certificate: Annotated[
        Path | None, typer.Option(help="Our certificate, if it wants one (PEM).", exists=True, dir_okay=False)
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The certificate's private key (PEM).", exists=True, dir_okay=False)
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            help="Trust these certificates for it, and no public ones (PEM).", exists=True, dir_okay=False
        ),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Another header field, 'Name: value'; may be repeated.")
    ] = None,
    calling: Annotated[str, typer.Option(help="dimse: our own title. [default: CLINICMESH]")] = "",
    evidence: Annotated[
        Evidence, typer.Option(help="How strongly it must show each image before anything is erased.")
    ] = Evidence.READ_BACK,
    modality: Annotated[
        list[str] | None, typer.Option(help="Takes by itself only studies with it; may be repeated.")
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--from", help="Takes by itself only studies of this node; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell the whole mesh of a PACS, or change one. Credentials are sealed to the nodes that deliver."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        body: dict[str, Any] = {
            "name": name,
            "url": url,
            "type": _kind(kind, url),
            "evidence": evidence.value,
            "user": user,
            "token_url": token_url,
            "client_id": client_id,
            "scope": scope,
            "calling": calling,
            "certificate": _text(certificate),
            "key": _text(key),
            "ca": _text(ca),
            "headers": dict(map(_header, header or [])),
            "modalities": modality or [],
            "origins": origin or [],
        }
        for field, text, wanted in (
            ("password", "Password", ask_password),
            ("bearer", "Bearer token", ask_bearer),
            ("client_secret", "Client secret", bool(client_id)),
        ):
            if wanted:
                body[field] = typer.prompt(text, hide_input=True, err=True)
        out.value(remote.post("/api/v1/destinations", body))
        out.say(
            f"The PACS [bold]{name}[/] is known to the mesh; it must show {evidence.value} of each image."
        )
        out.say(f"Next: [bold]clinicmesh pacs test {name}[/] looks whether it can be reached and asked.")


@pacs.command("list")
def list_pacs(data: Data, as_json: Json = False) -> None:
    """List the PACS that the mesh knows."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.get("/api/v1/destinations")
        out.value(said)
        out.table(["name", "kind", "evidence", "takes", "credentials"], map(_row, said["destinations"]))
        if not said["destinations"]:
            out.say("No PACS is known to the mesh. [bold]clinicmesh pacs add[/] tells it of one.")


@pacs.command("remove")
def remove_pacs(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    data: Data,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take a PACS away. Studies that name it wait until a person chooses another one; none is lost."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if not yes:
            typer.confirm(f"Deliver nothing to {name} any more?", abort=True, err=True)
        out.value(remote.delete(f"/api/v1/destinations/{name}"))
        out.say(f"The PACS [bold]{name}[/] is taken away. Each node learns of it at its next meeting.")


@pacs.command("test")
def test_pacs(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    data: Data,
    write: Annotated[
        bool, typer.Option("--write", help="Also send a made-up study, to learn what it takes and changes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before writing.")] = False,
    as_json: Json = False,
) -> None:
    """Look whether a PACS can be reached and asked, as this node sees it. Changes nothing there.

    With --write it asks first, then sends a made-up study of the patient TEST^CLINICMESH, learns how large
    images may be, which codings and kinds it takes and what it changes, and removes the study again where the
    PACS allows that. What it learns is told to all nodes that deliver.
    """
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if write and not yes:
            text = f"Send a made-up study (patient TEST^CLINICMESH, about 60 MB) to {name}?"
            typer.confirm(text, abort=True, err=True)
        with out.busy(f"Looking at {name} …"):
            said = remote.post(f"/api/v1/destinations/{name}/test", {"write": write})
        out.value(said)
        _show(out, said, write=write)
    if not said["sound"]:
        raise typer.Exit(1)


_MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]look[/]", "failed": "[red]fails[/]", "skipped": "–"}


def _show(out: Output, said: dict[str, Any], *, write: bool) -> None:
    for one in said["findings"]:
        out.say(f"{_MARKS[one['state']]}  [bold]{one['check']}[/]: {one['detail']}")
        if one["advice"]:
            out.say(f"      → {one['advice']}")
    if said["told"]:
        out.say("What was learnt is told to all nodes that deliver.")
    if not said["sound"]:
        out.say(f"[bold]{said['name']} cannot be delivered to like this.[/] Studies wait; none is lost.")
    elif write:
        out.say(f"[bold]{said['name']} takes studies.[/]")
    else:
        out.say(
            f"[bold]{said['name']} can be reached and asked.[/] `--write` shows whether it takes studies."
        )


def _row(one: dict[str, Any]) -> list[object]:
    takes = [*one["modalities"], *(f"from {node[:8]}" for node in one["origins"])]
    sealed = "none needed"
    if one["credentials"]:
        missing = one["forwarders_without"]
        sealed = f"not yet for {missing} node(s)" if missing else "for all that deliver"
    return [one["name"], one["type"], one["evidence"], ", ".join(takes) or "all", sealed]


def _kind(kind: str, url: str) -> str:
    kind = kind or ("dimse" if url.startswith("dicom") else "dicomweb")
    if kind not in _KINDS:
        raise Refused("bad-request", f"--kind is one of {', '.join(_KINDS)}.")
    return kind


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        raise Refused("bad-credentials", f"{path.name} is no PEM file that can be read.") from None


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise Refused("bad-request", "--header is of the form 'Name: value'.")
    return name.strip(), value.strip()
