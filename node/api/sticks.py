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

Require = Callable[[str], Callable[..., Caller]]


class StickAt(BaseModel):
    """Where a stick is mounted, and what to call it if it has no name yet."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    folder: str
    name: Annotated[str, StringConstraints(max_length=32)] = ""


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

    return routes
