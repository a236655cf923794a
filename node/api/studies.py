"""Studies on their way, as this node knows them; nothing of any patient (docs/architecture.md §3)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Depends

from node import journey
from node.api.auth import Caller
from node.api.sticks import tell_sticks
from node.errors import Refused
from node.estimates import deliveries, uplink
from node.journey import Story
from node.parts import Node
from sync.bodies import Remains, Report
from sync.entries import EntryView
from sync.erasure import Whereabouts
from sync.facts import Fact, FactClass
from sync.ids import EntryId, short
from sync.ledger import Ledger
from sync.lifecycle import EntryState
from sync.sealing import newest_of

Require = Callable[[str], Callable[..., Caller]]


def router(node: Node, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1", tags=["studies"], dependencies=[Depends(require("status"))])

    @routes.get("/studies")
    def studies() -> dict[str, list[Story]]:
        """Return every entry that is announced or has ended, the newest first; one sealed anew comes once."""

        def tell_all(ledger: Ledger) -> list[Story]:
            shown = (view for view in ledger.entries() if view.state is not EntryState.UNKNOWN)
            where = Whereabouts(ledger)
            return [
                _tell(node, ledger, view, where)
                for view in shown
                if newest_of(view.entry, ledger.entry) is view
            ]

        waiting = {entry.hex(): one for entry, one in deliveries(node).items()}
        told = [replace(story, delivery=waiting.get(story.entry_id)) for story in node.facts.ask(tell_all)]
        return {"studies": sorted(told, key=lambda story: -(story.announced_at or 0))}

    @routes.get("/studies/{entry_id}")
    def study(entry_id: str) -> Story:
        """Return one entry with its journey; of one that was sealed anew, how that goes on."""
        entry = _entry_of(entry_id)
        view = node.facts.ask(lambda ledger: newest_of(entry, ledger.entry))
        if view.state is EntryState.UNKNOWN:
            raise Refused("study-unknown", "This node knows no such study.")
        story = node.facts.ask(lambda ledger: _tell(node, ledger, view, Whereabouts(ledger)))
        story = replace(story, delivery=deliveries(node).get(view.entry))
        if view.entry == entry:
            return story
        return replace(story, entry_id=entry.hex(), code=journey.code_of(entry), goes_on_as=view.entry.hex())

    @routes.get("/status")
    def status() -> dict[str, Any]:
        """Return how this node is: who it is, its peers, what waits, its disk."""
        return status_of(node)

    return routes


def status_of(node: Node) -> dict[str, Any]:
    """Return how this node is."""
    members = node.facts.ask(lambda ledger: ledger.membership.members())
    me = node.facts.node_id
    held = node.queue.all()
    states: dict[str, int] = {}
    for view in node.holdings.views():
        if view.successor is not None:
            continue  # its study goes on as another entry
        states[view.state] = states.get(view.state, 0) + 1
    now = node.clock.carried_ms()
    facts = node.facts.count()
    return {
        "node": short(me),
        "label": node.membership.label,
        "mesh": node.membership.genesis.name,
        "mode": node.membership.genesis.mode.value,
        "version": node.version,
        "roles": sorted(members[me].roles) if me in members else [],
        "locked": node.keystore.locked,
        "studies": states,
        "held": sum(one.complete for one in held),
        "waiting_to_erase": sum(one.ended_ms is not None for one in held),
        "facts": {"permanent": facts[FactClass.PERMANENT], "live": facts[FactClass.LIVE]},
        "disk": {"free": node.blobs.free_bytes(), "held": node.queue.bytes_held()},
        "members": tell_members(node),
        "sticks": node.facts.ask(tell_sticks),
        "peers": [
            {
                "address": peer.address,
                "node": None if peer.node is None else short(peer.node),
                "met_s_ago": None if peer.met_ms is None else (now - peer.met_ms) // 1000,
            }
            for peer in node.notes.peers()
        ],
        "destinations": sorted(node.facts.ask(lambda ledger: ledger.destinations())),
        "uplink": uplink(node),
    }


def tell_members(node: Node) -> list[dict[str, Any]]:
    """Return every node of the mesh, by label: when it was heard of, and what it last said of itself."""
    heard, now = node.facts.heard_ms(), node.clock.carried_ms()
    views = [view for view in node.holdings.views() if view.is_on_its_way]

    def tell_all(ledger: Ledger) -> list[dict[str, Any]]:
        reports, remains = ledger.reports(), ledger.remains()
        return [
            {
                "node": short(one),
                "label": info.label,
                "roles": sorted(info.roles),
                "revoked": info.revoked,
                "me": one == node.facts.node_id,
                "heard_s_ago": None if one not in heard else max(now - heard[one], 0) // 1000,
                "holds": sum(
                    one in view.holders or (one == view.origin and view.origin_holds) for view in views
                ),
                "to_erase": _left(remains.get(one)),
                "report": _reported(reports.get(one)),
            }
            for one, info in sorted(ledger.membership.members().items(), key=lambda pair: pair[1].label)
        ]

    return node.facts.ask(tell_all)


def _left(fact: Fact | None) -> int | None:
    """Return how many ended entries a node said are still on its disk; None if it has not said."""
    body = None if fact is None else fact.body
    return len(body.still) + body.unlisted if isinstance(body, Remains) else None


def _reported(fact: Fact | None) -> dict[str, Any] | None:
    body = None if fact is None else fact.body
    if fact is None or not isinstance(body, Report):
        return None
    return {"free": body.free, "version": body.version, "plans": body.plans, "at": fact.header.timestamp}


def _tell(node: Node, ledger: Ledger, view: EntryView, where: Whereabouts) -> Story:
    members, counting = ledger.membership.members(), node.holdings.holders(view)
    return journey.tell(view, members, where.erasure_of(view), counting=counting)


def _entry_of(text: str) -> EntryId:
    try:
        entry = bytes.fromhex(text)
    except ValueError:
        entry = b""
    if len(entry) != 32:
        raise Refused("study-unknown", "This node knows no such study.")
    return EntryId(entry)
