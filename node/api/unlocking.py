"""Giving a running node its passphrase (scope `admin`)."""

import logging
import threading
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, StringConstraints

from node.api.auth import Caller
from node.parts import Node

log = logging.getLogger(__name__)
Require = Callable[[str], Callable[..., Caller]]


class GivenPassphrase(BaseModel):
    """The passphrase of this node's keystore."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    passphrase: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class Unlocked(BaseModel):
    """Whether the node still waits for it."""

    locked: bool


def router(node: Node, require: Require) -> APIRouter:
    """Return the route; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1/admin", tags=["admin"], dependencies=[Depends(require("admin"))])
    one_at_a_time = threading.Lock()  # each try takes 256 MiB

    @routes.post("/unlock")
    def unlock(body: GivenPassphrase) -> Unlocked:
        """Open what the passphrase protects, until the node stops; what waited for it goes on."""
        with one_at_a_time:
            node.keystore.unlock(body.passphrase)
        log.info("keystore unlocked")
        for topic in ("intake", "forward"):
            node.signals.tell(topic)
        return Unlocked(locked=node.keystore.locked)

    return routes
