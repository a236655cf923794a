"""Nodes on machines of their own: real processes in network namespaces, which find each other by zeroconf.

A `NetNode` is a `RealNode` whose process, ports and clock are those of a `support.netns.Machine`. The test
reaches its API from inside of the namespace, as its owner does. Carrying a laptop (`carried_to`) switches it
off, moves its cable, and switches it on again somewhere else: no address is typed.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from support.forkserver import Forked, ForkServer
from support.netns import Machine
from support.nodes import RealNode, _Node, fork_server

from node.cli.mesh import PRESETS
from node.keys import Keystore
from node.mesh.client import PeerClient
from node.mesh.sessions import Sessions
from node.mesh.tls import Identity, client_context
from sync import facts
from sync.facts import FactClass
from sync.ids import EntryId, NodeId

_YEAR_MS = 365 * 24 * 3_600_000


class NetNode(RealNode):
    """A node whose process runs on a machine of the lab."""

    def __init__(
        self,
        folder: Path,
        machine: Machine,
        forks: ForkServer,
        **settings: Any,
    ) -> None:
        super().__init__(folder, None, None, **{"bind": "0.0.0.0", "discovery": True} | settings)
        self.machine = machine
        self._server = forks
        self.mesh_port, self.people_port, self.local_port = 8444, 8443, 8480

    @property
    def mesh_address(self) -> str:
        return f"{self.machine.address}:{self.mesh_port}"

    @contextlib.contextmanager
    def api(self) -> Iterator[httpx.Client]:
        with self.machine.inside(), super().api() as client:
            yield client

    def init(self, **how: Any) -> Any:
        with self.machine.inside():
            return super().init(**how)

    def join_near_by(self, inviter: "NetNode", preset: str) -> None:
        """Join by a code and nothing else: whoever made it is found on the network."""
        roles = {"roles": [role.value for role in PRESETS[preset]], "label": self.label}
        code = inviter.ask("POST", "/api/v1/admin/invitations", roles)["code"]
        words = ["join", code, "--data", str(self.folder), "--label", self.label]
        self.folder.mkdir()
        joining = self._server.start(words, self.out, self.machine.namespace)
        assert joining.wait(60) == 0, self.printed()
        self.write_settings()

    def start(self, peers: Sequence["_Node | str"] = (), *, wait: bool = True) -> None:
        with self.machine.inside():
            super().start(peers, wait=wait)

    def carried_to(self, place: str | None, peers: Sequence["_Node | str"] = ()) -> None:
        """Switch it off without asking, go somewhere, switch it on there. To `None`: it stays off."""
        self.kill()
        self.machine.move(place)
        if place is not None:
            self.start(peers)

    def _launch(self, words: list[str]) -> Forked:
        return self._server.start(words, self.out, self.machine.namespace)

    # -- looking ------------------------------------------------------------------------------------

    def facts(self) -> set[bytes]:
        """Return the ids of all facts that it has stored."""
        with closing(sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)) as rows:
            return {row[0] for row in rows.execute("SELECT id FROM fact")}

    def signed(self) -> list[bytes]:
        """Return the signed bytes of all facts that it has stored, memberships first."""
        with closing(sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)) as rows:
            return [row[0] for row in rows.execute("SELECT raw FROM fact ORDER BY membership DESC")]

    def printed(self) -> str:
        """Return what the process has printed so far."""
        return self.out.read_text(encoding="utf-8")

    # -- what a program could do that somebody changed ------------------------------------------------

    @property
    def node_id(self) -> NodeId:
        return NodeId(bytes(self.identity.key.verify_key))

    @property
    def identity(self) -> Identity:
        return Identity(Keystore.load(self.home.keys).node_key, self.home.membership().chain)

    @contextlib.contextmanager
    def line_to(self, other: "NetNode") -> Iterator[PeerClient]:
        """Give a line to another node with this node's key, from this node's machine."""
        ca = self.home.membership().genesis.mesh_ca
        with (
            self.machine.inside(),
            PeerClient(other.mesh_address, Sessions(client_context(self.identity, ca))) as client,
        ):
            yield client

    def sign(self, body: Any, entry: EntryId | None = None, *, at: int) -> bytes:
        """Sign a fact with this node's key, whether it may or not."""
        mesh = self.home.membership().genesis.mesh_id
        return facts.sign(body, key=self.identity.key, mesh=mesh, timestamp=at, entry=entry)

    def sign_unknown(self, entry: EntryId, *, at: int) -> bytes:
        """Sign a critical fact of a kind that this version does not know."""
        header = facts.Header(
            kind="from-the-future",
            author=self.node_id,
            timestamp=at,
            fact_class=FactClass.PERMANENT,
            entry=entry,
            slot=None,
            critical=True,
        )
        mesh = self.home.membership().genesis.mesh_id
        return facts.sign_raw(header, {"x": 1}, key=self.identity.key, mesh=mesh)


@contextlib.contextmanager
def forks_at(clock: str) -> Iterator[ForkServer]:
    """Give a fork server whose processes believe that it was `clock` when it started (libfaketime)."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    # The monotonic clock stays true: no machine's jumps.
    with fork_server(
        LD_PRELOAD=str(library), FAKETIME=f"@{clock}", FAKETIME_DONT_FAKE_MONOTONIC="1"
    ) as server:
        yield server


def a_year_later(node: NetNode) -> None:
    """Let a stopped node be a year older, by its wall clock and by the time that it has lived."""
    assert not node.running
    with closing(sqlite3.connect(node.home.database)) as rows, rows:
        for name, least in (("life_ms", 0), ("wall_ms", time.time_ns() // 1_000_000)):
            found = rows.execute("SELECT value FROM note WHERE name = ?", [name]).fetchone()
            value = max(least, int.from_bytes(found[0]) if found else 0) + _YEAR_MS
            rows.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", [name, value.to_bytes(8)])


def copied(node: NetNode, folder: Path, machine: Machine) -> NetNode:
    """Return a node on a copy of a stopped node's disk: a clone, or a backup."""
    assert not node.running
    shutil.copytree(node.folder, folder)
    return NetNode(folder, machine, node._server)


def restore(node: NetNode, backup: Path) -> None:
    """Put a stopped node's whole disk back to what it was when it was copied."""
    assert not node.running
    shutil.rmtree(node.folder)
    shutil.copytree(backup, node.folder)


def all_equal(nodes: Sequence[NetNode]) -> bool:
    """Tell whether all nodes have stored the same facts."""
    sets = [node.facts() for node in nodes]
    return all(one == sets[0] for one in sets)
