"""USB sticks that are plugged into this machine (scope `admin`)."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, StringConstraints

from node import stick
from node.api.auth import Caller
from node.mesh.exchange import Exchange
from node.parts import Node
from sync.bodies import StickSeen
from sync.erasure import is_aboard_in_vain, sticks_of
from sync.ids import short
from sync.ledger import Ledger

Require = Callable[[str], Callable[..., Caller]]


class StickAt(BaseModel):
    """Where a stick is mounted, and what to call it if it has no name yet."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    folder: str
    name: Annotated[str, StringConstraints(max_length=32)] = ""


class StickNamed(BaseModel):
    """A stick's name, or the first digits of its id."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]


def router(node: Node, exchange: Exchange, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1/admin/stick", tags=["admin"], dependencies=[Depends(require("admin"))])

    @routes.post("/export")
    def export_stick(body: StickAt) -> dict[str, Any]:
        """Bring a stick up to date with facts and undelivered entries; it is flushed on return."""
        return asdict(stick.export_to(node, Path(body.folder), name=body.name))

    @routes.post("/import")
    def import_stick(body: StickAt) -> dict[str, Any]:
        """Take in what a stick carries; everything is hashed again."""
        return asdict(stick.import_from(node, exchange, Path(body.folder)))

    @routes.get("/list")
    def list_sticks() -> dict[str, Any]:
        """List the sticks that are under way, as far as this node has heard."""
        return {"sticks": node.facts.ask(tell_sticks)}

    @routes.post("/forget")
    def forget_stick(body: StickNamed) -> dict[str, str]:
        """Give a stick up for lost: nobody waits for it any more."""
        return {"name": stick.forget(node, body.name)}

    return routes


def tell_sticks(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what is known of each stick, by name."""
    members, seen = ledger.membership.members(), sticks_of(ledger)
    told = []
    for fact in ledger.sticks():
        body = fact.body
        if not isinstance(body, StickSeen) or seen.get(body.stick) is not body:
            continue
        ended = sum(is_aboard_in_vain(ledger, entry) for entry in body.aboard)
        author = members.get(fact.header.author)
        told.append(
            {
                "stick": body.stick.hex(),
                "name": body.name,
                "seen_by": author.label if author else short(fact.header.author),
                "seen_at": fact.header.timestamp,
                "aboard": len(body.aboard) + body.unlisted,
                "on_their_way": len(body.aboard) + body.unlisted - ended,
                "to_erase": ended,
                "given_up": body.gone,
            }
        )
    return sorted(told, key=lambda one: (bool(one["given_up"]), str(one["name"])))
