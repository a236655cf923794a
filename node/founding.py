"""Making a mesh and joining one: what `init` and `join` write into a data folder.

Called by the command line while no node runs on the folder. After either, the folder holds keys,
certificates, the genesis and the facts that make this node a member; `run` needs nothing else.
"""

from collections.abc import Sequence

from node import webcert
from node.addresses import own_addresses
from node.clock import Clock
from node.errors import BadSettings
from node.home import Home, Membership
from node.keys import Keystore, Random
from node.mesh import joining, tls
from node.recovery import RecoverySheet
from node.store.database import Database
from node.store.factlog import FactLog
from node.store.notes import Notes
from sync import facts
from sync.bodies import Member, Role, consent_message
from sync.genesis import Genesis, Mode
from sync.hlc import next_timestamp
from sync.ids import MeshId, NodeId


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
) -> RecoverySheet:
    """Make a new mesh with this node as its first member; return the sheet, which is stored nowhere.

    Raises:
        BadSettings: the folder belongs to a mesh already.
    """
    _must_be_new(home)
    home.make()
    sheet = RecoverySheet.create(random)
    root = sheet.root_key
    root_id = NodeId(bytes(root.verify_key))
    mesh_ca = tls.make_mesh_ca(root)
    web_root = webcert.make_web_root(sheet.web_root_key, mesh_name)
    genesis = Genesis(
        name=mesh_name,
        roots=(root_id,),
        recovery=sheet.recovery_public,
        mesh_ca=(mesh_ca,),
        web_root=web_root,
        mode=mode,
    )
    keystore = _keystore(home, passphrase=passphrase, random=random)
    keystore.make_web_issuer_key(random)
    assert keystore.web_issuer_key is not None
    web_issuer = webcert.issue_web_issuer(
        sheet.web_root_key, web_root, webcert.public_half(keystore.web_issuer_key)
    )
    names = webcert.names_for(mesh_name, label, own_addresses())
    leaf = webcert.issue_web_leaf(
        keystore.web_issuer_key,
        web_issuer,
        webcert.public_half(keystore.web_key),
        names,
        now_ms=clock.now_ms(),
    )
    member = Member(
        node=keystore.node_id,
        seal=keystore.seal_public,
        roles=tuple(sorted(roles)),
        label=label,
        consent=_consent(keystore, genesis.mesh_id, root_id),
    )
    admitted = facts.sign(
        member, key=root, mesh=genesis.mesh_id, timestamp=next_timestamp(clock.now_ms(), None)
    )
    can_admit = Role.ADMIT in roles
    membership = Membership(
        genesis=genesis,
        label=label,
        chain=(tls.issue_member_cert(root, mesh_ca, keystore.node_id, can_admit=can_admit),),
        web_chain=(leaf, web_issuer),
        web_issuer=web_issuer,
    )
    _keep(home, keystore, membership, [admitted], clock)
    return sheet


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
        log = FactLog(
            database,
            mesh=membership.genesis.mesh_id,
            roots=membership.genesis.roots,
            key=keystore.node_key,
            clock=clock,
        )
        log.add_many(signed)
        if peer:
            Notes(database).add_peer(peer)
    finally:
        database.close()
    home.keep_membership(membership)
