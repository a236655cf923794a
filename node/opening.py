"""Opening a study: with the manifest's own box for this node, or with one that another node granted.

Called by what delivers and by what seals anew.
"""

from node.keys import x25519_public
from node.store.opened import OpenStudy
from node.store.vault import Vault
from sync.bodies import Grant
from sync.entries import EntryView
from sync.errors import BadManifest, CannotOpen
from sync.ids import KeyId
from sync.manifest import Manifest, key_id, open_box, open_key, parse_manifest


def own_key_id(secret: bytes) -> KeyId:
    """Return the short name of the key that belongs to a secret one."""
    return key_id(x25519_public(secret))


def study_key(manifest: Manifest, view: EntryView, secret: bytes) -> bytes:
    """Return a study's key.

    Raises:
        CannotOpen: neither the manifest nor a grant is for this key, or what is was changed.
        BadManifest: the manifest's box belongs to another study.
    """
    mine = own_key_id(secret)
    if mine in manifest.keys:
        return open_key(manifest, secret)
    for box in boxes_for(view, mine):
        try:
            return open_box(manifest, box, secret)
        except (CannotOpen, BadManifest):
            continue  # somebody granted rubbish; another grant may be good
    raise CannotOpen("the study is not sealed for this key, and nobody granted it")


def open_study(vault: Vault, data: bytes, view: EntryView, secret: bytes) -> OpenStudy:
    """Open a study for reading, by its manifest's bytes.

    Raises:
        CannotOpen, BadManifest: see `study_key`.
    """
    mine = own_key_id(secret)
    if mine in parse_manifest(data).keys:
        return vault.open_study(data, secret)
    for box in boxes_for(view, mine):
        try:
            return vault.open_granted(data, box, secret)
        except (CannotOpen, BadManifest):
            continue
    raise CannotOpen("the study is not sealed for this key, and nobody granted it")


def boxes_for(view: EntryView, key: KeyId) -> list[bytes]:
    """Return what was granted to a key."""
    return [
        fact.body.sealed[key]
        for fact in view.grants
        if isinstance(fact.body, Grant) and key in fact.body.sealed
    ]
