"""Opening a data folder: the parts of a node, made once and put together; nothing runs yet.

Called by `node.service`, which serves what is opened here, by the command line and the tests.
"""

import contextlib
from collections.abc import Iterator
from importlib import metadata

from node.audit import Trail
from node.clock import SystemClock
from node.config import Settings
from node.home import Home
from node.jobs.auditing import record_facts
from node.keys import Keystore, random_octets
from node.metrics import Metrics
from node.parts import Node
from node.signals import Signals
from node.store.ballast import Ballast
from node.store.blobs import DiskBlobStore
from node.store.database import Database
from node.store.factlog import FactLog
from node.store.holdings import Holdings
from node.store.notes import Notes
from node.store.queue import Queue
from node.store.vault import Vault
from sync.ids import short

_LIFE, _WALL = "life_ms", "wall_ms"


def version() -> str:
    """Return the version of this program."""
    return metadata.version("clinicmesh")


@contextlib.contextmanager
def open_node(home: Home, settings: Settings, *, passphrase: str | None = None) -> Iterator[Node]:
    """Open a data folder that belongs to a mesh, alone.

    Raises:
        BadSettings: it belongs to none, or another process uses it.
        Refused: the passphrase is wrong.
    """
    membership = home.membership()
    with home.only_me():
        keystore = Keystore.load(home.keys)
        if keystore.locked and passphrase is not None:
            keystore.unlock(passphrase)
        ballast = Ballast(home.ballast)
        ballast.ease()  # a database on a full disk does not open
        database = Database(home.database)
        try:
            notes = Notes(database)
            clock = SystemClock(floor_ms=notes.number(_WALL), carried_ms=notes.number(_LIFE))
            facts = FactLog(
                database,
                mesh=membership.genesis.mesh_id,
                roots=membership.genesis.roots,
                key=keystore.node_key,
                clock=clock,
            )
            counters = Metrics()
            blobs, queue = DiskBlobStore(home.blobs), Queue(database)
            trail = Trail(home.audit, clock, source=f"node:{short(facts.node_id)}")
            facts.listen(lambda admitted, _: record_facts(trail, admitted))
            node = Node(
                version=version(),
                settings=settings,
                home=home,
                membership=membership,
                keystore=keystore,
                clock=clock,
                signals=Signals(),
                audit=trail,
                metrics=counters,
                database=database,
                notes=notes,
                blobs=blobs,
                facts=facts,
                queue=queue,
                holdings=Holdings(facts, queue, blobs, clock),
                vault=Vault(blobs, random_octets),
                ballast=ballast,
            )
            queue.told_setback = counters.set_back
            node.holdings.told_erased = lambda entry: trail.record("erased", "node", entry=entry)
            if not keystore.locked and passphrase is not None:
                trail.record("keystore-unlocked", "node")
            yield node
        finally:
            with contextlib.suppress(Exception):
                keep_time(notes, clock)
            database.close()


def keep_time(notes: Notes, clock: SystemClock) -> None:
    """Remember how long this node has lived, and the latest wall time that it knows."""
    notes.set_numbers(**{_LIFE: clock.carried_ms(), _WALL: clock.now_ms()})
