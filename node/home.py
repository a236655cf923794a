"""A node's data folder: what lies where, who may use it, and what the node knows of its mesh.

mesh.cbor     genesis, certificates, label (nothing secret)
keys/         the keystore
state.db      facts, queue, uploads
blobs/        sealed studies
ballast       takes up room, to be dropped when the disk is full
spool/        sealed uploads under way
audit/        who did what: a chain of lines that only grows
logs/  run/   what happened; how the command line reaches the running node
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from node.errors import BadSettings, StoreDamaged
from node.store import files
from sync import cbor
from sync.errors import SyncError
from sync.genesis import Genesis, parse_genesis

_MESH_FILE = "mesh.cbor"


@dataclass(frozen=True, slots=True)
class Membership:
    """What this node knows of its mesh. Chains are DER certificates, the node's own first, roots left out.

    `web_issuer`: the DER certificate under which this node issues people's leafs, on nodes that admit.
    """

    genesis: Genesis
    label: str
    chain: tuple[bytes, ...]
    web_chain: tuple[bytes, ...]
    web_issuer: bytes | None

    def encode(self) -> bytes:
        """Return the file's content."""
        return cbor.encode(
            {
                "v": 1,
                "genesis": self.genesis.encode(),
                "label": self.label,
                "chain": list(self.chain),
                "web_chain": list(self.web_chain),
                "web_issuer": self.web_issuer,
            }
        )


class Home:
    """The data folder at `path`; `make` creates it, for its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = path / "keys"
        self.database = path / "state.db"
        self.blobs = path / "blobs"
        self.ballast = path / "ballast"
        self.spool = path / "spool"
        self.logs = path / "logs"
        self.run = path / "run"
        self.audit = path / "audit"

    def make(self) -> None:
        """Create the folder."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix":
            self.path.chmod(0o700)

    @property
    def is_member(self) -> bool:
        """Whether a mesh was made or joined here."""
        return (self.path / _MESH_FILE).exists()

    def membership(self) -> Membership:
        """Return what this node knows of its mesh.

        Raises:
            BadSettings: no mesh was made or joined here.
            StoreDamaged: the file is not what was written.
        """
        try:
            data = (self.path / _MESH_FILE).read_bytes()
        except FileNotFoundError:
            raise BadSettings(
                "This folder belongs to no mesh yet. Make one with `clinicmesh init`, or join one with "
                "`clinicmesh join CODE --at HOST`."
            ) from None
        try:
            said = cbor.decode(data)
            return Membership(
                genesis=parse_genesis(said["genesis"]),
                label=said["label"],
                chain=tuple(said["chain"]),
                web_chain=tuple(said["web_chain"]),
                web_issuer=said["web_issuer"],
            )
        except (SyncError, KeyError, TypeError):
            raise StoreDamaged("mesh.cbor is not what was written") from None

    def keep_membership(self, membership: Membership) -> None:
        """Write what this node knows of its mesh, durably."""
        files.write_durably(self.path / _MESH_FILE, membership.encode())

    @contextmanager
    def only_me(self) -> Iterator[None]:
        """Hold the folder: one process uses it at a time.

        Raises:
            BadSettings: another process does.
        """
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise BadSettings("another node is running on this data folder") from None
        try:
            yield
        finally:
            lock.release()
