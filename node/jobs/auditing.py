"""Auditing: what facts say is recorded in this node's audit trail, and the trail's head becomes a fact.

Every node records what it hears, so that the story of a study can be read at its clinic and at the cloud
alike. The head is signed hourly and at the end of each run: lines that are cut off later are missed. Every
node notes the heads that others signed: by these it is found out who writes his trail anew and signs that.
"""

from collections.abc import Iterable

from node.audit import HEARD, Trail
from node.clock import Clock
from node.store.factlog import FactLog
from node.store.notes import Notes
from sync.bodies import (
    Audit,
    Body,
    Claim,
    Custody,
    Decision,
    Device,
    Ending,
    Member,
    Recall,
    Revoked,
    Tombstone,
)
from sync.facts import Fact
from sync.ids import NodeId, short

_HOUR_MS = 3_600_000
_LAST = "last_audit_head_ms"
_NAMES: dict[str, str] = {
    "member": "member-admitted",
    "revoked": "member-revoked",
    "vouched": "facts-vouched",
    "destination": "destination-set",
    "study": "study-announced",
    "decision": "decided",
    "recall": "recalled",
    "audit": HEARD,
}
_ENDINGS = {Ending.WITHDRAWN.value: "withdrawn"}


def record_facts(trail: Trail, admitted: Iterable[Fact]) -> None:
    """Record each fact that tells an act: who signed it, and the entry that it is about."""
    for fact in admitted:
        body = fact.body
        what = None if body is None else _name_of(body)
        if what == HEARD and _author(fact.header.author) == trail.source:
            continue  # its own
        if what is not None and body is not None:
            trail.record(
                what,
                _author(fact.header.author),
                entry=fact.header.entry,
                detail={"fact": short(fact.id), **_detail(body)},
            )


def _name_of(body: Body) -> str | None:
    """Return what an act is called; None for what is no act, such as a claim that goes on."""
    if isinstance(body, Custody):
        return "copy-held" if body.holds else "copy-given-up"
    if isinstance(body, Claim):
        return "delivery-begun" if body.active and body.proven == 0 else None
    if isinstance(body, Tombstone):
        return _ENDINGS.get(body.outcome, "delivered")
    if isinstance(body, Device):
        return "device-revoked" if body.revokes else "device-enrolled"
    return _NAMES.get(body.KIND)


def _detail(body: Body) -> dict[str, str | int]:
    if isinstance(body, Tombstone):
        return {
            "outcome": body.outcome,
            "evidence": body.evidence,
            "instances": body.instances,
            "proven": body.proven,
            "destination": body.destination,
        }
    if isinstance(body, Decision):
        return {"decision": body.decision, "person": body.person}
    if isinstance(body, Device):
        return {"device": body.device.hex(), "role": body.role}
    if isinstance(body, Member | Revoked):
        return {"node": short(body.node)}
    if isinstance(body, Audit):
        return {"lines": body.count, "head": body.head.hex()}
    if isinstance(body, Recall):
        return {"reason": body.reason}
    return {}


def _author(author: NodeId) -> str:
    return f"node:{short(author)}"


def sign_head(trail: Trail, facts: FactLog, notes: Notes, clock: Clock, *, now: bool = False) -> bool:
    """Sign the trail's head if it moved and the last one is an hour old (or `now`); say whether it did."""
    head, said = trail.head, facts.ask(lambda ledger: ledger.audit_heads()).get(facts.node_id)
    moved = said is None or not isinstance(said.body, Audit) or said.body.count < trail.due
    last = notes.number(_LAST)
    if not head.count or not moved or (not now and last and clock.carried_ms() - last < _HOUR_MS):
        return False
    if said is not None and isinstance(said.body, Audit) and said.body.count > head.count:
        return False  # lines are missing: the head that tells so must stand
    trail.sync()
    facts.issue(Audit(count=head.count, head=head.digest))
    notes.set_numbers(**{_LAST: clock.carried_ms()})
    return True
