"""`/metrics` for Prometheus, on this machine's own port only."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from node.errors import Refused
from node.metrics import CONTENT_TYPE, Readings
from node.parts import Node
from sync.facts import FactClass
from sync.lifecycle import ENDED, EntryState

_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def router(node: Node, local_port: Callable[[], int | None]) -> APIRouter:
    """Return the route. `local_port`: gives the port that listens on the loopback only."""
    routes = APIRouter(include_in_schema=False)
    node.metrics.read_from(lambda: readings(node))

    @routes.get("/metrics")
    def metrics(request: Request) -> Response:
        """Return the metrics; at any other port there is nothing."""
        server, client = request.scope.get("server"), request.client
        if server is None or server[1] != local_port() or client is None or client.host not in _LOOPBACK:
            raise Refused("not-found", "There is nothing at this address.")
        return Response(node.metrics.text(), media_type=CONTENT_TYPE)

    return routes


def readings(node: Node) -> Readings:
    """Return the values of the gauges now."""
    states: dict[str, float] = dict.fromkeys((state.value for state in EntryState), 0)
    copies: dict[str, float] = {}
    open_ = set()
    for view in node.holdings.views():
        states[view.state.value] += 1
        if view.state not in ENDED:
            open_.add(view.entry)
            count = str(view.copies)
            copies[count] = copies.get(count, 0) + 1
    held, facts = node.queue.all(), node.facts.count()
    now = node.clock.carried_ms()
    return {
        "clinicmesh_studies": states,
        "clinicmesh_oldest_waiting_seconds": max(
            ((now - one.seen_ms) / 1000 for one in held if one.entry in open_), default=0
        ),
        "clinicmesh_held_bytes": node.queue.bytes_held(),
        "clinicmesh_free_bytes": node.blobs.free_bytes(),
        "clinicmesh_undelivered_copies": copies,
        "clinicmesh_waiting_to_erase": sum(one.ended_ms is not None for one in held),
        "clinicmesh_facts": {"permanent": facts[FactClass.PERMANENT], "live": facts[FactClass.LIVE]},
        "clinicmesh_locked": float(node.keystore.locked),
        "clinicmesh_running_seconds": now / 1000,
    }
