"""Forwarders on a clock that tests move: the real job, queue, facts and vault, against any PACS.

Nothing waits: a back-off of half an hour is a number that is added to the clock. Two of them share a mesh and
hear of each other only when a test says so.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pydicom
from nacl.public import PrivateKey
from support.clock import FakeClock
from support.facts import MeshMaker, digest

from node.config import Settings
from node.deliver.destination import Destination
from node.deliver.dicomweb import DicomWebDestination
from node.jobs.claims import Claims
from node.jobs.forward import Forwarder
from node.jobs.lines import Lines
from node.jobs.second_look import SecondLook
from node.jobs.uplink import Uplink
from node.keys import Keystore, open_box, seal
from node.store.blobs import MemoryBlobStore
from node.store.database import Database
from node.store.factlog import FactLog
from node.store.holdings import Holdings
from node.store.notes import Notes
from node.store.queue import Queue
from node.store.vault import Incoming, Vault
from sync.bodies import Decision, DestinationBody, Role, Study
from sync.entries import EntryView
from sync.facts import FactClass
from sync.ids import BlobId, EntryId

SECRET = digest("sealing")
PUBLIC = bytes(PrivateKey(SECRET).public_key)
DAY_MS = 86_400_000
_COUNTER = itertools.count(1)

Make = Callable[[DestinationBody, bytes | None], Destination]


def http_pacs(body: DestinationBody, secret: bytes | None) -> Destination:
    """Return a DICOMweb destination that gives up soon; the default of `Forwarding`."""
    return DicomWebDestination(body.url, idle_s=5)


def two_forwarders() -> tuple[MeshMaker, list[bytes]]:
    """Return a mesh of an administrator and another forwarder, both of which may take studies in."""
    mesh = MeshMaker()
    return mesh, [
        mesh.member("root", "admin", list(Role)),
        mesh.member("root", "other", [Role.INGEST, Role.CARRY, Role.FORWARD]),
    ]


class Forwarding:
    """One forwarder with its store. Studies that it is given are its own."""

    def __init__(
        self,
        folder: Path,
        mesh: MeshMaker,
        members: list[bytes],
        url: str,
        *,
        name: str = "admin",
        make: Make = http_pacs,
        evidence: str = "read-back",
        **settings: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mesh, self.name, self._make = mesh, name, make
        self.clock = FakeClock()
        self.blobs = MemoryBlobStore()
        self.settings = Settings(reserve_gb=0, **settings)
        self.database = Database(folder / f"{name}.db")
        self._assemble()
        self.facts.add_many(members)
        body = DestinationBody("main", "dicomweb", url, evidence, {}, {})
        if name == "admin":
            self.facts.issue(body)

    def _assemble(self) -> None:
        mesh, clock = self.mesh, self.clock
        self.facts = FactLog(
            self.database, mesh=mesh.id, roots=mesh.root_ids, key=mesh.key(self.name), clock=clock
        )
        self.notes, self.queue = Notes(self.database), Queue(self.database)
        self.holdings = Holdings(self.facts, self.queue, self.blobs, clock)
        self.vault = Vault(self.blobs, lambda count: digest(next(_COUNTER))[:count].ljust(count, b"r"))
        self.keystore = cast(
            "Keystore",
            SimpleNamespace(
                seal_secret=SECRET,
                locked=False,
                intake=SimpleNamespace(seal=lambda b: seal(PUBLIC, b), open=lambda b: open_box(SECRET, b)),
            ),
        )
        self.lines = Lines(self._make, self.notes, clock)
        look_ms = int(self.settings.second_look_hours * 3_600_000)
        self.forwarder = Forwarder(
            self.holdings, self.vault, self.keystore, clock, self.lines,
            Uplink(self.settings, self.notes, clock), look_after_ms=look_ms or None,
            claims=Claims(self.holdings, clock, settle_s=0),
        )  # fmt: skip
        self.second_look = SecondLook(self.holdings, self.keystore, clock, self.lines, look_ms)

    def restart(self) -> None:
        """Forget everything that is not on disk, as after a power cut."""
        self.lines.close()
        self._assemble()

    def close(self) -> None:
        """Close what is open."""
        self.forwarder.close()
        self.lines.close()
        self.database.close()

    # -- doing ----------------------------------------------------------------------------------

    def keep(self, files: Sequence[bytes], *, urgent: bool = False, destination: str = "main") -> EntryId:
        """Take a study in, sealed for every forwarder of these tests."""
        headers = [pydicom.dcmread(BytesIO(data), stop_before_pixels=True) for data in files]
        incoming = [
            Incoming(
                str(header.SOPInstanceUID), str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID),
                len(data), hashlib.sha256(data).digest(), lambda data=data: iter([data]),
            )
            for header, data in zip(headers, files, strict=True)
        ]  # fmt: skip
        kept = self.vault.keep_study(
            str(headers[0].StudyInstanceUID), incoming, {}, recipients=[PUBLIC], mesh=self.mesh.id
        )
        listed = [(BlobId(kept.entry_id), len(kept.manifest)), *kept.blobs]
        self.clock.advance(1)
        body = Study(
            manifest=BlobId(kept.entry_id), size=kept.size, blobs=len(listed),
            priority="urgent" if urgent else "routine", destination=destination,
            submission=digest(kept.entry_id)[:16], origin=self.facts.node_id,
        )  # fmt: skip
        with self.facts.writing() as writing:
            self.holdings.keep_own(writing, kept.entry_id, body, listed)
        return kept.entry_id

    def run(self, *, rounds: int = 1, between_ms: int = 0) -> int:
        """Let the job run, and time pass between its runs; return how many entries ended."""
        ended = 0
        for _ in range(rounds):
            ended += self.forwarder.forward_all()
            self.second_look.look_all()
            self.clock.advance(between_ms)
        return ended

    def until_ended(self, entry: EntryId, *, hours: int = 48) -> None:
        """Let the job run every quarter of an hour until an entry has ended."""
        for _ in range(4 * hours):
            self.run(between_ms=15 * 60_000)
            if self.view(entry).tombstone is not None:
                return
        raise AssertionError(f"not ended after {hours} hours: {self.queue.get(entry)}")

    def decide(self, entry: EntryId, decision: str, **detail: Any) -> None:
        """Sign a person's decision about whatever troubles stand."""
        answers = [fact.id for fact in self.view(entry).troubles]
        self.facts.issue(Decision(decision, "Dr Test", {"answers": answers, **detail}), entry)

    def hear(self, other: "Forwarding") -> None:
        """Take in every fact of another node, and the blobs of every study that it holds."""
        self.facts.add_many(
            [
                fact.raw
                for kind in (FactClass.PERMANENT, FactClass.LIVE)
                for fact in other.facts.ask(lambda ledger, kind=kind: list(ledger.facts(kind).values()))
            ]
        )
        for held in other.queue.all():
            mine = self.queue.get(held.entry)
            if mine is None or mine.complete or not held.complete or mine.ended_ms is not None:
                continue
            for blob, _ in other.queue.blobs(held.entry)[1:]:
                self.blobs.put_verified(blob, other.blobs.get(blob))
            self.holdings.take_manifest(held.entry, other.blobs.get(BlobId(held.entry)))
            self.holdings.check_complete(held.entry)

    # -- looking --------------------------------------------------------------------------------

    def view(self, entry: EntryId) -> EntryView:
        """Return what the facts say of an entry."""
        return self.holdings.view(entry)

    def state(self, entry: EntryId) -> str:
        """Return the state of an entry."""
        return str(self.view(entry).state)

    def troubles(self, entry: EntryId) -> list[tuple[str, int]]:
        """Return what needs a person: code, images."""
        return [(f.body.code, f.body.instances) for f in self.view(entry).troubles]  # type: ignore[attr-defined]

    def setback(self, entry: EntryId) -> str | None:
        """Return why a delivery did not get on."""
        held = self.queue.get(entry)
        return None if held is None else held.setback

    def codes(self, entry: EntryId) -> dict[str, list[int]]:
        """Return why images were refused, by code, with their places."""
        found: dict[str, list[int]] = {}
        for position, proof in sorted(self.queue.proofs(entry).items()):
            if proof.outcome in ("rejected", "conflict"):
                found.setdefault(proof.code, []).append(position)
        return found
