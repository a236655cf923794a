"""Enrolment in writing: the text in a QR code, and three files for nodes without a line.

`clinicmesh:join?code=…&at=…` says what a person would type. The files are small CBOR maps under whatever
name a person gives them: an invitation, the request that answers it, the response that answers that
(docs/protocol.md §6). They go through the same checks as their online likes. Called by `node.mesh.joining`,
`node.founding` and the command line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from node.errors import StoreDamaged
from sync import cbor
from sync.errors import BadCbor, BadInvitation
from sync.genesis import Genesis, parse_genesis
from sync.ids import MeshId, NodeId

MAX_FILE = 4 * 1024 * 1024
_SCHEME = "clinicmesh"
_MOST_ADDRESSES = 8


def link_of(code: str, addresses: Sequence[str]) -> str:
    """Return the text that a QR code shows: the code, and where the inviter listens ("host:port")."""
    at = "".join(f"&at={quote(address, safe=':[]')}" for address in addresses[:_MOST_ADDRESSES])
    return f"{_SCHEME}:join?code={code}{at}"


def parse_link(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the code and the addresses of such a text; a bare code has no addresses.

    Raises:
        BadInvitation: it is a text of another kind.
    """
    if ":" not in text:
        return text, ()
    parts = urlsplit(text.strip())
    said = parse_qs(parts.query)
    if parts.scheme.lower() != _SCHEME or parts.path != "join" or len(said.get("code", [])) != 1:
        raise BadInvitation("this is no invitation to join")
    return said["code"][0], tuple(said.get("at", [])[:_MOST_ADDRESSES])


@dataclass(frozen=True, slots=True)
class InvitationFile:
    """What the inviter gives out: its mesh, itself, and the secret that makes it single-use."""

    genesis: Genesis
    inviter: NodeId
    secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the file's content."""
        return _file("invitation", genesis=self.genesis.encode(), inviter=self.inviter, secret=self.secret)

    @classmethod
    def decode(cls, data: bytes) -> "InvitationFile":
        """Return what a file says.

        Raises:
            BadInvitation: it is no invitation, or damaged.
        """
        match _said("invitation", data):
            case {"genesis": bytes(genesis), "inviter": bytes(inviter), "secret": bytes(secret)} if (
                len(inviter) == 32
            ):
                return cls(parse_genesis(genesis), NodeId(inviter), secret)
        raise BadInvitation("the invitation is damaged")


@dataclass(frozen=True, slots=True)
class RequestFile:
    """What a node that wants to join gives back: a request as it is sent online, and to whom."""

    mesh: MeshId
    inviter: NodeId
    request: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the file's content."""
        return _file("request", mesh=self.mesh, inviter=self.inviter, request=self.request)

    @classmethod
    def decode(cls, data: bytes) -> "RequestFile":
        """Return what a file says.

        Raises:
            BadInvitation: it is no request, or damaged.
        """
        match _said("request", data):
            case {"mesh": bytes(mesh), "inviter": bytes(inviter), "request": bytes(request)}:
                return cls(MeshId(mesh), NodeId(inviter), request)
        raise BadInvitation("the request is damaged")


@dataclass(frozen=True, slots=True)
class ResponseFile:
    """The inviter's answer as it is sent online, and for whom."""

    mesh: MeshId
    node: NodeId
    welcome: bytes

    def encode(self) -> bytes:
        """Return the file's content."""
        return _file("response", mesh=self.mesh, node=self.node, welcome=self.welcome)

    @classmethod
    def decode(cls, data: bytes) -> "ResponseFile":
        """Return what a file says.

        Raises:
            BadInvitation: it is no response, or damaged.
        """
        match _said("response", data):
            case {"mesh": bytes(mesh), "node": bytes(node), "welcome": bytes(welcome)}:
                return cls(MeshId(mesh), NodeId(node), welcome)
        raise BadInvitation("the response is damaged")


@dataclass(frozen=True, slots=True)
class Pending:
    """What a node that has made its request remembers until the response comes."""

    genesis: Genesis
    inviter: NodeId
    label: str

    def encode(self) -> bytes:
        """Return the file's content."""
        return _file("pending", genesis=self.genesis.encode(), inviter=self.inviter, label=self.label)

    @classmethod
    def decode(cls, data: bytes) -> "Pending":
        """Return what was remembered.

        Raises:
            StoreDamaged: it is not what was written.
        """
        try:
            match _said("pending", data):
                case {"genesis": bytes(genesis), "inviter": bytes(inviter), "label": str(label)}:
                    return cls(parse_genesis(genesis), NodeId(inviter), label)
        except BadInvitation:
            pass
        raise StoreDamaged("what was noted of the request to join is damaged")


def _file(kind: str, **said: object) -> bytes:
    return cbor.encode({"clinicmesh": kind, "v": 1, **said})


def _said(kind: str, data: bytes) -> Any:
    """Return the map in a file of this kind.

    Raises:
        BadInvitation: it is none, of another kind, or of a newer version.
    """
    try:
        said = cbor.decode(data)
    except BadCbor:
        said = None
    if not isinstance(said, dict) or "clinicmesh" not in said:
        raise BadInvitation("this file is not one of ClinicMesh's")
    if said["clinicmesh"] != kind:
        raise BadInvitation(f"this file is not the {kind}")
    if said.get("v") != 1:
        raise BadInvitation("a newer version of the program made this file")
    return said
