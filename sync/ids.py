"""Names for what the protocol points at. All ids are raw bytes; people see hex."""

from typing import NewType

BlobId = NewType("BlobId", bytes)  # SHA-256 of a blob's ciphertext
EntryId = NewType("EntryId", bytes)  # SHA-256 of an entry's manifest
FactId = NewType("FactId", bytes)  # SHA-256 of a signed fact
NodeId = NewType("NodeId", bytes)  # a node's (or mesh root's) Ed25519 public key
KeyId = NewType("KeyId", bytes)  # first 8 bytes of SHA-256 of an X25519 public key
MeshId = NewType("MeshId", bytes)  # SHA-256 of a mesh's genesis
HlcMs = NewType("HlcMs", int)  # hybrid logical clock, milliseconds since 1970 where the clock was right


def short(value: bytes) -> str:
    """Return the first 8 hex digits of an id, as logs and people see it."""
    return value[:4].hex()
