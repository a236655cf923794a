"""Manifests: which blobs make an entry, what lies in them, and for whom the key is sealed.

The public part lets nodes without a key carry, count and check; the sealed index is for forwarders.
docs/protocol.md §4. Pure: keys, prefixes and ephemeral seeds are handed in. Called by the node's vault,
the ledger of entries and salvage. `entry_id` is the SHA-256 of the manifest's bytes.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nacl.bindings import crypto_box, crypto_box_seal_open, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from sync import cbor, segments
from sync.errors import BadBlob, BadCbor, BadManifest, BadValue, CannotOpen
from sync.ids import BlobId, EntryId, KeyId, MeshId
from sync.segments import OVERHEAD_BYTES, SEGMENT_BYTES, Kind

MAX_MANIFEST_BYTES = 32 * 1024 * 1024
MAX_BLOBS = 65_536
MAX_RECIPIENTS = 32
MAX_INDEX_BYTES = 32 * 1024 * 1024  # of CBOR: 140,000 instances
RECALL_BYTES = 16

_MAGIC = b"CMM1"
_INSTANCE_KEYS = {"uid", "class", "syntax", "offset", "coded", "codec", "size", "sha256"}
_SMALL_INDEX_BYTES = 1024  # up to this size it stays as it is
_DEFLATED = 0x78  # the first octet of a zlib stream (RFC 1950); that of a CBOR map is another
_FULL_BLOB = SEGMENT_BYTES + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class IndexedInstance:
    """One instance and where its coded bytes lie in the stream; sizes and offsets in octets.

    `size` and `sha256` are of the original Part 10 bytes.
    """

    uid: str = field(repr=False)  # a UID identifies a patient
    sop_class: str
    syntax: str
    offset: int
    coded: int
    codec: str
    size: int
    sha256: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StudyIndex:
    """The sealed part: one study, its instances in the order of the stream, what the clinician confirmed."""

    study_uid: str = field(repr=False)
    instances: tuple[IndexedInstance, ...] = field(repr=False)
    confirmed: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """A manifest taken apart; nothing of it is opened yet."""

    mesh: MeshId
    blobs: tuple[tuple[BlobId, int], ...]  # in the order of the stream, with sizes in octets
    recall: bytes | None  # the recall that made this entry of an older one
    index: tuple[bytes, ...] = field(repr=False)  # sealed segments
    keys: Mapping[KeyId, bytes] = field(repr=False)  # sealed boxes

    @property
    def stream_bytes(self) -> int:
        """How many octets of plaintext the blobs hold."""
        return sum(size - OVERHEAD_BYTES for _, size in self.blobs)

    @cached_property
    def context(self) -> bytes:
        """What a sealed key is bound to: SHA-256 of the public part without its recall."""
        return hashlib.sha256(cbor.encode(_public(self.mesh, self.blobs, None))).digest()


def entry_id(manifest: bytes) -> EntryId:
    """Return the id of the entry that these manifest bytes make."""
    return EntryId(hashlib.sha256(manifest).digest())


def key_id(public_key: bytes) -> KeyId:
    """Return the short name of an X25519 public key."""
    return KeyId(hashlib.sha256(public_key).digest()[:8])


def build_manifest(
    index: StudyIndex,
    blobs: Sequence[tuple[BlobId, int]],
    *,
    study_key: bytes,
    mesh: MeshId,
    recipients: Sequence[bytes],
    index_prefix: bytes,
    ephemeral_seeds: Sequence[bytes],
) -> bytes:
    """Return a manifest's bytes.

    Args:
        index: what goes sealed.
        blobs: ids and sizes in the order of the stream.
        study_key: the key that sealed the blobs, 32 octets.
        mesh: the mesh that the entry belongs to.
        recipients: X25519 public keys, at most 32: every forwarder and the mesh's recovery key.
        index_prefix: 16 fresh random octets.
        ephemeral_seeds: 32 fresh random octets for each recipient.

    Raises:
        BadValue: something is missing, too large or does not fit together.
    """
    if not len(set(recipients)) == len(recipients) == len(set(ephemeral_seeds)) == len(ephemeral_seeds):
        raise BadValue("recipients and seeds do not fit, or one comes twice")
    plain = cbor.encode(
        {
            "v": 1,
            "study_uid": index.study_uid,
            "instances": [_from_instance(instance) for instance in index.instances],
            "confirmed": index.confirmed,
        }
    )
    if len(plain) > MAX_INDEX_BYTES:
        raise BadValue("an index of more than 32 MiB")
    if len(plain) > _SMALL_INDEX_BYTES:
        plain = zlib.compress(plain)
    last = segments.count_for(len(plain)) - 1
    sealed_index = tuple(
        segments.seal(
            study_key,
            index_prefix,
            n,
            plain[n * SEGMENT_BYTES : (n + 1) * SEGMENT_BYTES],
            kind=Kind.INDEX,
            final=n == last,
        )
        for n in range(last + 1)
    )
    bare = Manifest(mesh, tuple(blobs), None, sealed_index, {})
    stanzas = [
        seal_key(bare, study_key, recipient=public, ephemeral_seed=seed)
        for public, seed in zip(recipients, ephemeral_seeds, strict=True)
    ]
    data = _encode(Manifest(mesh, tuple(blobs), None, sealed_index, dict(stanzas)))
    try:
        _check_index(index, parse_manifest(data).stream_bytes)
    except BadManifest as error:
        raise BadValue(f"this makes no manifest: {error}") from None
    return data


def parse_manifest(data: bytes) -> Manifest:
    """Take a manifest apart and check everything that needs no key.

    Raises:
        BadManifest: malformed, too large, or not the only form of what it says.
    """
    if len(data) > MAX_MANIFEST_BYTES or data[:4] != _MAGIC:
        raise BadManifest("not a manifest")
    try:
        value = cbor.decode(data[4:])
    except BadCbor:
        raise BadManifest("not deterministic CBOR") from None
    match value:
        case {"public": dict(public), "index": [*index], "keys": dict(keys), **rest} if not rest:
            pass
        case _:
            raise BadManifest("not a manifest's parts")
    if not 0 < len(keys) <= MAX_RECIPIENTS:
        raise BadManifest("no keys, or too many")
    if not all(_is_octets(k, 8) and _is_octets(box, _BOX_BYTES) for k, box in keys.items()):
        raise BadManifest("a sealed key of the wrong form")
    if not index or not all(type(part) is bytes and len(part) <= _FULL_BLOB for part in index):
        raise BadManifest("a sealed index of the wrong form")
    mesh, blobs, recall = _parse_public(public)
    return Manifest(mesh, blobs, recall, tuple(index), keys)


def seal_key(
    manifest: Manifest, study_key: bytes, *, recipient: bytes, ephemeral_seed: bytes
) -> tuple[KeyId, bytes]:
    """Seal a study's key to an X25519 public key, as in libsodium's crypto_box_seal, bound to the study.

    `ephemeral_seed` is 32 fresh random octets.

    Raises:
        BadValue: a key or seed of the wrong length, or no valid public key.
    """
    if {len(study_key), len(recipient), len(ephemeral_seed)} != {32}:
        raise BadValue("a key or a seed of the wrong length")
    plain = _stanza(study_key, manifest.mesh, manifest.context)
    ephemeral = crypto_scalarmult_base(ephemeral_seed)
    nonce = hashlib.blake2b(ephemeral + recipient, digest_size=24).digest()
    try:
        return key_id(recipient), ephemeral + crypto_box(plain, nonce, recipient, ephemeral_seed)
    except CryptoError:
        raise BadValue("not a valid public key") from None


def open_key(manifest: Manifest, secret: bytes) -> bytes:
    """Return the study key with an X25519 secret key of one of the recipients.

    Raises:
        CannotOpen: it is not sealed for this key, or its box was changed.
        BadManifest: the box belongs to another study.
    """
    box = manifest.keys.get(key_id(crypto_scalarmult_base(secret)))
    if box is None:
        raise CannotOpen("the study is not sealed for this key")
    return open_box(manifest, box, secret)


def open_box(manifest: Manifest, box: bytes, secret: bytes) -> bytes:
    """Return the study key from one sealed box, of the manifest or of a `grant` fact.

    Raises:
        CannotOpen: the box is for another key, or was changed.
        BadManifest: the box belongs to another study.
    """
    try:
        plain = crypto_box_seal_open(box, crypto_scalarmult_base(secret), secret)
    except (CryptoError, TypeError, ValueError):
        raise CannotOpen("the sealed key does not open") from None
    try:
        stanza = cbor.decode(plain)
    except BadCbor:
        raise BadManifest("the sealed key is malformed") from None
    match stanza:
        case {"v": 1, "key": bytes(study_key), "mesh": manifest.mesh, "public": manifest.context, **rest}:
            if not rest and len(study_key) == segments.KEY_BYTES and type(stanza["v"]) is int:
                return study_key
    raise BadManifest("the sealed key belongs to another study")


def open_index(manifest: Manifest, study_key: bytes) -> StudyIndex:
    """Open the sealed index and check it against the blobs.

    Raises:
        CannotOpen: the key is another study's, or the index was changed.
        BadManifest: the index is malformed or does not fit the blobs.
    """
    plain: list[bytes] = []
    prefix: bytes | None = None
    for n, blob in enumerate(manifest.index):
        try:
            segment = segments.open_at(
                study_key,
                blob,
                kind=Kind.INDEX,
                counter=n,
                final=n == len(manifest.index) - 1,
                prefix=prefix,
            )
        except BadBlob:
            raise BadManifest("a segment of the index is malformed or out of place") from None
        prefix = segment.prefix
        plain.append(segment.plaintext)
    try:
        value = cbor.decode(_inflated(b"".join(plain)))
    except BadCbor:
        raise BadManifest("the index is not deterministic CBOR") from None
    match value:
        case {
            "v": int(version),
            "study_uid": str(study_uid),
            "instances": [*instances],
            "confirmed": dict(confirmed),
            **rest,
        } if version == 1 and type(version) is int and not rest:
            index = StudyIndex(study_uid, tuple(_to_instance(item) for item in instances), confirmed)
        case _:
            raise BadManifest("not an index that this program knows")
    _check_index(index, manifest.stream_bytes)
    return index


def _inflated(plain: bytes) -> bytes:
    """Return the CBOR of an index, which is a zlib stream unless it is short; never more than 32 MiB."""
    if plain[:1] != bytes([_DEFLATED]):
        return plain
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(plain, MAX_INDEX_BYTES)
    except zlib.error:
        raise BadManifest("the index does not inflate") from None
    if not stream.eof or stream.unused_data:
        raise BadManifest("the index does not end where it should, or is too large")
    return data


def recalled(data: bytes, recall: bytes) -> bytes:
    """Return the manifest of the entry that a recall makes of this one; no key is needed.

    All nodes make the same bytes, so they announce one and the same entry.

    Raises:
        BadManifest: `data` is no manifest.
        BadValue: `recall` is not 16 octets.
    """
    if len(recall) != RECALL_BYTES:
        raise BadValue("a recall id of the wrong length")
    old = parse_manifest(data)
    return _encode(Manifest(old.mesh, old.blobs, recall, old.index, old.keys))


def _encode(manifest: Manifest) -> bytes:
    return _MAGIC + cbor.encode(
        {
            "public": _public(manifest.mesh, manifest.blobs, manifest.recall),
            "index": list(manifest.index),
            "keys": manifest.keys,
        }
    )


def _public(mesh: MeshId, blobs: Sequence[tuple[BlobId, int]], recall: bytes | None) -> dict[str, Any]:
    public: dict[str, Any] = {"v": 1, "mesh": mesh, "blobs": [[blob_id, size] for blob_id, size in blobs]}
    if recall is not None:
        public["recall"] = recall
    return public


def _parse_public(
    public: dict[Any, Any],
) -> tuple[MeshId, tuple[tuple[BlobId, int], ...], bytes | None]:
    recall = public.get("recall")
    if "recall" in public and not _is_octets(recall, RECALL_BYTES):
        raise BadManifest("a recall of the wrong form")
    match public:
        case {"v": 1, "mesh": bytes(mesh), "blobs": [*blobs], **rest} if set(rest) <= {"recall"}:
            pass
        case _:
            raise BadManifest("not a public part that this program knows")
    if type(public["v"]) is not int or len(mesh) != 32:
        raise BadManifest("not a public part that this program knows")
    if not 0 < len(blobs) <= MAX_BLOBS:
        raise BadManifest("no blobs, or too many")
    listed: list[tuple[BlobId, int]] = []
    for n, item in enumerate(blobs):
        match item:
            case [bytes(blob_id), int(size)] if len(blob_id) == 32 and type(size) is int:
                pass
            case _:
                raise BadManifest("a blob of the wrong form")
        if size != _FULL_BLOB and (n < len(blobs) - 1 or not OVERHEAD_BYTES + (n > 0) <= size < _FULL_BLOB):
            raise BadManifest("a blob of an impossible size")
        listed.append((BlobId(blob_id), size))
    if len({blob_id for blob_id, _ in listed}) != len(listed):
        raise BadManifest("a blob is listed twice")
    return MeshId(mesh), tuple(listed), recall


def _from_instance(instance: IndexedInstance) -> dict[str, Any]:
    return {
        "uid": instance.uid,
        "class": instance.sop_class,
        "syntax": instance.syntax,
        "offset": instance.offset,
        "coded": instance.coded,
        "codec": instance.codec,
        "size": instance.size,
        "sha256": instance.sha256,
    }


def _to_instance(item: Any) -> IndexedInstance:
    if type(item) is not dict or set(item) != _INSTANCE_KEYS:
        raise BadManifest("an instance of the wrong form")
    texts = (item["uid"], item["class"], item["syntax"], item["codec"])
    numbers = (item["offset"], item["coded"], item["size"])
    if not all(type(text) is str for text in texts) or not all(type(n) is int and n >= 0 for n in numbers):
        raise BadManifest("an instance of the wrong form")
    if not _is_octets(item["sha256"], 32):
        raise BadManifest("an instance of the wrong form")
    return IndexedInstance(
        uid=item["uid"],
        sop_class=item["class"],
        syntax=item["syntax"],
        offset=item["offset"],
        coded=item["coded"],
        codec=item["codec"],
        size=item["size"],
        sha256=item["sha256"],
    )


def _check_index(index: StudyIndex, stream_bytes: int) -> None:
    """Check that the instances fill the stream without a gap and that none comes twice."""
    end = 0
    for instance in index.instances:
        if instance.offset != end:
            raise BadManifest("the instances do not follow one another")
        end += instance.coded
    if not index.instances or end != stream_bytes:
        raise BadManifest("the instances do not fill the blobs")
    if len({instance.uid for instance in index.instances}) != len(index.instances):
        raise BadManifest("an instance is listed twice")


def _is_octets(value: Any, length: int) -> bool:
    return type(value) is bytes and len(value) == length


def _stanza(study_key: bytes, mesh: MeshId, context: bytes) -> bytes:
    return cbor.encode({"v": 1, "key": study_key, "mesh": mesh, "public": context})


_BOX_BYTES = 48 + len(_stanza(bytes(32), MeshId(bytes(32)), bytes(32)))
