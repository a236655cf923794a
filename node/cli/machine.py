"""Commands about this machine: doctor, passphrase, unlock, support-bundle."""

import io
import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from node import doctor as doctor_
from node.cli import passphrases
from node.cli.options import Data, Json
from node.cli.output import Output, told_plainly
from node.cli.remote import running
from node.config import Settings
from node.doctor import Level
from node.errors import NodeError, NotRunning, Refused
from node.home import Home
from node.keys import Keystore
from node.unlock import keep_in_keyring

_COLOURS = {Level.BAD: "bold red", Level.WARN: "yellow", Level.UNKNOWN: "dim", Level.GOOD: "green"}


def doctor(data: Data, as_json: Json = False) -> None:
    """Look for what endangers studies or patients on this machine, and say what to do. Changes nothing.

    Exit code 1 if something is bad.
    """
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json):
        found = doctor_.examine(Home(data), Settings.load(data))
        out.value({"findings": [asdict(one) for one in found]})
        for one in found:
            out.say(f"[{_COLOURS[one.level]}]{one.level.value:<8}[/]{one.says}")
            if one.advice:
                out.say(f"        → {one.advice}")
        counts = {level: sum(one.level is level for one in found) for level in Level}
        out.say(
            f"\n{counts[Level.BAD]} bad, {counts[Level.WARN]} to look at, {counts[Level.UNKNOWN]} unknown."
        )
        if counts[Level.BAD]:
            raise typer.Exit(1)


def passphrase(
    data: Data,
    remove: Annotated[
        bool, typer.Option("--remove", help="Keep the keys without one. Whoever has the disk has them.")
    ] = False,
    keyring: Annotated[
        bool,
        typer.Option(
            "--keyring", help='Keep it in the system\'s store of secrets too, for unlock = "keyring".'
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Put what opens patient data on this machine under a passphrase, or change it. Stop the node first.

    Write it down apart from the machine. Studies are not lost with it: the recovery sheet opens them too.
    """
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json):
        home = Home(data)
        with home.only_me():
            keystore = Keystore.load(home.keys)
            if keystore.locked:
                keystore.unlock(passphrases.typed("Passphrase until now"))
            new = None if remove else passphrases.new()
            if keyring:
                keep_in_keyring(keystore.node_id.hex(), new)
            keystore.protect(new)
        out.value({"protected": keystore.protected})
        if new is None:
            out.say("The keys lie open now. A node that opens patient data does not run so; a courier does.")
        elif keyring:
            out.say('Done. Put [bold]unlock = "keyring"[/] into node.toml, and the node starts by itself.')
        else:
            out.say("Done. Start the node with [bold]clinicmesh run --passphrase[/].")


def unlock(data: Data, as_json: Json = False) -> None:
    """Give the running node its passphrase: it was started without, and examinations wait."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        out.value(remote.post("/api/v1/admin/unlock", {"passphrase": passphrases.typed()}))
        out.say("Unlocked until the node stops.")


def support_bundle(
    to: Annotated[Path, typer.Argument(help="The ZIP to write.")],
    data: Data,
    as_json: Json = False,
) -> None:
    """Gather what a supporter needs, in one ZIP without patient data: logs, findings, state, metrics."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json):
        home = Home(data)
        parts: dict[str, bytes] = {
            "doctor.json": _json([asdict(one) for one in doctor_.examine(home, Settings.load(data))])
        }
        for log in sorted(home.logs.glob("node.jsonl*")):
            parts[f"logs/{log.name}"] = log.read_bytes()
        try:
            with running(data) as remote:
                for name in ("status", "studies", "troubles", "destinations", "admin/audit/verify"):
                    parts[f"{name.replace('/', '-')}.json"] = _json(remote.get(f"/api/v1/{name}"))
                parts["metrics.txt"] = remote.text("/metrics").encode()
        except NotRunning:
            parts["not-running.txt"] = b"The node was not running.\n"
        except NodeError as error:
            parts["not-complete.txt"] = f"{error.code}\n".encode()
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, content in parts.items():
                bundle.writestr(name, content)
        try:
            with open(to, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(made.getvalue())
        except FileExistsError:
            raise Refused("file-exists", "There is a file of that name already; choose another.") from None
        out.value({"file": str(to), "parts": sorted(parts)})
        out.say(
            f"Written to {to}: {len(parts)} parts. No patient data is in it; labels of nodes and devices are."
        )


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
