"""Making a mesh and joining one: what `init`, `join` and `restore-admin` write into a data folder.

Called by the command line while no node runs on the folder. After each, the folder holds keys,
certificates, the genesis and the facts that make this node a member; `run` needs nothing else. Joining
by files takes two steps, with `joining.cbor` between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from node import webcert
from node.addresses import own_addresses
from node.clock import Clock
from node.errors import BadSettings, NodeError, Refused
from node.home import Home, Membership
from node.keys import Keystore, Random
from node.mesh import joining, tls
from node.mesh.enrolment import InvitationFile, Pending
from node.opening import boxes_for
from node.recovery import RecoverySheet
from node.store import files
from node.store.blobs import DiskBlobStore
from node.store.database import Database
from node.store.factlog import FactLog
from node.store.notes import Notes
from node.store.queue import Queue
from sync.bodies import Grant, Member, Role, consent_message
from sync.errors import BadManifest, CannotOpen
from sync.genesis import Genesis, Mode
from sync.hlc import next_timestamp
from sync.ids import BlobId, HlcMs, MeshId, NodeId
from sync.manifest import key_id, open_key, parse_manifest, seal_key

_PENDING = "joining.cbor"
_WITHIN_MS = 60_000


def found(
    home: Home,
    *,
    mesh_name: str,
    label: str,
    mode: Mode,
    roles: Sequence[str],
    passphrase: str | None,
    clock: Clock,
    random: Random,
    sheets: Sequence[RecoverySheet] = (),
) -> RecoverySheet:
    """Make a new mesh with this node as its first member; return the sheet, which is stored nowhere.

    With `sheets`, made by `RecoverySheet.create_many`, the mesh has the root of each; the first one is
    returned.

    Raises:
        BadSettings: the folder belongs to a mesh already.
    """
    _must_be_new(home)
    home.make()
    sheets = sheets or (RecoverySheet.create(random),)
    sheet = sheets[0]
    genesis = Genesis(
        name=mesh_name,
        roots=tuple(sorted(one.root.id for one in sheets)),
        recovery=sheet.recovery_public,
        mesh_ca=tuple(tls.make_mesh_ca(one.root_key) for one in sheets),
        web_root=webcert.make_web_root(sheet.web_root_key, mesh_name),
        mode=mode,
    )
    keystore = _keystore(home, passphrase=passphrase, random=random)
    admitted, membership = _admitted_by_root(
        sheet, genesis, keystore, label=label, roles=roles, newest=None, clock=clock, random=random
    )
    _keep(home, keystore, membership, [admitted], clock)
    return sheet


@dataclass(frozen=True, slots=True)
class Restored:
    """What the paper gave a node: its roles, and how many studies it can open that it could not before."""

    roles: frozenset[str]
    opened: int


def restore_admin(
    home: Home, sheet: RecoverySheet, *, all_roles: bool, clock: Clock, random: Random
) -> Restored:
    """Let a root of the mesh give the node in this folder the role `admit`; return what it has now.

    So the loss of the node that made the mesh is not the end of it. The node gets a certificate that issues
    certificates, and an issuer of people's, as the first one had. If it may open studies now, those that are
    here are opened for it with the recovery key, and any later forwarder gets them from it. Nothing runs on
    the folder meanwhile.

    Raises:
        BadSettings: the folder belongs to no mesh, or a node runs on it.
        Refused: the sheet is of another mesh (`recovery-sheet-wrong`), or it, or the node, was revoked
            (`not-a-member`).
    """
    with home.only_me():
        before = home.membership()
        genesis = before.genesis
        if sheet.root.id not in genesis.roots or sheet.recovery_public != genesis.recovery:
            raise Refused("recovery-sheet-wrong", "This is the sheet of another mesh.")
        keystore = Keystore.load(home.keys)
        database = Database(home.database)
        try:
            log = _fact_log(database, before, keystore, clock)
            seen_ms = Notes(database).number("wall_ms")
            members = log.ledger.membership
            if members.is_revoked(keystore.node_id) or members.is_revoked(sheet.root.id):
                raise Refused(
                    "not-a-member", "This node, or this sheet, was revoked. Use another one, or join anew."
                )
            roles = members.roles(keystore.node_id) | {Role.ADMIT.value}
            admitted, membership = _admitted_by_root(
                sheet,
                genesis,
                keystore,
                label=before.label,
                roles=[role.value for role in Role] if all_roles else sorted(roles),
                newest=log.ledger.newest_of(sheet.root.id) or None,
                clock=clock,
                random=random,
            )
            log.add_many([admitted])
            roles = log.ledger.membership.roles(keystore.node_id)
            opened = _open_older(home, database, log, keystore, sheet, random) if Role.FORWARD in roles else 0
        finally:
            database.close()
        if not membership.web_chain or clock.now_ms() < seen_ms - _WITHIN_MS:  # this clock issues nothing
            membership = replace(membership, web_chain=before.web_chain)
        home.keep_membership(membership)
    return Restored(roles, opened)


def _open_older(
    home: Home, database: Database, log: FactLog, keystore: Keystore, sheet: RecoverySheet, random: Random
) -> int:
    """Grant this node the keys of the studies that are here, by the recovery key; return how many."""
    assert keystore.seal_public is not None
    blobs, mine, granted = DiskBlobStore(home.blobs), key_id(keystore.seal_public), 0
    for held in Queue(database).all():
        view = log.ledger.entry(held.entry)
        if held.erasing or not view.is_on_its_way or boxes_for(view, mine):
            continue
        try:
            manifest = parse_manifest(blobs.get(BlobId(held.entry)))
            if mine in manifest.keys:
                continue
            key = open_key(manifest, sheet.recovery_secret)
        except (NodeError, BadManifest, CannotOpen):
            continue  # not here, or damaged: another node has it
        name, box = seal_key(manifest, key, recipient=keystore.seal_public, ephemeral_seed=random(32))
        log.issue(Grant({bytes(name): box}), held.entry)
        granted += 1
    return granted


def _admitted_by_root(
    sheet: RecoverySheet,
    genesis: Genesis,
    keystore: Keystore,
    *,
    label: str,
    roles: Sequence[str],
    newest: int | None,
    clock: Clock,
    random: Random,
) -> tuple[bytes, Membership]:
    """Return the fact by which a root admits this node, and the certificates that go with it."""
    if keystore.web_issuer_key is None:
        keystore.make_web_issuer_key(random)
    assert keystore.web_issuer_key is not None
    web_issuer = webcert.issue_web_issuer(
        sheet.web_root_key, genesis.web_root, webcert.public_half(keystore.web_issuer_key)
    )
    leaf = webcert.issue_web_leaf(
        keystore.web_issuer_key,
        web_issuer,
        webcert.public_half(keystore.web_key),
        webcert.names_for(genesis.name, label, own_addresses(), shared=Role.INGEST in roles),
        now_ms=clock.now_ms(),
    )
    member = Member(
        node=keystore.node_id,
        seal=keystore.seal_public,
        roles=tuple(sorted(roles)),
        label=label,
        consent=_consent(keystore, genesis.mesh_id, sheet.root.id),
    )
    timestamp = next_timestamp(clock.now_ms(), None if newest is None else HlcMs(newest))
    certificate = tls.issue_member_cert(
        sheet.root_key,
        tls.make_mesh_ca(sheet.root_key),
        keystore.node_id,
        can_admit=Role.ADMIT in roles,
    )
    membership = Membership(
        genesis=genesis,
        label=label,
        chain=(certificate,),
        web_chain=() if clock.fell_back else (leaf, web_issuer),  # it issues its own once the clock is right
        web_issuer=web_issuer,
    )
    return sheet.root.sign(member, mesh=genesis.mesh_id, timestamp=timestamp), membership


def join(
    home: Home,
    *,
    address: str,
    code: str,
    label: str,
    passphrase: str | None,
    clock: Clock,
    random: Random,
    remember: bool = False,
) -> Membership:
    """Join a mesh with a code that the node at `address` ("host:port") gave out.

    With `remember` that address is one at which this node looks for the inviter from now on.

    Keys that an interrupted join left behind are used again, so that the code still works.

    Raises:
        BadSettings: the folder belongs to a mesh already.
        BadInvitation, PeerUnreachable, PeerRefused: see `node.mesh.joining.join`.
    """
    _must_be_new(home)
    home.make()
    keystore = _keystore(home, passphrase=passphrase, random=random)
    seal = keystore.seal_public
    assert seal is not None
    welcome = joining.join(
        address,
        code,
        key=keystore.node_key,
        seal=seal,
        label=label,
        web=webcert.public_half(keystore.web_key),
        addresses=own_addresses(),
    )
    membership = Membership(
        genesis=welcome.genesis,
        label=label,
        chain=welcome.chain,
        web_chain=welcome.web_chain,
        web_issuer=None,
    )
    _keep(home, keystore, membership, list(welcome.facts), clock, peer=address if remember else "")
    return membership


def ask_to_join(
    home: Home,
    *,
    invitation: bytes,
    label: str,
    passphrase: str | None,
    random: Random,
) -> tuple[Genesis, NodeId, bytes]:
    """Answer an invitation file; return the mesh, this node's id, and the content of a request file.

    Asking again, also with another invitation, uses the same keys.

    Raises:
        BadSettings: the folder belongs to a mesh already.
        BadInvitation: the file is no invitation.
    """
    _must_be_new(home)
    said = InvitationFile.decode(invitation)
    home.make()
    keystore = _keystore(home, passphrase=passphrase, random=random)
    seal = keystore.seal_public
    assert seal is not None
    request = joining.make_request_file(
        said,
        key=keystore.node_key,
        seal=seal,
        label=label,
        web=webcert.public_half(keystore.web_key),
        addresses=own_addresses(),
    )
    files.write_durably(home.path / _PENDING, Pending(said.genesis, said.inviter, label).encode())
    return said.genesis, keystore.node_id, request


def finish_joining(home: Home, *, response: bytes, clock: Clock) -> Membership:
    """Join with the response to the request that was made in this folder.

    Raises:
        BadSettings: the folder belongs to a mesh already, or no request was made in it.
        BadInvitation: the response is for another node, or does not make this one a member.
    """
    _must_be_new(home)
    try:
        pending = Pending.decode((home.path / _PENDING).read_bytes())
    except FileNotFoundError:
        raise BadSettings(
            "no request was made in this data folder; begin with `clinicmesh join --from FILE --request FILE`"
        ) from None
    keystore = Keystore.load(home.keys)
    welcome = joining.accept_response_file(response, pending.genesis, pending.inviter, keystore.node_id)
    membership = Membership(
        genesis=welcome.genesis,
        label=pending.label,
        chain=welcome.chain,
        web_chain=welcome.web_chain,
        web_issuer=None,
    )
    _keep(home, keystore, membership, list(welcome.facts), clock)
    files.remove(home.path / _PENDING)
    return membership


def _must_be_new(home: Home) -> None:
    if home.is_member:
        raise BadSettings("this data folder belongs to a mesh already")


def _keystore(home: Home, *, passphrase: str | None, random: Random) -> Keystore:
    if (home.keys / "keystore").exists():
        keystore = Keystore.load(home.keys)
        if keystore.locked and passphrase is not None:
            keystore.unlock(passphrase)
        return keystore
    return Keystore.create(home.keys, can_open=True, passphrase=passphrase, random=random)


def _consent(keystore: Keystore, mesh: MeshId, author: NodeId) -> bytes:
    message = consent_message(mesh=mesh, author=author, seal=keystore.seal_public)
    return keystore.node_key.sign(message).signature


def _keep(
    home: Home,
    keystore: Keystore,
    membership: Membership,
    signed: list[bytes],
    clock: Clock,
    *,
    peer: str = "",
) -> None:
    """Write facts first and the membership last: only then is the folder a member's."""
    database = Database(home.database)
    try:
        _fact_log(database, membership, keystore, clock).add_many(signed)
        if peer:
            Notes(database).add_peer(peer)
    finally:
        database.close()
    home.keep_membership(membership)


def _fact_log(database: Database, membership: Membership, keystore: Keystore, clock: Clock) -> FactLog:
    return FactLog(
        database,
        mesh=membership.genesis.mesh_id,
        roots=membership.genesis.roots,
        key=keystore.node_key,
        clock=clock,
    )
