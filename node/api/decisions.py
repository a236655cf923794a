"""What people decide about studies: troubles, taking back, recalling; and receipts (docs/architecture.md §3).

Nothing here tells of a patient but a receipt, which is for administrators.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from node import deciding, journey
from node.api.auth import Caller
from node.errors import Refused
from node.parts import Node
from node.revoking import revoked_since
from sync.bodies import Role
from sync.entries import EntryView
from sync.ids import EntryId

Require = Callable[[str], Callable[..., Caller]]
_Person = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Place = Annotated[int, Field(ge=0, lt=2**20)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewDecision(_Body):
    """What a person decided about an entry."""

    entry_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    decision: Literal["retry", "accept", "leave-out", "destination", "urgent"]
    person: _Person
    destination: str = ""
    instances: list[_Place] | None = Field(default=None, max_length=4000)
    folder: Annotated[str, StringConstraints(max_length=1000)] = ""


class Because(_Body):
    """Who says so, and why."""

    person: _Person
    reason: Annotated[str, StringConstraints(max_length=120)] = ""


def router(node: Node, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1", tags=["decisions"])
    admin = [Depends(require("admin"))]

    @routes.get("/troubles", dependencies=[Depends(require("status"))])
    def troubles() -> dict[str, list[dict[str, Any]]]:
        """List the entries that need a person, why, and what can be decided."""
        waiting = [
            view
            for view in node.holdings.views()
            if (view.troubles or view.waits_for_person) and view.tombstone is None
        ]
        return {"troubles": [_troubled(node, view) for view in waiting]}

    @routes.post("/admin/decisions", status_code=201, dependencies=admin)
    def decide(body: NewDecision) -> dict[str, str]:
        """Sign a person's decision about an entry's trouble."""
        roles = node.facts.ask(lambda ledger: ledger.membership.roles(node.facts.node_id))
        if not roles & {Role.ADMIT, Role.FORWARD}:
            raise Refused("may-not-decide", "This node may not sign decisions.")
        view = node.holdings.view(_entry_of(body.entry_id))
        if view.study is None or view.tombstone is not None:
            raise Refused("study-unknown", "No study on its way has this id.")
        fact = deciding.decide(
            node,
            view,
            body.decision,
            body.person,
            destination=body.destination,
            instances=body.instances,
            folder=body.folder,
        )
        node.signals.tell("forward")
        return {"fact": fact.hex()}

    @routes.post("/studies/{entry_id}/withdraw", status_code=201, dependencies=[Depends(require("enrol"))])
    def withdraw(entry_id: str, body: Because) -> dict[str, Any]:
        """Take a study back before it is delivered; a delivery that is proven already beats it."""
        view = node.holdings.view(_entry_of(entry_id))
        return deciding.withdraw(node, view, body.person, body.reason)

    @routes.post("/studies/{entry_id}/recall", status_code=201, dependencies=admin)
    def recall(entry_id: str, body: Because) -> dict[str, Any]:
        """Have a study delivered again that the PACS has lost, as long as a node still holds it."""
        view = node.holdings.view(_entry_of(entry_id))
        return deciding.recall_by_person(node, view, body.person, body.reason)

    @routes.get("/studies/{entry_id}/receipt", dependencies=admin)
    def receipt(entry_id: str) -> dict[str, Any]:
        """Return what was proven of each image of a study that this node delivered. Holds UIDs."""
        return deciding.receipt_of(node, _entry_of(entry_id))

    return routes


def _troubled(node: Node, view: EntryView) -> dict[str, Any]:
    return {
        "entry_id": view.entry.hex(),
        "code": journey.code_of(view.entry),
        "troubles": [*_author_revoked(node, view), *deciding.tell_troubles(node, view)],
        "reasons": deciding.reasons_of(node, view.entry),
    }


def _author_revoked(node: Node, view: EntryView) -> list[dict[str, str | int]]:
    """Return what no fact says of its own: the node that announced the study was revoked."""
    if view.study is None or not view.waits_for_person:
        return []
    author = view.study.header.author
    since = node.facts.ask(lambda ledger: revoked_since(ledger, author))
    code = journey.AUTHOR_REVOKED
    return [{"code": code, "instances": 0, "since": since, "detail": deciding.TROUBLES[code]}]


def _entry_of(text: str) -> EntryId:
    try:
        entry = bytes.fromhex(text)
    except ValueError:
        entry = b""
    if len(entry) != 32:
        raise Refused("study-unknown", "This node knows no such study.")
    return EntryId(entry)
