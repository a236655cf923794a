"""What an administrator does: invitations, peers, decisions, salvage (scope `admin`)."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from node.api.auth import Caller
from node.errors import Refused
from node.mesh.joining import LIFE_MS, Inviter
from node.parts import Node
from node.salvage import salvage
from sync.bodies import Role

Require = Callable[[str], Callable[..., Caller]]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewInvitation(_Body):
    """Who may join with the code."""

    roles: list[Role] = Field(min_length=1, max_length=5)
    label: Annotated[str, StringConstraints(max_length=64)] = ""


class NewPeer(_Body):
    """Where another node listens, "host:port"."""

    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:\[\]_-]{1,100}:\d{1,5}$")]


class SalvageFrom(_Body):
    """The folder of a dead node, on this machine."""

    folder: str


def router(node: Node, inviter: Inviter, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1", tags=["admin"])
    admin = [Depends(require("admin"))]

    @routes.post("/admin/invitations", status_code=201, dependencies=admin)
    def invite(body: NewInvitation) -> dict[str, str | int]:
        """Make a code with which one node may join."""
        code = inviter.invite([role.value for role in body.roles], label=body.label)
        return {"code": code, "expires_in": LIFE_MS // 1000, "port": node.settings.mesh_port}

    @routes.post("/admin/peers", status_code=201, dependencies=admin)
    def add_peer(body: NewPeer) -> dict[str, str]:
        """Remember where another node listens, and meet it."""
        node.notes.add_peer(body.address)
        node.signals.tell("replicate")
        return {"address": body.address}

    @routes.delete("/admin/peers/{address}", status_code=204, dependencies=admin)
    def remove_peer(address: str) -> None:
        """Forget an address."""
        if not node.notes.remove_peer(address):
            raise Refused("not-found", "No such address is known here.")

    @routes.post("/admin/meet", status_code=202, dependencies=admin)
    def meet_now() -> dict[str, str]:
        """Meet all known peers now."""
        node.signals.tell("replicate")
        return {"state": "started"}

    @routes.post("/admin/salvage", dependencies=admin)
    def salvage_folder(body: SalvageFrom) -> dict[str, int]:
        """Take over what a dead node held."""
        return asdict(salvage(node, Path(body.folder)))

    return routes


def _need_role(node: Node, roles: set[Role], code: str, detail: str) -> None:
    """Refuse what this node could sign but nobody would heed."""
    if not roles & node.facts.ask(lambda ledger: ledger.membership.roles(node.facts.node_id)):
        raise Refused(code, detail)
