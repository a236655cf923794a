"""Commands that make, join and run a node: init, invite, join, run, peers."""

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from node import logs
from node.addresses import default_label, own_addresses
from node.callers import raise_file_limit
from node.cli import members, passphrases
from node.cli.options import Data, Json
from node.cli.output import Output, told_plainly
from node.cli.passphrases import Passphrase, Unprotected
from node.cli.remote import running
from node.clock import SystemClock
from node.config import Settings
from node.errors import PeerUnreachable, Refused
from node.home import Home, Membership
from node.keys import random_octets
from node.mesh.enrolment import link_of, parse_link
from node.recovery import MAX_ROOTS, RecoverySheet
from sync.bodies import Role
from sync.errors import BadInvitation
from sync.genesis import Mode
from sync.ids import short
from sync.invitation import parse_code

PRESETS = {
    "clinic": [Role.INGEST, Role.CARRY, Role.ENROL],
    "courier": [Role.CARRY],
    "cloud": [Role.CARRY, Role.FORWARD],
    "forwarder": [Role.INGEST, Role.CARRY, Role.FORWARD, Role.ENROL],
}

_PATIENCE_S = 7.0
_SEARCH_S = 20.0


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
    roots: Annotated[
        int, typer.Option(min=1, max=MAX_ROOTS, help="How many recovery sheets; each is enough by itself.")
    ] = 1,
    passphrase: Passphrase = False,
    unprotected: Unprotected = False,
    as_json: Json = False,
) -> None:
    """Make a new mesh, with this node as its first member.

    Prints the recovery sheet ONCE: write it down, keep it in two places, and never on a computer. It opens
    every study and admits nodes when all else is lost. With several roots there is a sheet for each, and a
    stolen one can be revoked with another.
    """
    from node import founding  # brings the database along; only what needs it should wait for that

    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json):
        sheets = RecoverySheet.create_many(roots, random_octets)
        founding.found(
            Home(data),
            mesh_name=name,
            label=label or default_label(),
            mode=mode,
            roles=[role.value for role in Role],
            passphrase=passphrases.for_founder(Settings.load(data), ask=passphrase, unprotected=unprotected),
            clock=SystemClock(),
            random=random_octets,
            sheets=sheets,
        )
        mesh = Home(data).membership().genesis.mesh_id.hex()
    lines = [sheet.lines() for sheet in sheets]
    out.value({"mesh": mesh, "data": str(data), "recovery_sheet": lines[0], "recovery_sheets": lines})
    out.say(f"The mesh [bold]{name}[/] is made; its data folder is {data}.")
    for number, sheet in enumerate(lines, 1):
        root = sheets[number - 1].root.id
        which = f" {number} of {roots}, root {short(root)}" if roots > 1 else ""
        out.say(
            f"\n[bold]Recovery sheet{which}.[/] Write it on paper now: it is shown once and stored nowhere."
        )
        for line in sheet:
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
    file: Annotated[
        Path | None, typer.Option(help="Write an invitation file instead, for a machine out of reach.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a code with which ONE other node may join, within ten minutes; or a file, within a day."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        if not role and preset not in PRESETS:
            raise Refused("bad-preset", f"--as is one of {', '.join(PRESETS)}.")
        roles = [one.value for one in role or PRESETS[preset]]
        body = {"roles": roles, "label": label}
        if file is not None:
            members.write_invitation(remote, out, data, file, body)
            return
        said = remote.post("/api/v1/admin/invitations", body)
    addresses = [f"{ip}:{said['port']}" for ip in _reachable()]
    link = link_of(said["code"], addresses)
    out.value({**said, "addresses": addresses, "link": link})
    out.say(f"Code: [bold]{said['code']}[/]   (works once, for {said['expires_in'] // 60} minutes)")
    out.say(
        "On the other machine: [bold]clinicmesh join CODE --at " + (addresses or ["HOST:PORT"])[0] + "[/]"
    )
    out.say(f"or, in quotation marks, what this code holds: {link}")
    if not as_json:
        import segno  # loaded only where a code is shown

        segno.make_qr(link, error="m").terminal(compact=True)


def _reachable() -> list[str]:
    """Return this machine's addresses at which another one may reach it."""
    addresses = [ip for ip in own_addresses() if "." in ip]
    return [ip for ip in addresses if not ip.startswith(("127.", "169.254."))] or addresses


def join(
    data: Data,
    code: Annotated[
        str, typer.Argument(help="What `clinicmesh invite` printed: the code, or the text in the QR code.")
    ] = "",
    at: Annotated[
        str,
        typer.Option(
            "--at", help="Where the inviting node listens: HOST or HOST:PORT. [default: looked for near by]"
        ),
    ] = "",
    invitation: Annotated[
        Path | None,
        typer.Option("--from", help="Without a line: the invitation file.", exists=True, dir_okay=False),
    ] = None,
    request: Annotated[Path | None, typer.Option(help="With --from: where to write the request.")] = None,
    response: Annotated[
        Path | None,
        typer.Option(help="Without a line: the answer to the request.", exists=True, dir_okay=False),
    ] = None,
    label: Annotated[str, typer.Option(help="What people call this node. [default: its host name]")] = "",
    remember: Annotated[
        bool, typer.Option(help="Look for the inviting node at that address from now on.")
    ] = True,
    passphrase: Passphrase = False,
    unprotected: Unprotected = False,
    as_json: Json = False,
) -> None:
    """Join a mesh with a code from one of its nodes, or by files that a stick carries."""
    out = Output(as_json=as_json)

    def secret() -> str | None:
        return passphrases.for_joiner(Settings.load(data), ask=passphrase, unprotected=unprotected)

    with told_plainly(as_json=as_json):
        if invitation is not None and request is not None:
            members.ask_by_file(
                data,
                out,
                invitation=invitation,
                request=request,
                label=label or default_label(),
                passphrase=secret(),
            )
            return
        if response is not None:
            membership = members.join_by_file(data, response)
        else:
            said, addresses = parse_link(code)
            addresses = (at,) if at else addresses
            if not said:
                raise Refused("bad-invitation", "Give the code, or --from and --request, or --response.")
            parse_code(said)  # a slip of the finger is told before anybody is asked
            membership = _join_at_one(
                data,
                said,
                [one if ":" in one else f"{one}:8444" for one in addresses] or _near_by(out),
                label=label or default_label(),
                passphrase=secret(),
                remember=remember,
            )
    genesis = membership.genesis
    out.value({"mesh": genesis.mesh_id.hex(), "name": genesis.name, "data": str(data)})
    out.say(f"This node belongs to [bold]{genesis.name}[/] now. Start it with [bold]clinicmesh run[/].")


def _near_by(out: Output) -> Iterator[str]:
    """Give the places of nodes on the local network, while they come up."""
    from node.mesh.discovery import nearby

    out.say("Looking for the node that made this code on the local network …")
    return nearby(_SEARCH_S)


def _join_at_one(
    data: Path, code: str, addresses: Iterable[str], *, label: str, passphrase: str | None, remember: bool
) -> Membership:
    """Join at the first address at which the inviting node answers; the code names its key."""
    from node import founding

    near = isinstance(addresses, Iterator)  # what was found is found again; only what was typed is kept
    last: PeerUnreachable | BadInvitation | None = None
    for address in addresses:
        try:
            return founding.join(
                Home(data),
                address=address,
                code=code,
                label=label,
                passphrase=passphrase,
                clock=SystemClock(),
                random=random_octets,
                remember=remember and not near,
            )
        except (PeerUnreachable, BadInvitation) as error:
            last = error
    if near:
        last = PeerUnreachable(
            "the node that made this code was not found on the local network; join with --at HOST"
        )
    raise last or BadInvitation("the invitation holds no address")


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
    unprotected: Unprotected = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run this node until it is stopped (Ctrl+C). Other settings: node.toml in the data folder."""
    gc.disable()  # nothing of what is loaded now ever becomes garbage
    from node.service import Service, open_node

    gc.freeze()
    gc.enable()
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
        raise_file_limit()
        logs.setup(Home(data).logs, verbose=verbose)
        home = Home(data)
        known = passphrases.typed() if passphrase else passphrases.that_waits(home, settings)
        with open_node(home, settings, passphrase=known) as node:
            passphrases.demand(node, unprotected=unprotected)
            service = Service(node)
            stop = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            where = service.start()
            out = Output(as_json=False)
            if not node.keystore.protected and node.opens_patient_data:
                out.say("[yellow]The keys of patient data lie open here:[/] for demonstrations only.")
            if node.keystore.locked:
                out.say(
                    "[yellow]The node is locked:[/] uploads are taken and wait. `clinicmesh unlock` opens it."
                )
            out.say(f"ClinicMesh [bold]{node.membership.label}[/] of {node.membership.genesis.name} runs.")
            out.say(f"  This machine's browser:  {where.local}")
            out.say(f"  Other devices:           {where.people or 'no certificate yet'}")
            out.say(f"  Other nodes:             {where.mesh}")
            while not stop.wait(0.5):
                pass
            _end_anyway()
            service.stop()
