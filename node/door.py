"""The people's door: the ports where browsers come in, their certificate, and the set-up page for phones.

Three ports: HTTPS for other devices, with the leaf that is kept fresh by `node.jobs.webleaf`; HTTP for this
machine's own browser, on the loopback; and the set-up page for phones, plain HTTP, open only for a while
after somebody asked for it. Called by `node.service`.
"""

import logging
import ssl
import threading
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI

from node import webcert
from node.addresses import own_addresses
from node.api import origins
from node.api.setup import setup_app
from node.mesh.discovery import Reach, WebHost
from node.parts import Node
from node.serving import Servers
from sync.bodies import Role

log = logging.getLogger(__name__)
_SETUP_S = 1800.0


class PeopleDoor:
    """The people's ports of one node."""

    def __init__(self, node: Node, servers: Servers) -> None:
        self._node = node
        self._servers = servers
        self._lock = threading.Lock()
        self._app: FastAPI | None = None
        self._context: ssl.SSLContext | None = None
        self._port: int | None = None
        self._local: int | None = None
        self._setup: tuple[int, threading.Timer] | None = None

    def open(self, app: FastAPI) -> int:
        """Take the ports for the people's application; return that for this machine's own browser.

        Raises:
            BadSettings: a port is taken.
        """
        self._app = app
        local = self._servers.add(app, "127.0.0.1", self._node.settings.local_port, setting="local_port")
        self._local = local
        if self._node.membership.web_chain:
            self.install(self._node.membership.web_chain)
        return local

    def install(self, chain: Sequence[bytes]) -> None:
        """Show this certificate from now on; the first one opens the port."""
        node = self._node
        if self._context is not None:
            webcert.show(self._context, node.keystore.web_key, chain)
            return
        assert self._app is not None
        context = webcert.server_context(node.keystore.web_key, chain)
        self._port = self._servers.add(
            self._app, node.settings.bind, node.settings.people_port, setting="people_port", context=context
        )
        self._context = context

    @property
    def local_port(self) -> int | None:
        """The port for this machine's own browser, which listens on the loopback only."""
        return self._local

    @property
    def port(self) -> int | None:
        """The HTTPS port; None while there is no certificate."""
        return self._port

    def own_url(self) -> str | None:
        """Return where this node's API is, under its own name; None while there is no certificate."""
        membership = self._node.membership
        if self._port is None:
            return None
        return origins.own_url(membership.genesis.name, membership.label, self._port)

    def hosts(self) -> list[WebHost]:
        """Return the names that this machine answers for on the local network."""
        if self._port is None:
            return []
        membership, me = self._node.membership, self._node.facts.node_id
        mesh, label = webcert.host_label(membership.genesis.name), webcert.host_label(membership.label)
        hosts = [WebHost(f"{label}.{mesh}.local", self._port)]
        if Role.INGEST in self._node.facts.ask(lambda ledger: ledger.membership.roles(me)):
            hosts.append(WebHost(f"{mesh}.local", self._port))  # any of these nodes takes a phone's studies
        return hosts

    def open_setup(self) -> dict[str, Any]:
        """Open the set-up page for half an hour; return where it is, and what to compare.

        Raises:
            BadSettings: its port is taken.
        """
        genesis, settings = self._node.membership.genesis, self._node.settings
        app_url = origins.shared_url(genesis.name, self._port or settings.people_port)
        with self._lock:
            if self._setup is None:
                app = setup_app(genesis.name, genesis.web_root, app_url)
                port = self._servers.add(app, settings.bind, settings.setup_port, setting="setup_port")
                log.info("set-up page opened port=%d", port)
            else:
                port, timer = self._setup
                timer.cancel()
            timer = threading.Timer(_SETUP_S, self.close_setup)
            timer.daemon = True
            timer.start()
            self._setup = port, timer
        near = [one for one in own_addresses() if Reach().covers(one) and ":" not in one]
        return {
            "pages": [f"http://{host}:{port}/" for host in near or ["127.0.0.1"]],
            "app": app_url,
            "fingerprint": webcert.fingerprint(genesis.web_root),
            "expires_in": int(_SETUP_S),
        }

    def close_setup(self) -> None:
        """Close the set-up page, if it is open."""
        with self._lock:
            if self._setup is None:
                return
            port, timer = self._setup
            self._setup = None
        timer.cancel()
        self._servers.close(port)
        log.info("set-up page closed port=%d", port)
