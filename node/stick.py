"""USB sticks: passive peers that carry the same facts and the same sealed blobs (DESIGN §7).

    CLINICMESH/README.TXT             what this is, for whoever finds it
    CLINICMESH/<mesh>/STICK.CBR       the stick's id and name
    CLINICMESH/<mesh>/TURN.CBR        how often a node had it
    CLINICMESH/<mesh>/FACTS/<hash>.CBR   signed facts, at most 1 MiB each
    CLINICMESH/<mesh>/BLOBS/<ab>/<hash>  sealed blobs
    CLINICMESH/<mesh>/READY/<entry>   commit markers: written last, taken away first

Names fit FAT32. A marker is written after every blob of its entry was flushed, so a stick that is pulled
out at any moment holds whole entries or none; whoever imports hashes everything again, and a stick counts
as no copy. Ciphertext only: a lost stick is a matter of inventory.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.errors import DiskFull, Refused, StoreDamaged
from node.keys import random_octets
from node.mesh.exchange import Exchange
from node.mesh.wire import FACTS_BATCH_BYTES
from node.parts import Node
from node.store import files
from sync import cbor
from sync.bodies import StickSeen
from sync.erasure import MAX_STILL, Tombstones, sticks_of
from sync.errors import BadBlob, BadCbor, BadManifest
from sync.facts import FactClass
from sync.ids import BlobId, EntryId, short
from sync.ledger import Outcome
from sync.manifest import MAX_MANIFEST_BYTES, parse_manifest
from sync.plan import in_order, is_on_its_way

log = logging.getLogger(__name__)
_FOLDER = "CLINICMESH"
_MOST_OF_A_BATCH = 2 * FACTS_BATCH_BYTES
_MOST_OF_A_NAME = 4096
_README = """ClinicMesh transfer stick

This stick carries medical studies on their way to a hospital. Everything on it is
encrypted; nothing can be read here, and nothing is lost if the stick is: every study on
it is also kept where it came from. Please bring it back to the clinic or the hospital.

Cette cle USB transporte des examens medicaux chiffres vers un hopital.
Merci de la rapporter a la clinique ou a l'hopital.
"""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What a stick carries after an export. `left_out` found no room, or is damaged here."""

    name: str
    due: int
    aboard: int
    left_out: int
    facts: int
    facts_taken: int
    removed: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import brought.

    `ended` studies were delivered or taken back before; `refused` ones found no room here, or nobody has told
    this node of them; `damaged` blobs did not match their names and were passed over.
    """

    name: str
    facts: int
    entries: int
    known: int
    ended: int
    refused: int
    damaged: int


class Stick:
    """A folder on a stick, for one mesh."""

    def __init__(self, folder: Path, mesh: bytes) -> None:
        self.root = folder / _FOLDER / mesh[:4].hex().upper()
        self._top = folder

    def name(self) -> str:
        """Return the stick's name, empty if it has none yet."""
        name = _read_map(self.root / "STICK.CBR").get("name")
        return name if isinstance(name, str) else ""

    def identity(self) -> tuple[bytes, str]:
        """Return the stick's id and its name.

        Raises:
            Refused: it has none (`no-such-stick`).
        """
        said = _read_map(self.root / "STICK.CBR")
        if not isinstance(said.get("id"), bytes) or not isinstance(said.get("name"), str):
            raise Refused("no-such-stick", "There is nothing of this mesh in that folder.")
        return said["id"], said["name"]

    @contextmanager
    def plugged_in(self) -> Iterator[None]:
        """Hold what the block says against the stick being there, the same one, to the end.

        Raises:
            Refused: it was pulled out meanwhile (`stick-gone`).
        """
        number, _ = self.identity()
        try:
            yield
            gone = not self._is(number)
        except (OSError, StoreDamaged, Refused):
            if self._is(number):
                raise
            gone = True
        if gone:
            raise Refused(
                "stick-gone",
                "The stick was pulled out, or can no longer be read or written. Nothing is lost: what was "
                "whole on it stays so, and every study is still on this machine. Plug it in, and try again.",
            ) from None

    def _is(self, number: bytes) -> bool:
        return _read_map(self.root / "STICK.CBR").get("id") == number

    def take_turn(self, known: int) -> int:
        """Count that a node has it, durably, from what is known of it on; return the count."""
        counted = _read_map(self.root / "TURN.CBR").get("turn", 0)
        turn = max(counted if isinstance(counted, int) else 0, known) + 1
        files.write_durably(self.root / "TURN.CBR", cbor.encode({"v": 1, "turn": turn}))
        return turn

    def blobs(self) -> Iterator[Path]:
        """Yield the files of all blobs."""
        yield from (path for path in (self.root / "BLOBS").glob("*/*") if len(path.name) == 64)

    def make(self, name: str) -> str:
        """Make the folders, name the stick if it has no name, and return its name."""
        if not self._top.is_dir():
            raise Refused("no-such-folder", "There is no such folder. Is the stick plugged in?")
        files.make_dirs(self.root, ("FACTS", "BLOBS", "READY"))
        known = self.name()
        if not known:
            known = name or f"stick-{random_octets(2).hex()}"
            files.write_durably(
                self.root / "STICK.CBR", cbor.encode({"v": 1, "id": random_octets(16), "name": known})
            )
            files.write_durably(self._top / _FOLDER / "README.TXT", _README.encode("ascii"))
        return known

    def facts(self) -> Iterator[bytes]:
        """Yield the signed facts that are on the stick; what is damaged is passed over."""
        for path in sorted((self.root / "FACTS").glob("*.CBR")):
            try:
                batch = cbor.decode(_read(path, _MOST_OF_A_BATCH))
            except (OSError, BadCbor):
                batch = None
            if not isinstance(batch, list):
                log.warning("a damaged batch of facts on the stick")
                continue
            yield from (raw for raw in batch if isinstance(raw, bytes))

    def write_facts(self, raws: list[bytes]) -> None:
        """Add signed facts, in batches named by their hash."""
        batch: list[bytes] = []
        for raw in [*raws, b""]:
            if batch and (not raw or sum(map(len, batch)) + len(raw) > FACTS_BATCH_BYTES):
                data = cbor.encode(batch)
                digest = hashlib.sha256(data).hexdigest()[:16].upper()
                files.write_durably(self.root / "FACTS" / f"{digest}.CBR", data)
                batch = []
            if raw:
                batch.append(raw)

    def ready(self) -> list[EntryId]:
        """Return the entries that are whole on the stick, by their markers."""
        found = []
        for path in (self.root / "READY").glob("*"):
            if len(path.name) == 64:
                try:
                    found.append(EntryId(bytes.fromhex(path.name)))
                except ValueError:
                    continue
        return sorted(found)

    def mark_ready(self, entry: EntryId) -> None:
        """Say that every blob of an entry is on the stick and flushed."""
        files.write_durably(self.root / "READY" / entry.hex().upper(), b"whole\r\n")

    def path_of(self, blob: BlobId) -> Path:
        """Return where a blob lies on the stick."""
        name = blob.hex().upper()
        return self.root / "BLOBS" / name[:2] / name

    def has(self, blob: BlobId) -> bool:
        """Say whether a blob lies there and is what its name says."""
        try:
            return hashlib.sha256(_read(self.path_of(blob), MAX_MANIFEST_BYTES)).digest() == blob
        except OSError:
            return False

    def put(self, blob: BlobId, data: bytes) -> None:
        """Write a blob, flushed on return."""
        path = self.path_of(blob)
        with files.disk_errors():
            path.parent.mkdir(mode=0o700, exist_ok=True)  # without parents: a stick that is gone has none
            files.sync_dir(path.parent.parent)
        files.write_durably(path, data)

    def remove(self, entry: EntryId, blobs: list[BlobId]) -> None:
        """Take an entry off the stick: its marker first, then its blobs."""
        files.remove(self.root / "READY" / entry.hex().upper())
        for blob in blobs:
            files.remove(self.path_of(blob))


def export_to(
    node: Node, folder: Path, *, name: str = "", progress: Progress = lambda _done, _of: None
) -> Exported:
    """Bring a stick up to date: its news in, then this node's facts and undelivered entries out.

    Raises:
        Refused: there is no such folder (`no-such-folder`), or the stick was pulled out (`stick-gone`).
    """
    stick = Stick(folder, node.membership.genesis.mesh_id)
    label = stick.make(name)
    with stick.plugged_in():
        return _export(node, stick, label, progress)


def _export(node: Node, stick: Stick, label: str, progress: Progress) -> Exported:
    aboard_facts = set(stick.facts())
    taken = _take_facts(node, aboard_facts)
    removed = _remove_ended(node, stick)
    due = _due(node)
    _note_aboard(node, stick, {*stick.ready(), *due})  # from now on any of them may be aboard
    _clear_strays(node, stick, due)
    mine = node.facts.ask(
        lambda ledger: [fact.raw for kind in FactClass for fact in ledger.facts(kind).values()]
    )
    fresh = [raw for raw in mine if raw not in aboard_facts]
    stick.write_facts(fresh)
    aboard, left_out = 0, set[EntryId]()
    for done, entry in enumerate(due):
        progress(done, len(due))
        try:
            _write_entry(node, stick, entry)
            aboard += 1
        except DiskFull:
            left_out.add(entry)
        except StoreDamaged:
            node.holdings.verify(entry)  # takes custody back; the blobs come again from others
            left_out.add(entry)
    progress(len(due), len(due))
    _note_aboard(node, stick, {*stick.ready(), *left_out})
    log.info("stick written entries=%d total=%d", aboard, len(due))
    return Exported(label, len(due), aboard, len(left_out), len(fresh), taken, removed)


def import_from(
    node: Node, exchange: Exchange, folder: Path, *, progress: Progress = lambda _done, _of: None
) -> Imported:
    """Take in what a stick carries: facts, then every whole entry that this node wants, each blob hashed.

    Raises:
        Refused: there is no stick of this mesh in that folder (`no-such-stick`), or it was pulled out
            (`stick-gone`).
    """
    stick = Stick(folder, node.membership.genesis.mesh_id)
    _, label = stick.identity()
    with stick.plugged_in():
        return _import(node, exchange, stick, label, progress)


def _import(node: Node, exchange: Exchange, stick: Stick, label: str, progress: Progress) -> Imported:
    facts = exchange.take_facts(sorted(set(stick.facts()))).admitted  # which makes room for them if need be
    ready = stick.ready()
    entries = known = ended = refused = damaged = 0
    for done, entry in enumerate(ready):
        progress(done, len(ready))
        if exchange.lack(entry) is None:
            held = node.queue.get(entry)
            if node.holdings.view(entry).tombstone is not None:
                ended += 1
            elif held is not None and held.complete:
                known += 1
            else:
                refused += 1
            continue
        bad = _read_entry(node, stick, entry)
        damaged += bad
        entries += bad == 0 and node.holdings.check_complete(entry)
    progress(len(ready), len(ready))
    try:
        _remove_ended(node, stick)
        _note_aboard(node, stick, set(stick.ready()))
    except (OSError, DiskFull, StoreDamaged, Refused):
        log.info("the stick cannot be written; what is aboard stays as it was")
    log.info("stick read entries=%d total=%d", entries, len(ready))
    return Imported(label, facts, entries, known, ended, refused, damaged)


def forget(node: Node, name: str) -> str:
    """Give a stick up for lost: it is not waited for any more. Returns its name.

    Raises:
        Refused: no stick, or several, are called so (`stick-unknown`, `stick-ambiguous`).
    """
    known = [one for one in node.facts.ask(sticks_of).values() if not one.gone]
    wanted = name.strip().lower()
    found = [one for one in known if one.name.lower() == wanted]
    found = found or [one for one in known if len(wanted) >= 4 and one.stick.hex().startswith(wanted)]
    if len(found) != 1:
        listed = ", ".join(f"{one.name} ({one.stick.hex()[:8]})" for one in found or known) or "none"
        code = "stick-ambiguous" if found else "stick-unknown"
        raise Refused(code, f"Name one stick by its name or the first digits of its id: {listed}.")
    node.facts.issue(replace(found[0], turn=found[0].turn + 1, gone=True))
    return found[0].name


def _note_aboard(node: Node, stick: Stick, aboard: set[EntryId]) -> None:
    """Tell the mesh what is aboard a stick, as far as this node knows."""
    number, name = stick.identity()
    known = node.facts.ask(sticks_of).get(number)
    turn = stick.take_turn(0 if known is None else known.turn)
    listed = sorted(aboard)
    node.facts.issue(
        StickSeen(
            stick=number,
            name=name,
            turn=turn,
            aboard=tuple(listed[:MAX_STILL]),
            unlisted=max(len(listed) - MAX_STILL, 0),
            covers=node.facts.ask(Tombstones.of_ledger).covered(),
        )
    )


def _clear_strays(node: Node, stick: Stick, due: list[EntryId]) -> None:
    """Remove blobs that belong to nothing: of a study that ended when only a part of it had been written."""
    listed = {blob for entry in due for blob, _ in node.queue.blobs(entry)}
    for entry in stick.ready():
        try:
            data = _read(stick.path_of(BlobId(entry)), MAX_MANIFEST_BYTES)
            listed |= {BlobId(entry), *(blob for blob, _ in parse_manifest(data).blobs)}
        except (OSError, BadManifest):
            return  # what cannot be read may list any of them
    names = {blob.hex().upper() for blob in listed}
    for path in stick.blobs():
        if path.name not in names:
            files.remove(path)


def _read_map(path: Path) -> dict[str, Any]:
    """Return the map that a file of the stick holds, an empty one if it is not there or damaged."""
    try:
        said = cbor.decode(_read(path, _MOST_OF_A_NAME))
    except (OSError, BadCbor):
        return {}
    return said if isinstance(said, dict) else {}


def _take_facts(node: Node, raws: set[bytes]) -> int:
    if not raws:
        return 0
    answers = node.facts.add_many(sorted(raws))
    return sum(answer.outcome is Outcome.ADMITTED for answer in answers)


def _due(node: Node) -> list[EntryId]:
    """Return the entries that are whole here and not delivered, in the order in which they should travel."""
    wanted = []
    for held in node.queue.all():
        view = node.holdings.view(held.entry)
        if held.complete and not held.erasing and is_on_its_way(view):
            wanted.append(node.holdings.wanted(held, view, view.announced.size if view.announced else 0))
    return [one.entry for one in in_order(wanted)]


def _write_entry(node: Node, stick: Stick, entry: EntryId) -> None:
    """Copy what is missing of an entry, its manifest last but for the marker.

    Raises:
        DiskFull: the stick is full; without its marker nobody takes the entry for whole.
    """
    for blob, _ in reversed(node.queue.blobs(entry)):
        if not stick.has(blob):
            stick.put(blob, node.blobs.get(blob))
    stick.mark_ready(entry)


def _read_entry(node: Node, stick: Stick, entry: EntryId) -> int:
    """Copy an entry from a stick as far as its blobs are what their names say; return how many are not."""
    damaged = 0
    try:
        if not node.holdings.has_manifest(entry):
            node.holdings.take_manifest(entry, _read(stick.path_of(BlobId(entry)), MAX_MANIFEST_BYTES))
    except (OSError, BadManifest, BadBlob):
        log.warning("damaged on the stick manifest=%s", short(entry))
        return 1
    for blob, octets in node.holdings.missing(entry):
        try:
            node.blobs.put_verified(blob, _read(stick.path_of(blob), octets))
        except (OSError, BadBlob):
            log.warning("damaged on the stick blob=%s", short(blob))
            damaged += 1
    return damaged


def _remove_ended(node: Node, stick: Stick) -> int:
    """Take entries off the stick that have ended; return how many."""
    removed = 0
    for entry in stick.ready():
        view = node.holdings.view(entry)
        if view.tombstone is None or view.frozen:
            continue
        try:
            data = _read(stick.path_of(BlobId(entry)), MAX_MANIFEST_BYTES)
            blobs = [BlobId(entry), *(blob for blob, _ in parse_manifest(data).blobs)]
        except (OSError, BadManifest):
            blobs = [BlobId(entry)]
        stick.remove(entry, blobs)
        removed += 1
    return removed


def _read(path: Path, limit: int) -> bytes:
    """Return what is in a file; if it is too long one octet more than it may have, which is noticed."""
    with path.open("rb") as file:
        return file.read(limit + 1)
