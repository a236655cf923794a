"""A mesh's genesis: what every node must know of it, named by its hash (docs/protocol.md §1)."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sync import cbor
from sync.errors import BadCbor, BadInvitation
from sync.ids import MeshId, NodeId

_KEYS = {"v", "name", "roots", "recovery", "mesh_ca", "web_root", "mode"}


class Mode(StrEnum):
    """Who opens and delivers studies unless a study says otherwise."""

    SEALED_COURIER = "sealed-courier"  # only cloud nodes; a stolen laptop reveals nothing
    PEER_FORWARDER = "peer-forwarder"  # trusted clinic laptops too


@dataclass(frozen=True, slots=True)
class Genesis:
    """The fixed points of a mesh.

    `roots`: Ed25519 public keys, sorted, any of them enough. `recovery`: X25519 public key to which
    every manifest is sealed as well. `mesh_ca`: one DER certificate for each root. `web_root`: DER of
    the root that people's devices install.
    """

    name: str
    roots: tuple[NodeId, ...]
    recovery: bytes
    mesh_ca: tuple[bytes, ...]
    web_root: bytes
    mode: Mode

    def encode(self) -> bytes:
        """Return the bytes that the mesh id is the hash of."""
        return cbor.encode(
            {
                "v": 1,
                "name": self.name,
                "roots": sorted(self.roots),
                "recovery": self.recovery,
                "mesh_ca": list(self.mesh_ca),
                "web_root": self.web_root,
                "mode": self.mode.value,
            }
        )

    @property
    def mesh_id(self) -> MeshId:
        """SHA-256 of the genesis."""
        return MeshId(hashlib.sha256(self.encode()).digest())


def parse_genesis(data: bytes) -> Genesis:
    """Return the genesis of these bytes.

    Raises:
        BadInvitation: malformed.
    """
    try:
        value: Any = cbor.decode(data)
    except BadCbor:
        raise BadInvitation("the genesis is not deterministic CBOR") from None
    right = (
        isinstance(value, dict)
        and value.keys() == _KEYS
        and type(value["v"]) is int
        and value["v"] == 1
        and isinstance(value["name"], str)
        and 0 < len(value["name"]) <= 64
        and isinstance(value["roots"], list)
        and 0 < len(value["roots"]) <= 16
        and all(isinstance(root, bytes) and len(root) == 32 for root in value["roots"])
        and value["roots"] == sorted(set(value["roots"]))
        and isinstance(value["recovery"], bytes)
        and len(value["recovery"]) == 32
        and isinstance(value["mesh_ca"], list)
        and all(isinstance(cert, bytes) for cert in value["mesh_ca"])
        and isinstance(value["web_root"], bytes)
        and isinstance(value["mode"], str)
        and value["mode"] in frozenset(Mode)
    )
    if not right:
        raise BadInvitation("the genesis is malformed")
    return Genesis(
        name=value["name"],
        roots=tuple(NodeId(root) for root in value["roots"]),
        recovery=value["recovery"],
        mesh_ca=tuple(value["mesh_ca"]),
        web_root=value["web_root"],
        mode=Mode(value["mode"]),
    )
