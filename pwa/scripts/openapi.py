"""Print the node's contract as OpenAPI: what the types in `src/api/openapi.ts` are made from.

Run it with the project's Python; `python3 run.py` does. The node is founded in a folder that goes again,
and is never started.
"""

import json
import sys
import tempfile
from pathlib import Path

from nacl import utils

from node import founding
from node.clock import SystemClock
from node.config import Settings
from node.home import Home
from node.service import Service, open_node
from sync.bodies import Role
from sync.genesis import Mode


def main() -> None:
    """Print it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        founding.found(
            home,
            mesh_name="Types",
            label="types",
            mode=Mode.SEALED_COURIER,
            roles=[role.value for role in Role],
            passphrase=None,
            clock=SystemClock(),
            random=utils.random,
        )
        with open_node(home, Settings.load(Path(folder))) as node:
            service = Service(node)
            try:
                json.dump(service.people_app().openapi(), sys.stdout, indent=1, sort_keys=True)
            finally:
                service.stop()


if __name__ == "__main__":
    main()
