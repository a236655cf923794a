"""Joining a mesh: invitations on one side, `join` on the other (docs/protocol.md §6).

The joiner pins the inviter's key from the code before it sends a byte; the inviter accepts the code's
secret once, for ten minutes, three tries. Without a line the same goes by files, for a day. Both the
node's membership (a fact) and its certificates come back in one answer, which the joiner checks before it
stores anything.
"""

import hmac
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx
from nacl.signing import SigningKey

from node.clock import Clock
from node.errors import PeerRefused, PeerUnreachable, Refused
from node.mesh import tls, wire
from node.mesh.client import code_of, read_bounded
from node.mesh.enrolment import MAX_FILE, InvitationFile, RequestFile, ResponseFile
from node.store.factlog import FactLog
from sync import cbor
from sync.bodies import Member, Role, consent_message
from sync.errors import BadFact, BadInvitation
from sync.facts import FactClass, parse
from sync.genesis import Genesis, parse_genesis
from sync.ids import NodeId
from sync.invitation import SECRET_BYTES, Invitation, encode_code, fingerprint_of, parse_code
from sync.ledger import Ledger
from sync.membership import MEMBERSHIP_KINDS

LIFE_MS = 600_000
FILE_LIFE_MS = 24 * 3_600_000
TRIES = 3  # of one address, with each code
_MOST_TRIES = 1_000  # of all together: with 40 bits, one chance in a thousand million
_MAX_OPEN = 32
_FILE_SECRET_BYTES = 16  # nobody types it
_TIMEOUT = httpx.Timeout(10.0)
Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a node that wants to join says of itself. `web`: SubjectPublicKeyInfo of its people's TLS key."""

    secret: bytes = field(repr=False)
    node: NodeId
    seal: bytes
    label: str
    consent: bytes
    web: bytes
    addresses: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the body."""
        return cbor.encode(
            {
                "secret": self.secret,
                "node": self.node,
                "seal": self.seal,
                "label": self.label,
                "consent": self.consent,
                "web": self.web,
                "addresses": list(self.addresses),
            }
        )


@dataclass(frozen=True, slots=True)
class Welcome:
    """What an inviter answers. Chains are DER certificates, the node's own first, roots left out."""

    genesis: Genesis
    facts: tuple[bytes, ...]
    chain: tuple[bytes, ...]
    web_chain: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the body."""
        return cbor.encode(
            {
                "genesis": self.genesis.encode(),
                "facts": list(self.facts),
                "chain": list(self.chain),
                "web_chain": list(self.web_chain),
            }
        )


@dataclass(slots=True)
class _Open:
    """An invitation that was given out. `typed`: its secret is short enough to be guessed."""

    secret: bytes = field(repr=False)
    roles: frozenset[str]
    label: str
    until_ms: int
    typed: bool
    tries: Counter[str] = field(default_factory=Counter)  # wrong secrets, by address
    used_by: NodeId | None = None


class Inviter:
    """Gives out codes and admits those who have one. Codes live in memory: a restart ends them."""

    def __init__(
        self,
        facts: FactLog,
        genesis: Genesis,
        identity: tls.Identity,
        clock: Clock,
        *,
        random: Random,
        issue_web: Callable[[bytes, str, Sequence[str], frozenset[str]], tuple[bytes, ...]],
    ) -> None:
        self._facts = facts
        self._genesis = genesis
        self._identity = identity
        self._clock = clock
        self._random = random
        self._issue_web = issue_web
        self._open: list[_Open] = []
        self._lock = threading.Lock()

    def invite(self, roles: Sequence[str], *, label: str = "") -> str:
        """Return a code with which one node may join with these roles.

        Raises:
            Refused: this node may not admit, or not with these roles.
        """
        secret = self._open_one(roles, label, SECRET_BYTES, LIFE_MS, typed=True)
        return encode_code(Invitation(fingerprint_of(self._facts.node_id), secret))

    def invite_by_file(self, roles: Sequence[str], *, label: str = "") -> bytes:
        """Return the content of a file with which one node may ask to join, for a day.

        Raises:
            Refused: this node may not admit, or not with these roles.
        """
        secret = self._open_one(roles, label, _FILE_SECRET_BYTES, FILE_LIFE_MS, typed=False)
        return InvitationFile(self._genesis, self._facts.node_id, secret).encode()

    def _open_one(
        self, roles: Sequence[str], label: str, secret_bytes: int, life_ms: int, *, typed: bool
    ) -> bytes:
        mine = self._facts.ask(lambda ledger: ledger.membership.roles(self._facts.node_id))
        if Role.ADMIT not in mine:
            raise Refused(
                "may-not-admit", "This node may not invite others; the node that made the mesh may."
            )
        if not roles or not frozenset(roles) <= mine:
            raise Refused("roles-too-wide", "A node can only give roles that it has itself.")
        secret = self._random(secret_bytes)
        until_ms = self._clock.monotonic_ms() + life_ms
        with self._lock:
            self._forget_old()
            self._open.append(_Open(secret, frozenset(roles), label, until_ms, typed))
            del self._open[:-_MAX_OPEN]
        return secret

    def genesis(self) -> bytes:
        """Return the genesis, which is no secret; its hash is in no code, but its inviter's key is."""
        return self._genesis.encode()

    def welcome_by_file(self, data: bytes) -> tuple[NodeId, bytes]:
        """Answer a request file; return who was admitted, and the content of a response file.

        Raises:
            BadInvitation: the file is none, or the answer to an invitation of another node.
            Refused: as `welcome` does.
        """
        said = RequestFile.decode(data)
        if said.mesh != self._genesis.mesh_id or said.inviter != self._facts.node_id:
            raise BadInvitation("the request answers an invitation of another node")
        node = decode_request(said.request).node
        return node, ResponseFile(said.mesh, node, self.welcome(said.request)).encode()

    def welcome(self, body: bytes, address: str = "") -> bytes:
        """Answer a join request that came from `address`.

        Raises:
            Refused: the code is wrong, used, or too old (`code-wrong`), or the request is malformed.
        """
        request = decode_request(body)
        invitation = self._accept(request, address)
        with self._facts.writing() as writing:
            writing.issue(
                Member(
                    node=request.node,
                    seal=request.seal,
                    roles=tuple(sorted(invitation.roles)),
                    label=invitation.label or request.label,
                    consent=request.consent,
                )
            )
        certificate = tls.issue_member_cert(
            self._identity.key,
            self._identity.chain[0],
            request.node,
            can_admit=Role.ADMIT in invitation.roles,
        )
        facts = self._facts.ask(
            lambda ledger: tuple(
                fact.raw
                for fact in sorted(ledger.facts(FactClass.PERMANENT).values(), key=lambda f: f.order)
                if fact.header.kind in MEMBERSHIP_KINDS
            )
        )
        label = invitation.label or request.label
        return Welcome(
            genesis=self._genesis,
            facts=facts,
            chain=(certificate, *self._identity.chain),
            web_chain=self._issue_web(request.web, label, request.addresses, invitation.roles),
        ).encode()

    def _accept(self, request: JoinRequest, address: str) -> _Open:
        """Return the invitation that the request's secret is of; count a wrong try against all.

        Only who guesses loses his three tries: anybody on the network can guess, and must not end a code that
        a person is typing elsewhere.
        """
        with self._lock:
            self._forget_old()
            for one in self._open:
                if hmac.compare_digest(one.secret, request.secret):
                    if one.used_by not in (None, request.node) or one.tries[address] >= TRIES:
                        break
                    one.used_by = request.node  # the same node may ask again: its answer was lost
                    return one
            for one in self._open:
                one.tries[address] += one.typed
        raise Refused("code-wrong", "The code is wrong, too old, or was used already. Ask for a new one.")

    def _forget_old(self) -> None:
        now = self._clock.monotonic_ms()
        self._open = [one for one in self._open if one.until_ms > now and one.tries.total() < _MOST_TRIES]


def decode_request(body: bytes) -> JoinRequest:
    """Return a join request.

    Raises:
        Refused: malformed.
    """
    match wire.decode_map(body):
        case {
            "secret": bytes(secret),
            "node": bytes(node),
            "seal": bytes(seal),
            "label": str(label),
            "consent": bytes(consent),
            "web": bytes(web),
            "addresses": list(addresses),
        } if len(node) == 32 and len(seal) == 32 and len(consent) == 64 and len(web) <= 256:
            if len(addresses) <= 16 and all(isinstance(one, str) and len(one) <= 64 for one in addresses):
                return JoinRequest(
                    secret, NodeId(node), seal, label[:64], consent, web, tuple(map(str, addresses))
                )
    raise Refused("bad-message", "the request to join is malformed")


def decode_welcome(body: bytes) -> Welcome:
    """Return an inviter's answer, not yet checked.

    Raises:
        BadInvitation: malformed.
    """
    try:
        said = wire.decode_map(body)
    except Refused:
        said = {}
    match said:
        case {
            "genesis": bytes(genesis),
            "facts": list(facts),
            "chain": list(chain),
            "web_chain": list(web_chain),
        } if all(isinstance(one, bytes) for one in [*facts, *chain, *web_chain]):
            return Welcome(parse_genesis(genesis), tuple(facts), tuple(chain), tuple(web_chain))
    raise BadInvitation("the answer is malformed")


def join(
    address: str,
    code: str,
    *,
    key: SigningKey,
    seal: bytes,
    label: str,
    web: bytes,
    addresses: Sequence[str],
) -> Welcome:
    """Ask the node at `address` ("host:port") to admit this one; return its checked answer.

    Two requests: who invites into which mesh, which the consent names; then the code's secret.

    Raises:
        BadInvitation: the code is mistyped, another node answers, or the answer does not hold.
        PeerUnreachable: nobody answers.
        PeerRefused: the inviter did not accept the code.
    """
    invitation = parse_code(code)
    inviter: list[NodeId] = []

    def is_inviter(node: NodeId) -> bool:
        inviter[:] = [node]
        return invitation.invites_to(node)

    url = f"https://{address}/mesh/v1/join"
    context = tls.joining_context(is_inviter)
    try:
        with httpx.Client(verify=context, timeout=_TIMEOUT, trust_env=False, follow_redirects=False) as http:
            genesis = parse_genesis(_octets(http, "GET", url))
            consent = consent_message(mesh=genesis.mesh_id, author=inviter[0], seal=seal)
            request = JoinRequest(
                secret=invitation.secret,
                node=NodeId(bytes(key.verify_key)),
                seal=seal,
                label=label,
                consent=key.sign(consent).signature,
                web=web,
                addresses=tuple(addresses),
            )
            welcome = decode_welcome(_octets(http, "POST", url, request.encode()))
    except tls.WrongNode:
        raise BadInvitation("another node answers at this address than the one that made the code") from None
    except httpx.TransportError:
        raise PeerUnreachable("nobody answers at this address") from None
    _check(welcome, genesis, request.node, inviter[0])
    return welcome


def make_request_file(
    invitation: InvitationFile,
    *,
    key: SigningKey,
    seal: bytes,
    label: str,
    web: bytes,
    addresses: Sequence[str],
) -> bytes:
    """Return the content of the file with which a node asks to join, as answer to an invitation file."""
    mesh = invitation.genesis.mesh_id
    consent = consent_message(mesh=mesh, author=invitation.inviter, seal=seal)
    request = JoinRequest(
        secret=invitation.secret,
        node=NodeId(bytes(key.verify_key)),
        seal=seal,
        label=label,
        consent=key.sign(consent).signature,
        web=web,
        addresses=tuple(addresses),
    )
    return RequestFile(mesh, invitation.inviter, request.encode()).encode()


def accept_response_file(data: bytes, genesis: Genesis, inviter: NodeId, node: NodeId) -> Welcome:
    """Return the checked answer in a response file.

    Raises:
        BadInvitation: it is none, for another node, or does not make this one a member.
    """
    said = ResponseFile.decode(data)
    if said.mesh != genesis.mesh_id or said.node != node:
        raise BadInvitation("the response is for another node, or of another mesh")
    welcome = decode_welcome(said.welcome)
    _check(welcome, genesis, node, inviter)
    return welcome


def _check(welcome: Welcome, genesis: Genesis, node: NodeId, inviter: NodeId) -> None:
    """Check that an answer makes this node a member of the mesh that it was invited to."""
    if welcome.genesis.mesh_id != genesis.mesh_id:
        raise BadInvitation("the answer is of another mesh")
    tls.check_chain(welcome.chain, genesis.mesh_ca, node)
    ledger = Ledger(genesis.mesh_id, genesis.roots)
    for raw in welcome.facts:
        try:
            ledger.add_fact(parse(raw, mesh=genesis.mesh_id))
        except BadFact:
            raise BadInvitation("the answer holds a fact that is not of this mesh") from None
    if not ledger.membership.roles(node) or Role.ADMIT not in ledger.membership.roles(inviter):
        raise BadInvitation("the answer does not make this node a member")


def _octets(http: httpx.Client, method: str, url: str, body: bytes | None = None) -> bytes:
    with http.stream(method, url, content=body) as answer:
        if not answer.is_success:
            problem = code_of(read_bounded(answer, MAX_FILE))
            raise PeerRefused("the inviter did not accept the request", problem)
        return read_bounded(answer, MAX_FILE)
