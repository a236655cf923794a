"""Delivery: the forward job as a node has it: what is sent, and what is looked at again a day later.

One job for both, since a line to a PACS is used by one thread at a time. Called by `node.service`.
"""

from node.deliver.destination import Destination
from node.jobs.forward import Forwarder
from node.jobs.lines import Lines
from node.jobs.sealing import Sealer
from node.jobs.second_look import SecondLook
from node.jobs.uplink import Uplink
from node.parts import Node
from sync.bodies import DestinationBody

_HOUR_MS = 3_600_000


class Delivery:
    """Everything that delivers on a node."""

    def __init__(self, node: Node) -> None:
        look_ms = int(node.settings.second_look_hours * _HOUR_MS)
        self._lines = Lines(_build_destination, node.notes, node.clock)
        self._forwarder = Forwarder(
            node.holdings,
            node.vault,
            node.keystore,
            node.clock,
            self._lines,
            Uplink(node.settings, node.notes, node.clock),
            look_after_ms=look_ms or None,
            timed=node.metrics.timed,
        )
        self._sealer = Sealer(node, patience_ms=int(2_000 * node.settings.forward_every_s))
        self._second_look = SecondLook(node.holdings, node.keystore, node.clock, self._lines, look_ms)

    def run(self) -> None:
        """Grant keys, deliver until nothing is ready, look again at what is due, seal anew what is left."""
        self._sealer.grant()
        self._forwarder.forward_all()
        self._second_look.look_all()
        self._sealer.seal_anew()

    def hurry(self) -> None:
        """Hold nothing back any more: the node stops."""
        self._forwarder.close()

    def close(self) -> None:
        """Close the lines, once the job has ended."""
        self._lines.close()


def _build_destination(body: DestinationBody, secret: bytes | None) -> Destination:
    """Build a PACS; its libraries are loaded only now, so that a courier starts a second sooner."""
    from node.deliver.build import build_destination

    return build_destination(body, secret)
