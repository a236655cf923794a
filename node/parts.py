"""The parts of one node, put together once and passed down; no globals, so two nodes fit one process."""

from dataclasses import dataclass

from node.audit import Trail
from node.clock import SystemClock
from node.config import Settings
from node.home import Home, Membership
from node.keys import Keystore
from node.metrics import Metrics
from node.signals import Signals
from node.store.ballast import Ballast
from node.store.blobs import BlobStore
from node.store.database import Database
from node.store.factlog import FactLog
from node.store.holdings import Holdings
from node.store.notes import Notes
from node.store.queue import Queue
from node.store.vault import Vault
from sync.bodies import Role
from sync.manifest import MAX_RECIPIENTS

OPENING = frozenset({Role.FORWARD, Role.INGEST})  # roles whose keys open patient data


@dataclass(frozen=True, slots=True)
class Node:
    """What a running node is made of."""

    version: str
    settings: Settings
    home: Home
    membership: Membership
    keystore: Keystore
    clock: SystemClock
    signals: Signals
    audit: Trail
    metrics: Metrics
    database: Database
    notes: Notes
    blobs: BlobStore
    facts: FactLog
    queue: Queue
    holdings: Holdings
    vault: Vault
    ballast: Ballast

    @property
    def may_open(self) -> bool:
        """Whether this node is one that opens and delivers studies."""
        me = self.facts.node_id
        return Role.FORWARD in self.facts.ask(lambda ledger: ledger.membership.roles(me))

    @property
    def opens_patient_data(self) -> bool:
        """Whether its keys open anything of a patient: studies, or uploads under way."""
        return bool(OPENING & self.facts.ask(lambda ledger: ledger.membership.roles(self.facts.node_id)))

    def recipients(self) -> list[bytes]:
        """Return the keys that a new study is sealed to: every forwarder's, and the mesh's recovery key."""
        seals = self.facts.ask(lambda ledger: ledger.membership.forwarder_seals())
        return [self.membership.genesis.recovery, *seals][:MAX_RECIPIENTS]
