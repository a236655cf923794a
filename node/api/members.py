"""What an administrator does about nodes: revoke them, let them in by files on a stick (scope `admin`)."""

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from node import journey, revoking
from node.api.auth import Caller
from node.errors import Refused
from node.mesh.joining import FILE_LIFE_MS, Inviter
from node.parts import Node
from node.revoking import Preview
from sync.bodies import Role
from sync.facts import Fact
from sync.ids import EntryId, FactId, NodeId, short

Require = Callable[[str], Callable[..., Caller]]
_Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Octets = Annotated[str, StringConstraints(max_length=200_000)]  # base64; more than any fact or request
_MAX_LISTED = 5_000  # facts that can be named in one request


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewRevocation(_Body):
    """Whom to revoke, and what still stands.

    `shown`: as the preview gave it. `vouch`: facts of that node; `vouch_for_all`: all that were shown.
    """

    node: _Id
    shown: _Id
    reason: Annotated[str, StringConstraints(max_length=200)] = ""
    vouch: list[_Id] = Field(default_factory=list, max_length=_MAX_LISTED)
    vouch_for_all: bool = False


class SignedFacts(_Body):
    """Facts that the mesh's root has signed, in base64."""

    facts: list[_Octets] = Field(min_length=1, max_length=8)


class NewInvitationFile(_Body):
    """Who may join with the file."""

    roles: list[Role] = Field(min_length=1, max_length=5)
    label: Annotated[str, StringConstraints(max_length=64)] = ""


class RequestFile(_Body):
    """The content of a request file, in base64."""

    request: _Octets


def router(node: Node, inviter: Inviter, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1/admin", tags=["admin"], dependencies=[Depends(require("admin"))])

    @routes.get("/revocations")
    def preview(key: str) -> dict[str, Any]:
        """Tell what is at stake when a node is revoked; `key` is its label, or the first digits of its id."""
        return _told(node, revoking.preview(node, revoking.find_key(node, key)))

    @routes.post("/revocations", status_code=201)
    def revoke(body: NewRevocation) -> dict[str, Any]:
        """Revoke a node that this one is above, or vouch for more of what a revoked one has signed."""
        key = NodeId(bytes.fromhex(body.node))
        vouched = [FactId(bytes.fromhex(one)) for one in body.vouch]
        if body.vouch_for_all:
            vouched = [fact.id for fact in revoking.preview(node, key).lost.hurtful]
        facts, revived = revoking.revoke(node, key, reason=body.reason, vouched=vouched, shown=body.shown)
        return {"facts": [fact.id.hex() for fact in facts], "announced_again": revived}

    @routes.post("/revocations/signed", status_code=201)
    def take_signed(body: SignedFacts) -> dict[str, Any]:
        """Take in revocations that the mesh's root has signed with the recovery sheet."""
        raws = [_octets(one) for one in body.facts]
        revived = revoking.take_signed(node, raws)
        return {"facts": [hashlib.sha256(raw).hexdigest() for raw in raws], "announced_again": revived}

    @routes.post("/invitation-files", status_code=201)
    def invite_by_file(body: NewInvitationFile) -> dict[str, Any]:
        """Make the content of a file with which one node may ask to join, without a line between the two."""
        data = inviter.invite_by_file([role.value for role in body.roles], label=body.label)
        return {"invitation": b64encode(data).decode(), "expires_in": FILE_LIFE_MS // 1000}

    @routes.post("/admissions", status_code=201)
    def admit(body: RequestFile) -> dict[str, Any]:
        """Admit the node that made a request file; the answer is the content of a response file."""
        admitted, data = inviter.welcome_by_file(_octets(body.request))
        members = node.facts.ask(lambda ledger: ledger.membership.members())
        return {
            "response": b64encode(data).decode(),
            "node": short(admitted),
            "label": members[admitted].label,
            "roles": sorted(members[admitted].roles),
        }

    return routes


def _told(node: Node, seen: Preview) -> dict[str, Any]:
    """Return a preview as the API says it."""
    lost = seen.lost
    members = node.facts.ask(lambda ledger: ledger.membership.members())
    roots = node.membership.genesis.roots
    newest = node.facts.ask(lambda ledger: {root.hex(): ledger.newest_of(root) for root in roots})
    return {
        "node": seen.key.hex(),
        "label": seen.label,
        "roles": list(seen.roles),
        "revoked": seen.revoked,
        "may_sign": seen.may_sign,
        "could_open": {
            "studies": [_entry(entry) for entry in seen.opens],
            "held": len(seen.has),
            "cannot_tell": seen.unseen,
            "delivered": revoking.delivered_by(seen),
        },
        "waiting": [_entry(entry) for entry in seen.waiting],
        "lost": {
            "tombstones": len(lost.entries),
            "members": sorted(members[key].label for key in lost.members),
            "devices": sorted(lost.devices),
            "destinations": sorted(lost.destinations),
        },
        "facts": [_fact(fact) for fact in lost.hurtful],
        "credentials": list(seen.credentials),
        "shown": seen.shown,
        "now_ms": node.clock.now_ms(),
        "newest": newest,
    }


def _entry(entry: EntryId) -> dict[str, str]:
    return {"entry_id": entry.hex(), "code": journey.code_of(entry)}


def _fact(fact: Fact) -> dict[str, str | None]:
    entry = fact.header.entry
    return {
        "fact": fact.id.hex(),
        "kind": fact.header.kind,
        "entry_id": None if entry is None else entry.hex(),
    }


def _octets(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (NotBase64, ValueError):
        raise Refused("bad-request", "That is not base64.") from None
