"""The operator's file: how this machine's command line reaches the node that runs here.

The running node writes its address and a random token into `run/operator.json`, for its owner only, and takes
it away when it ends. Who may read the file may do what an admin may.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nacl import utils

from node.errors import NotRunning
from node.keys import Random

_FILE_NAME = "operator.json"


@dataclass(frozen=True, slots=True)
class Operator:
    """Where the running node listens, and the bearer token that it accepts."""

    url: str
    token: str = field(repr=False)


def new_token(random: Random = utils.random) -> str:
    """Return a token for one run of the node."""
    return random(32).hex()


def write(folder: Path, operator: Operator) -> None:
    """Tell the command line how to reach the node; an older file is replaced."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f"{_FILE_NAME}.tmp"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"url": operator.url, "token": operator.token}, file)
    temporary.replace(folder / _FILE_NAME)


def read(folder: Path) -> Operator:
    """Return how to reach the node.

    Raises:
        NotRunning: no node has said so; a file may also be left over from one that was cut off.
    """
    try:
        value = json.loads((folder / _FILE_NAME).read_text(encoding="utf-8"))
        return Operator(str(value["url"]), str(value["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise NotRunning("no node is running on this data folder") from None


def remove(folder: Path) -> None:
    """Take the file away; nothing happens if it is gone."""
    with suppress(FileNotFoundError):
        (folder / _FILE_NAME).unlink()
