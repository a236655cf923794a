"""The command line's frame: which commands there are, and how the program begins."""

import os
import sys

import typer

from node import reconcile_stdio
from node.cli import (
    audit,
    deciding,
    demo,
    devices,
    machine,
    members,
    mesh,
    pacs,
    phone,
    quarantine,
    status,
    sticks,
    studies,
    submitting,
)
from node.cli.options import group

_HELP = """Bring medical images from clinics without internet into the hospital's PACS, and lose nothing.

New here? `clinicmesh demo` shows the whole journey on this machine.

A new mesh: `init`, `run`, `pacs add`, `invite`. Another node: `join`, `run`. A phone: `phone`.
"""

app = group(_HELP)
app.command()(demo.demo)
app.command()(mesh.init)
app.command()(mesh.invite)
app.command()(mesh.join)
app.command()(members.admit)
app.command()(mesh.run)
app.command()(members.revoke)
app.command()(members.restore_admin)
app.command()(phone.phone)
app.add_typer(devices.device, name="device")
app.add_typer(pacs.pacs, name="pacs")
app.add_typer(sticks.stick, name="stick")
app.command()(submitting.submit)
app.command()(studies.studies)
app.command()(status.status)
app.add_typer(deciding.troubles, name="troubles")
app.add_typer(quarantine.quarantine, name="quarantine")
app.command()(deciding.withdraw)
app.command()(deciding.recall)
app.command()(deciding.receipt)
app.command()(studies.salvage)
app.add_typer(audit.audit, name="audit")
app.command()(machine.doctor)
app.command()(machine.passphrase)
app.command()(machine.unlock)
app.command("support-bundle")(machine.support_bundle)


@app.command("reconcile-stdio", hidden=True)
def reconcile() -> None:
    """Speak the line protocol of Negentropy's test harnesses."""
    raise typer.Exit(reconcile_stdio.main(sys.stdin, sys.stdout, os.environ))


def main() -> None:
    """Run the command line."""
    app()
