"""Where a node's passphrase comes from when nobody is there to type it (keyring's home).

An operator names one place in the setting `unlock`: `keyring` is the system's own store of secrets, `systemd`
a credential of the service (`LoadCredential=clinicmesh.passphrase`), `file:PATH` a file that a cloud's secret
store mounts. Each is as strong as what protects that place, and the data folder alone opens nothing.
"""

import os
import stat
import sys
from pathlib import Path

from node.errors import BadSettings

_SERVICE = "clinicmesh"
_CREDENTIAL = "clinicmesh.passphrase"


def passphrase_from(source: str, name: str) -> str:
    """Return the passphrase that a place holds for a node.

    Args:
        source: `keyring`, `systemd` or `file:PATH`.
        name: the node's id in hex.

    Raises:
        BadSettings: there is no such place, or it holds none.
    """
    if source == "keyring":
        return _from_keyring(name)
    if source == "systemd":
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise BadSettings('unlock = "systemd", but the node was not started with a credential')
        return _from_file(Path(folder) / _CREDENTIAL)
    if source.startswith("file:"):
        return _from_file(Path(source.removeprefix("file:")))
    raise BadSettings("wrong setting: unlock; it is keyring, systemd or file:PATH")


def keep_in_keyring(name: str, passphrase: str | None) -> None:
    """Keep a passphrase in the system's store of secrets; None takes it out.

    Raises:
        BadSettings: this system has none that can be used.
    """
    import keyring
    from keyring.errors import KeyringError, PasswordDeleteError

    try:
        if passphrase is not None:
            keyring.set_password(_SERVICE, name, passphrase)
        elif keyring.get_password(_SERVICE, name) is not None:
            keyring.delete_password(_SERVICE, name)
    except PasswordDeleteError:
        return
    except (KeyringError, RuntimeError):
        raise BadSettings("this system has no store of secrets that can be used here") from None


def _from_keyring(name: str) -> str:
    import keyring
    from keyring.errors import KeyringError

    try:
        found = keyring.get_password(_SERVICE, name)
    except (KeyringError, RuntimeError):
        raise BadSettings("this system has no store of secrets that can be used here") from None
    if found is None:
        raise BadSettings("the system's store of secrets holds no passphrase of this node")
    return found


def _from_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadSettings("the file with the passphrase cannot be read") from None
    if sys.platform != "win32" and stat.S_IMODE(mode) & 0o007:
        raise BadSettings("everybody may read the file with the passphrase; set its mode to 600")
    found = text.removesuffix("\n")
    if not found:
        raise BadSettings("the file with the passphrase is empty")
    return found
