"""Passphrases on the command line: asked for, fetched from where they wait, and demanded where they are due.

A node that opens patient data (roles `ingest` and `forward`) does not run with its keys lying open, unless
somebody says `unprotected`, which is for demonstrations and tests.
"""

import sys
from typing import Annotated

import typer
from rich.console import Console

from node.config import Settings
from node.errors import BadSettings, Refused
from node.home import Home
from node.keys import Keystore
from node.parts import Node
from node.unlock import passphrase_from

_SHORTEST = 8

Passphrase = Annotated[
    bool, typer.Option("--passphrase", help="Ask for a passphrase that protects what opens patient data.")
]
Unprotected = Annotated[
    bool,
    typer.Option(
        "--unprotected",
        help="Let the keys of patient data lie open on the disk: for demonstrations, never for patients.",
    ),
]


def typed(text: str = "Passphrase", *, confirm: bool = False) -> str:
    """Ask for a passphrase that there is already, or with `confirm` for a new one, twice."""
    return str(typer.prompt(text, hide_input=True, confirmation_prompt=confirm, err=True))


def new(text: str = "New passphrase") -> str:
    """Ask for a new passphrase.

    Raises:
        Refused: it is too short.
    """
    return _long_enough(typed(text, confirm=True))


def _long_enough(passphrase: str) -> str:
    if len(passphrase) < _SHORTEST:
        raise Refused("passphrase-short", "Take at least 8 characters; a short sentence is best.")
    return passphrase


def for_founder(settings: Settings, *, ask: bool, unprotected: bool) -> str | None:
    """Return the passphrase of the node that makes a mesh: it opens every study. None: `unprotected`.

    Raises:
        Refused: there is none, and nobody said that there need not be.
    """
    if ask:
        return new("Passphrase")
    if (
        settings.unlock and settings.unlock != "keyring"
    ):  # the store knows a node by its id, which it has not yet
        return _long_enough(passphrase_from(settings.unlock, ""))
    if unprotected or settings.unprotected:
        return None
    if sys.stdin.isatty():
        return new("Passphrase for what opens patient data on this machine")
    raise Refused(
        "keys-unprotected",
        "This node opens every study, so its keys need a passphrase: --passphrase asks for it, "
        "CLINICMESH_UNLOCK=file:PATH or systemd says where it waits. "
        "--unprotected is for demonstrations.",
    )


def for_joiner(settings: Settings, *, ask: bool, unprotected: bool) -> str | None:
    """Return the passphrase of a node that joins. None: not yet; what it needs, its roles say later."""
    if ask:
        return new("Passphrase")
    if _waits(settings):
        return _long_enough(passphrase_from(settings.unlock, ""))
    if unprotected or settings.unprotected or not sys.stdin.isatty():
        return None
    text = "Passphrase for what opens patient data on this machine (a courier needs none: Enter)"
    said = str(typer.prompt(text, default="", show_default=False, hide_input=True, err=True))
    if said and typed("Once more") != said:
        raise Refused("passphrase-differs", "The two differ. Nothing was made; begin again.")
    return _long_enough(said) if said else None


def _waits(settings: Settings) -> bool:
    """Say whether a passphrase waits for a node that has no id yet, by which the system's store knows it."""
    return bool(settings.unlock) and settings.unlock != "keyring"


def that_waits(home: Home, settings: Settings) -> str | None:
    """Return the passphrase from where the setting `unlock` says; without it the node starts locked.

    None for keys that have no passphrase as well: `demand` says whether they may.
    """
    if not settings.unlock:
        return None
    keystore = Keystore.load(home.keys)
    if not keystore.protected:
        return None
    try:
        return passphrase_from(settings.unlock, keystore.node_id.hex())
    except BadSettings as error:
        Console(stderr=True).print(f"{error}. The node starts locked; `clinicmesh unlock` opens it.")
        return None


def demand(node: Node, *, unprotected: bool) -> None:
    """Let no node run that opens patient data with keys that lie open.

    Raises:
        Refused: its keys have no passphrase, and nobody said that they need none.
    """
    if node.keystore.protected or unprotected or node.settings.unprotected or not node.opens_patient_data:
        return
    raise Refused(
        "keys-unprotected",
        "This node opens patient data, and its keys lie open on the disk: whoever takes this machine has "
        "them. Run `clinicmesh passphrase`, with --keyring if it is to start by itself.",
    )
