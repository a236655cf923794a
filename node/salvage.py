"""Salvage: hand over what a dead node held, from its files alone (DESIGN §5).

The store describes itself: every blob is named by its hash, and every manifest lists its blobs. So a folder
of blobs is enough, without database, keys or passphrase. What has no tombstone here is announced, by this
node if nobody else has, and travels on. Nothing in the dead node's folder is changed.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from node.errors import Refused, StoreDamaged
from node.parts import Node
from sync.bodies import Priority, Role, Study
from sync.errors import BadBlob, BadManifest
from sync.ids import BlobId, EntryId, short
from sync.lifecycle import ENDED
from sync.manifest import Manifest, entry_id, parse_manifest

log = logging.getLogger(__name__)
_MAGIC = b"CMM1"


@dataclass(slots=True)
class Salvaged:
    """What became of the entries in a dead node's folder."""

    found: int = 0
    handed_over: int = 0
    known_already: int = 0
    ended_before: int = 0
    incomplete: int = 0


def salvage(node: Node, folder: Path, progress: Callable[[int], None] = lambda _found: None) -> Salvaged:
    """Take over every undelivered entry from the blobs below `folder`.

    Raises:
        Refused: there is no such folder, or this node may not announce studies.
        DiskFull: there is no room; what was taken over stays.
    """
    if not folder.is_dir():
        raise Refused("no-such-folder", "There is no such folder on this machine.")
    if not _may_announce(node):
        raise Refused("may-not-announce", "This node takes no studies in; run it on one that does.")
    files = _blob_files(folder)
    result = Salvaged()
    for entry, data, manifest in _manifests(files, node):
        result.found += 1
        progress(result.found)
        _take_over(node, files, entry, data, manifest, result)
    log.info("salvaged entries=%d total=%d", result.handed_over, result.found)
    return result


def adopt_strays(node: Node) -> int:
    """Announce entries whose files are here and whose rows are not; return how many.

    So a database restored from an older backup loses nothing. Where the row is here and only its list of
    blobs is missing, the list is noted again. What no manifest lists is left over from a sealing that was
    cut off, and goes; it stays if a manifest cannot be read, which may list it. Called at the start,
    before anything is written.
    """
    known, cut_off = set(node.queue.known_blobs()), node.notes.sealing()
    strays = [blob for blob in node.blobs.ids() if blob not in known]
    adopted, listed, unreadable = 0, set[BlobId](), 0
    for blob in strays:
        if node.blobs.read(blob, 0, len(_MAGIC)) != _MAGIC:
            continue
        entry = EntryId(blob)
        if entry in cut_off:
            continue  # it was never announced: its submission is still here, or was taken back
        try:
            data = node.blobs.get(blob)
            manifest = parse_manifest(data)
        except (BadManifest, StoreDamaged):
            unreadable += 1
            continue
        held = node.queue.get(entry)
        if held is not None and not held.erased and manifest.mesh == node.membership.genesis.mesh_id:
            node.holdings.take_manifest(entry, data)
            listed |= {blob, *(one for one, _ in manifest.blobs)}
            continue
        if manifest.mesh != node.membership.genesis.mesh_id or node.holdings.view(entry).state in ENDED:
            continue
        listed |= {blob, *(one for one, _ in manifest.blobs)}
        if all(node.blobs.has(one) for one, _ in manifest.blobs) and _may_announce(node):
            _announce(node, entry, data, manifest)
            adopted += 1
    for blob in strays:
        if blob not in listed and (not unreadable or EntryId(blob) in cut_off):
            node.blobs.delete(blob)
    for entry in cut_off:
        node.notes.end_sealing(entry)
    if strays:
        log.warning("stray files found blobs=%d entries=%d", len(strays), adopted)
    return adopted


def _may_announce(node: Node) -> bool:
    me = node.facts.node_id
    return Role.INGEST in node.facts.ask(lambda ledger: ledger.membership.roles(me))


def _announce(node: Node, entry: EntryId, data: bytes, manifest: Manifest) -> None:
    """Announce an entry, all of whose blobs are durable here, as this node's own."""
    listed = [(BlobId(entry), len(data)), *manifest.blobs]
    study = Study(
        manifest=BlobId(entry),
        size=sum(size for _, size in listed),
        blobs=len(listed),
        priority=Priority.ROUTINE.value,
        destination="",
        submission=entry[:16],
        origin=node.facts.node_id,
    )
    with node.facts.writing() as writing:
        node.holdings.keep_own(writing, entry, study, listed)


def _take_over(
    node: Node,
    files: dict[BlobId, Path],
    entry: EntryId,
    data: bytes,
    manifest: Manifest,
    result: Salvaged,
) -> None:
    view = node.holdings.view(entry)
    if view.state in ENDED:
        result.ended_before += 1
        return
    held = node.queue.get(entry)
    if held is not None and held.complete:
        result.known_already += 1
        return
    whole = all(_copy(node, files, blob) for blob, _ in manifest.blobs)
    if held is not None:
        node.holdings.take_manifest(entry, data)
        whole = node.holdings.check_complete(entry)
    elif whole:
        node.blobs.put_verified(BlobId(entry), data)
        _announce(node, entry, data, manifest)
    if whole:
        result.handed_over += 1
    else:
        result.incomplete += 1
        log.warning("not whole in the folder entry=%s", short(entry))


def _copy(node: Node, files: dict[BlobId, Path], blob: BlobId) -> bool:
    """Copy one blob, its hash checked; say whether it is here now."""
    if node.blobs.has(blob):
        return True
    path = files.get(blob)
    if path is None:
        return False
    try:
        node.blobs.put_verified(blob, path.read_bytes())
    except (BadBlob, OSError):
        return False
    return True


def _blob_files(folder: Path) -> dict[BlobId, Path]:
    """Return the files below a folder that are named like blobs."""
    files: dict[BlobId, Path] = {}

    def note(_: OSError) -> None:
        log.warning("a folder cannot be read")  # a dying disk gives what it can

    for here, below, names in os.walk(folder, onerror=note):
        below[:] = [name for name in below if name not in ("part", "damaged")]
        for name in names:
            with suppress(ValueError):
                if len(name) == 64:
                    files[BlobId(bytes.fromhex(name))] = Path(here, name)
    return files


def _manifests(files: dict[BlobId, Path], node: Node) -> Iterator[tuple[EntryId, bytes, Manifest]]:
    """Yield every manifest of this mesh among the files."""
    for blob, path in files.items():
        try:
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    continue
            data = path.read_bytes()
            manifest = parse_manifest(data)
        except (BadManifest, OSError):  # a dying disk gives what it can
            log.warning("a manifest cannot be read blob=%s", short(blob))
            continue
        if BlobId(entry_id(data)) == blob and manifest.mesh == node.membership.genesis.mesh_id:
            yield EntryId(blob), data, manifest
