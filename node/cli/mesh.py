"""Commands that make, join and run a node: init, invite, join, run, peers."""

import contextlib
import os
import signal
import threading
from typing import Annotated

import typer

from node import logs
from node.addresses import default_label, own_addresses
from node.cli.options import Data, Json
from node.cli.output import Output, told_plainly
from node.cli.remote import running
from node.clock import SystemClock
from node.config import Settings
from node.errors import Refused
from node.home import Home
from node.keys import random_octets
from sync.bodies import Role
from sync.genesis import Mode

PRESETS = {
    "clinic": [Role.INGEST, Role.CARRY, Role.ENROL],
    "courier": [Role.CARRY],
    "cloud": [Role.CARRY, Role.FORWARD],
    "forwarder": [Role.INGEST, Role.CARRY, Role.FORWARD, Role.ENROL],
}

_PATIENCE_S = 7.0

Passphrase = Annotated[
    bool, typer.Option("--passphrase", help="Ask for a passphrase that protects what opens patient data.")
]


def _ask_passphrase(wanted: bool, *, confirm: bool = False) -> str | None:
    if not wanted:
        return None
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))


def _no_core_dumps() -> None:
    """Keep memory, which holds keys, out of files; Windows writes none by default."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_anyway() -> None:
    """End the process after some seconds even if a PACS or a peer keeps a job waiting.

    What is on disk is true at every moment, so nothing is lost by that.
    """
    last = threading.Timer(_PATIENCE_S, os._exit, (0,))
    last.daemon = True
    last.start()


def init(
    data: Data,
    name: Annotated[str, typer.Option(help="What people call the mesh.")] = "ClinicMesh",
    label: Annotated[str, typer.Option(help="What people call this node. [default: its host name]")] = "",
    mode: Annotated[
        Mode, typer.Option(help="Who may open studies: only cloud nodes, or trusted clinic laptops too.")
    ] = Mode.SEALED_COURIER,
    passphrase: Passphrase = False,
    as_json: Json = False,
) -> None:
    """Make a new mesh, with this node as its first member.

    Prints the recovery sheet ONCE: write it down, keep it in two places, and never on a computer. It opens
    every study and admits nodes when all else is lost.
    """
    from node import founding  # brings the database along; only what needs it should wait for that

    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json):
        sheet = founding.found(
            Home(data),
            mesh_name=name,
            label=label or default_label(),
            mode=mode,
            roles=[role.value for role in Role],
            passphrase=_ask_passphrase(passphrase, confirm=True),
            clock=SystemClock(),
            random=random_octets,
        )
        mesh = Home(data).membership().genesis.mesh_id.hex()
    out.value({"mesh": mesh, "data": str(data), "recovery_sheet": sheet.lines()})
    out.say(f"The mesh [bold]{name}[/] is made; its data folder is {data}.\n")
    out.say("[bold]Recovery sheet.[/] Write it on paper now: it is shown once and stored nowhere.")
    for line in sheet.lines():
        out.say(f"    {line}")
    out.say(
        "\nNext: [bold]clinicmesh run[/], then [bold]clinicmesh invite --as clinic[/] for the first laptop."
    )


def invite(
    data: Data,
    preset: Annotated[
        str,
        typer.Option("--as", help="clinic, courier, cloud, or forwarder (a clinic that delivers itself)."),
    ] = "clinic",
    label: Annotated[str, typer.Option(help="What to call the new node.")] = "",
    role: Annotated[list[Role] | None, typer.Option(help="Single roles instead of --as.")] = None,
    as_json: Json = False,
) -> None:
    """Make a code with which ONE other node may join, within ten minutes."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if not role and preset not in PRESETS:
            raise Refused("bad-preset", f"--as is one of {', '.join(PRESETS)}.")
        roles = [one.value for one in role or PRESETS[preset]]
        said = remote.post("/api/v1/admin/invitations", {"roles": roles, "label": label})
        addresses = [f"{ip}:{said['port']}" for ip in own_addresses() if "." in ip]
    out.value({**said, "addresses": addresses})
    out.say(f"Code: [bold]{said['code']}[/]   (works once, for {said['expires_in'] // 60} minutes)")
    out.say(
        "On the other machine: [bold]clinicmesh join CODE --at " + (addresses or ["HOST:PORT"])[0] + "[/]"
    )


def join(
    data: Data,
    code: Annotated[str, typer.Argument(help="The code that `clinicmesh invite` printed.")],
    at: Annotated[str, typer.Option("--at", help="Where the inviting node listens: HOST or HOST:PORT.")],
    label: Annotated[str, typer.Option(help="What people call this node. [default: its host name]")] = "",
    remember: Annotated[
        bool, typer.Option(help="Look for the inviting node at that address from now on.")
    ] = True,
    passphrase: Passphrase = False,
    as_json: Json = False,
) -> None:
    """Join a mesh with a code from one of its nodes."""
    from node import founding

    out = Output(as_json=as_json)
    address = at if ":" in at else f"{at}:8444"
    with told_plainly(as_json=as_json):
        membership = founding.join(
            Home(data),
            address=address,
            code=code,
            label=label or default_label(),
            passphrase=_ask_passphrase(passphrase, confirm=True),
            clock=SystemClock(),
            random=random_octets,
            remember=remember,
        )
    genesis = membership.genesis
    out.value({"mesh": genesis.mesh_id.hex(), "name": genesis.name, "data": str(data)})
    out.say(f"This node belongs to [bold]{genesis.name}[/] now. Start it with [bold]clinicmesh run[/].")


def run(
    data: Data,
    peer: Annotated[list[str] | None, typer.Option(help="Another node's HOST:PORT; may be repeated.")] = None,
    bind: Annotated[str | None, typer.Option(help="The address to listen at.")] = None,
    people_port: Annotated[int | None, typer.Option(help="HTTPS for people (8443).")] = None,
    local_port: Annotated[
        int | None, typer.Option(help="HTTP for this machine's own browser (8480).")
    ] = None,
    mesh_port: Annotated[int | None, typer.Option(help="For other nodes (8444).")] = None,
    hold_hours: Annotated[
        float | None, typer.Option(help="How long a delivered study is held back from shredding (72).")
    ] = None,
    passphrase: Passphrase = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run this node until it is stopped (Ctrl+C). Other settings: node.toml in the data folder."""
    from node.service import Service, open_node

    with told_plainly():
        settings = Settings.load(
            data,
            peers=peer or None,
            bind=bind,
            people_port=people_port,
            local_port=local_port,
            mesh_port=mesh_port,
            hold_hours=hold_hours,
        )
        _no_core_dumps()
        logs.setup(Home(data).logs, verbose=verbose)
        with open_node(Home(data), settings, passphrase=_ask_passphrase(passphrase)) as node:
            service = Service(node)
            stop = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            where = service.start()
            out = Output(as_json=False)
            out.say(f"ClinicMesh [bold]{node.membership.label}[/] of {node.membership.genesis.name} runs.")
            out.say(f"  This machine's browser:  {where.local}")
            out.say(f"  Other devices:           {where.people or 'no certificate yet'}")
            out.say(f"  Other nodes:             {where.mesh}")
            while not stop.wait(0.5):
                pass
            _end_anyway()
            service.stop()
