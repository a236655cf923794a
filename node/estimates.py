"""When studies will have arrived, as far as this node can say: from its queue and the rate that was measured.

Only a node that delivers says anything; a number that nobody measured is worse than none. For `node.api`.
"""

from typing import Any

from node.parts import Node
from sync.bodies import Claim, Role
from sync.entries import EntryView
from sync.forwarding import Setback, estimate_s
from sync.ids import EntryId
from sync.plan import is_on_its_way

RATE = "uplink_bytes_per_s"
EXPANSION = "uplink_expansion_percent"  # octets that are sent for a hundred sealed ones
_STANDS_STILL = frozenset({Setback.NO_NETWORK.value, Setback.BUSY.value, Setback.CREDENTIALS.value})


def deliveries(node: Node) -> dict[EntryId, dict[str, Any]]:
    """Return, for each entry that this node is to deliver, what keeps it and when it will have arrived.

    `{"setback", "try_in_s", "estimate_s"}`; empty on a node that does not deliver.
    """
    me = node.facts.node_id
    if Role.FORWARD not in node.facts.ask(lambda ledger: ledger.membership.roles(me)):
        return {}
    now = node.clock.carried_ms()
    told: dict[EntryId, dict[str, Any]] = {}
    waiting: list[tuple[tuple[bool, int], EntryId, int]] = []
    for held in node.queue.all():
        view = node.holdings.view(held.entry)
        if not held.complete or held.ended_ms is not None or not is_on_its_way(view):
            continue
        told[held.entry] = {
            "setback": held.setback,
            "try_in_s": max(0, held.try_at_ms - now) // 1000,
            "estimate_s": None,
        }
        stands = held.setback in _STANDS_STILL or view.troubles or view.waits_for_person
        if not stands and (view.urgent or not node.settings.metered):
            waiting.append(((not view.urgent, held.seen_ms), held.entry, _left(node, view)))
    rate = node.notes.number(RATE)
    for entry, seconds in estimate_s(((entry, left) for _, entry, left in sorted(waiting)), rate).items():
        told[entry]["estimate_s"] = seconds
    return told


def uplink(node: Node) -> dict[str, Any]:
    """Return how the way to the PACS is: the measured rate, what was set, and what keeps how many studies."""
    setbacks: dict[str, int] = {}
    for one in deliveries(node).values():
        if one["setback"]:
            setbacks[one["setback"]] = setbacks.get(one["setback"], 0) + 1
    return {
        "bytes_per_s": node.notes.number(RATE) or None,
        "limit_kbit_s": node.settings.uplink_kbit_s or None,
        "metered": node.settings.metered,
        "setbacks": setbacks,
    }


def _left(node: Node, view: EntryView) -> int:
    """Return how many octets are still to be sent of an entry, from its sealed size and what is proven."""
    size = view.announced.size if view.announced else 0
    claim = view.claims.get(node.facts.node_id)
    body = None if claim is None else claim.body
    if isinstance(body, Claim) and body.total:
        size = size * (body.total - min(body.proven, body.total)) // body.total
    return size * (node.notes.number(EXPANSION) or 100) // 100
