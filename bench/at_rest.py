"""Octets between two nodes that have nothing new to say, an hour: as it ships, and on metered ways.

    python bench/at_rest.py [--seconds 120]

A clinic and a cloud node that it dials, each with the settings that it ships with, through a proxy that
counts (tests/support/proxy.py); once with nothing, once with `metered` at the clinic. Octets are those of TLS
and what is in it, not of TCP and IP below; nor are TCP's own questions on an open line (one each 15 s).
Waits a minute, counts for so many seconds, then one meeting that finds nothing new, as it comes each quarter
of an hour on a metered way.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.nodes import LocalNode  # noqa: E402
from support.proxy import proxied  # noqa: E402

_SETTLED_S = 60.0
_SHIPPED = {"replicate_every_s": 30.0, "forward_every_s": 15.0, "sweep_every_s": 60.0}
_AN_HOUR = 3600.0


def at_rest(seconds: float, *, metered: bool) -> tuple[float, int, int]:
    """Return octets an hour without meetings on purpose, new connections, and what one meeting costs."""
    with tempfile.TemporaryDirectory() as folder, LocalNode(Path(folder) / "cloud", **_SHIPPED) as cloud:
        cloud.init()
        cloud.start()
        with LocalNode(Path(folder) / "clinic", **_SHIPPED, metered=metered) as clinic:
            cloud.admit(clinic, "clinic")
            with proxied(cloud.mesh_address) as proxy:
                clinic.start([proxy.address])
                time.sleep(_SETTLED_S)
                octets, made = sum(proxy.octets), proxy.connections
                time.sleep(seconds)
                rest, connections = sum(proxy.octets) - octets, proxy.connections - made
                proxy.cut()
                octets = sum(proxy.octets)
                clinic.service._replicator.meet_one(proxy.address)
                return rest * _AN_HOUR / seconds, connections, sum(proxy.octets) - octets


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    logging.disable()
    print("| ways | octets in an hour, nothing new | of them by a meeting each 15 min | connections |")
    print("|---|---|---|---|")
    for metered in (False, True):
        rest, connections, meeting = at_rest(given.seconds, metered=metered)
        fours = 4 * meeting if metered else 0
        name = "metered" if metered else "as it ships"
        print(f"| {name} | {rest + fours:,.0f} | {fours:,.0f} | {connections} |", flush=True)


if __name__ == "__main__":
    main()
