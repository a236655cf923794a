"""Health: whether the node lives and can work, and the time that devices sign their assertions with."""

from collections.abc import Callable

from fastapi import APIRouter, Response

from node.api.problems import problem
from node.parts import Node
from sync.ids import short


def router(node: Node, url: Callable[[], str | None] = lambda: None) -> APIRouter:
    """Return the routes. `url`: gives where this node's own API is, under its own name."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    def healthz() -> dict[str, str | float | None]:
        """Say that the node lives. `time`: unix seconds, by which tokens are judged.

        `url`: this node's API under its own name, for an app that came from the name that all nodes share.
        """
        return {
            "status": "ok",
            "time": node.clock.now_ms() / 1000,
            "node": short(node.facts.node_id),
            "mesh": short(node.membership.genesis.mesh_id),
            "version": node.version,
            "url": url(),
        }

    @routes.get("/readyz")
    def readyz() -> Response:
        """Say whether the node takes studies in: disk and keys."""
        if node.blobs.free_bytes() < node.settings.reserve_gb * 1_000_000_000:
            return problem(
                "not-ready", "The disk is nearly full. Nothing is lost; make room on it.", status=503
            )
        if node.keystore.locked:
            return problem(
                "not-ready", "The node waits for its passphrase. Uploads are taken and wait.", status=503
            )
        return Response('{"status": "ready"}', media_type="application/json")

    return routes
