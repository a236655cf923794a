"""Commands about people's devices and destinations: device add, pacs add, pacs list."""

from typing import Annotated

import segno
import typer

from node.cli.options import Data, Json
from node.cli.output import Output, told_plainly
from node.cli.remote import running
from sync.evidence import Evidence

device = typer.Typer(help="People's phones and PCs.", no_args_is_help=True)
pacs = typer.Typer(help="Where studies are delivered.", no_args_is_help=True)


@device.command("add")
def add_device(
    data: Data,
    role: Annotated[str, typer.Option(help="clinician, lead or admin.")] = "clinician",
    as_json: Json = False,
) -> None:
    """Make a code with which ONE phone or PC is enrolled, within ten minutes."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.post("/api/v1/admin/device-codes", {"role": role})
        out.value(said)
        out.say(f"Code: [bold]{said['code']}[/]   (works once, for {said['expires_in'] // 60} minutes)")
        if not as_json:
            segno.make(said["code"], error="m").terminal(compact=True)


@pacs.command("add")
def add_pacs(
    name: Annotated[str, typer.Argument(help="What to call it: letters, digits, dots, dashes.")],
    url: Annotated[str, typer.Argument(help="Its DICOMweb root, such as https://pacs.example/dicom-web.")],
    data: Data,
    user: Annotated[str, typer.Option(help="For Basic authentication.")] = "",
    ask_password: Annotated[bool, typer.Option("--password", help="Ask for the password.")] = False,
    ask_bearer: Annotated[bool, typer.Option("--bearer", help="Ask for a bearer token.")] = False,
    evidence: Annotated[
        Evidence, typer.Option(help="How strongly it must show each image before anything is erased.")
    ] = Evidence.READ_BACK,
    as_json: Json = False,
) -> None:
    """Tell the whole mesh of a PACS. Credentials are sealed to the nodes that deliver."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        body = {"name": name, "url": url, "evidence": evidence.value, "user": user}
        if ask_password:
            body["password"] = typer.prompt("Password", hide_input=True, err=True)
        if ask_bearer:
            body["bearer"] = typer.prompt("Bearer token", hide_input=True, err=True)
        out.value(remote.post("/api/v1/destinations", body))
        out.say(
            f"The PACS [bold]{name}[/] is known to the mesh; it must show {evidence.value} of each image."
        )


@pacs.command("list")
def list_pacs(data: Data, as_json: Json = False) -> None:
    """List the PACS that the mesh knows."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.get("/api/v1/destinations")
        out.value(said)
        out.table(
            ["name", "type", "evidence"],
            [[one["name"], one["type"], one["evidence"]] for one in said["destinations"]],
        )
