"""Commands about people's devices: device add, list, revoke."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from node.cli.options import Data, Json, group
from node.cli.output import Output, told_plainly
from node.cli.remote import running
from node.errors import Refused

device = group("People's phones and PCs.")


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
            import segno

            segno.make_qr(said["code"], error="m").terminal(compact=True)


@device.command("list")
def list_devices(data: Data, as_json: Json = False) -> None:
    """List the phones and PCs that may log in."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        said = remote.get("/api/v1/admin/devices")
        out.value(said)
        rows = [[one["label"], one["role"], one["device_id"][:8]] for one in said["devices"]]
        out.table(["device", "role", "id"], rows)
        if not rows:
            out.say("No phone or PC is enrolled: `clinicmesh device add`.")


@device.command("revoke")
def revoke_device(
    device_: Annotated[
        str, typer.Argument(metavar="DEVICE", help="Its label, or the first digits of its id.")
    ],
    data: Data,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Trust a phone or PC no longer: lost, stolen, or given away. It cannot be undone.

    What it has handed in stays. What it had not handed in yet lies in that device's browser only.
    """
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        one = _one_device(remote.get("/api/v1/admin/devices")["devices"], device_)
        if not yes:
            text = f"Revoke {one['label']} ({one['role']}, {one['device_id'][:8]}) for ever?"
            typer.confirm(text, abort=True, err=True)
        out.value(remote.delete(f"/api/v1/admin/devices/{one['device_id']}"))
        out.say(f"[bold]{one['label']}[/] may log in no longer. Each node learns of it at its next meeting.")


def _one_device(devices: Sequence[Any], text: str) -> Any:
    """Return the device that a label or first digits mean."""
    wanted = text.strip().lower()
    found = [
        one
        for one in devices
        if one["label"].lower() == wanted or (len(wanted) >= 4 and one["device_id"].startswith(wanted))
    ]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{one['label']} ({one['device_id'][:8]})" for one in found or devices) or "none"
    if found:
        raise Refused("device-ambiguous", f"Several are meant by that: {listed}. Give digits of the id.")
    raise Refused("device-unknown", f"No such device may log in. There are: {listed}.")
