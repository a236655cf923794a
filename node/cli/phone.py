"""The command that makes a phone ready: Wi-Fi, the mesh's root, and a code, each as a QR code."""

from typing import Annotated

import typer

from node.cli.options import Data, Json
from node.cli.output import Output, told_plainly
from node.cli.remote import running


def phone(
    data: Data,
    ssid: Annotated[str, typer.Option(help="The clinic's Wi-Fi, to show a QR code for it.")] = "",
    ask_wifi_password: Annotated[bool, typer.Option("--wifi-password", help="Ask for its password.")] = False,
    role: Annotated[str, typer.Option(help="clinician, lead or admin.")] = "clinician",
    as_json: Json = False,
) -> None:
    """Add a phone: three things to scan, one to compare, one to type. Takes about two minutes, no internet.

    Opens a page on the local network for half an hour, from which the phone installs the mesh's certificate.
    Do it on the clinic's own Wi-Fi, and compare the numbers: they are what keeps a stranger's page out.
    """
    import segno
    from segno import helpers

    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        page = remote.post("/api/v1/admin/setup-page")
        code = remote.post("/api/v1/admin/device-codes", {"role": role})
        out.value({**page, **code})
        if as_json:
            return
        if ssid:
            password = (
                typer.prompt("Wi-Fi password", hide_input=True, err=True) if ask_wifi_password else None
            )
            out.say(f"\n[bold]0. Wi-Fi[/]  Scan with the camera, to join {ssid}.")
            wifi = helpers.make_wifi_data(ssid=ssid, password=password, security="WPA" if password else None)
            segno.make(wifi, error="m").terminal(compact=True)
        out.say(f"\n[bold]1. Certificate[/]  Scan, and follow the pictures:  {page['pages'][0]}")
        segno.make(page["pages"][0], error="m").terminal(compact=True)
        if len(page["pages"]) > 1:
            out.say(f"   If that does not open: {', '.join(page['pages'][1:])}")
        digits = page["fingerprint"].split(":")
        out.say("\n[bold]2. Compare[/]  The phone must show these numbers (SHA-256):")
        for part in (digits[:16], digits[16:]):
            out.say(f"   [bold]{' '.join(part)}[/]")
        out.say(f"\n[bold]3. App[/]  Open  {page['app']}  on the phone, and type this code:")
        out.say(f"   [bold]{code['code']}[/]   (works once, for {code['expires_in'] // 60} minutes)")
