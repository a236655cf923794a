"""Made-up requests against the whole contract, as each role: `python bench/contract.py [--examples 50]`.

Starts a node, enrols a device of each role, and sends what schemathesis makes up from the node's own OpenAPI
document: all phases, stateful ones included. Ends with 1 if the node answered 500, or other than the contract
says.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.devices import GRANT_TYPE, FakeDevice
from support.fuzzing import made_up_requests
from support.nodes import LocalNode

from node.api.auth import SCOPES

_PHASES = "examples,coverage,fuzzing,stateful"


def enrolled(node: LocalNode, role: str) -> str:
    """Enrol a device of a role; return an access token of it, which is good for 15 minutes."""
    code = node.ask("POST", "/api/v1/admin/device-codes", {"role": role})["code"]
    device = FakeDevice()
    said = node.ask("POST", "/api/v1/devices", {"code": code, "label": role, "key": device.jwk})
    device.id = said["device_id"]
    with node.api() as client:
        health = client.get("/healthz").json()
        assertion = device.sign(device.claims(int(health["time"]), mesh=health["mesh"]))
        answer = client.post("/oauth/token", data={"grant_type": GRANT_TYPE, "assertion": assertion})
    return str(answer.json()["access_token"])


def main() -> int:
    """Run it, and print a line for each role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50, help="made-up requests for each route")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    worst = 0
    with tempfile.TemporaryDirectory() as folder, LocalNode(Path(folder) / "cloud", setup_port=0) as node:
        node.init()
        node.start()
        for who in ("nobody", *SCOPES):
            token = None if who == "nobody" else enrolled(node, who)
            started = time.monotonic()
            code, said = made_up_requests(
                node, token, Path(folder), examples=given.examples, phases=_PHASES, seed=given.seed
            )
            print(f"{who}: {'OK' if code == 0 else 'FAIL'} in {time.monotonic() - started:.0f} s")
            if code:
                print(said)
            worst = max(worst, code)
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
