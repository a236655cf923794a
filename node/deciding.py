"""What a person decides about a study on its way: about its troubles, to take it back, to recall it.

Each decision is signed by this node and travels. What a decision leaves out is handed to the person first.
Called by `node.api`; `recall` also by the second look of `node.jobs`.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from node import journey
from node.deliver.reasons import explain
from node.errors import Refused
from node.parts import Node
from node.store.files import write_stream_durably
from node.store.holdings import Holdings
from sync import cbor
from sync.bodies import Claim, Decision, Ending, Recall, Role, Tombstone, Trouble
from sync.entries import EntryView
from sync.errors import BadCbor, CannotOpen
from sync.evidence import Outcome
from sync.ids import BlobId, EntryId, short

log = logging.getLogger(__name__)
_REFUSALS = frozenset({Outcome.CONFLICT.value, Outcome.REJECTED.value})
_ABOUT_INSTANCES = {
    "accept": frozenset({Outcome.CONFLICT.value}),
    "leave-out": _REFUSALS,
}

# What a trouble means, for whoever must decide (docs/journeys.md §8).
TROUBLES = {
    "conflict": "The PACS has other images under the same identifiers. Nothing is lost, both are kept.",
    "rejected": "The PACS refuses images for good. They are safe here.",
    "evidence-not-offered": "The PACS cannot show what is demanded of it. It has the images; they stay here.",
    "destination-open": "Several PACS would take the study, or none by its rules. Nobody has chosen yet.",
    "destination-unknown": "The study is for a PACS that this mesh does not know.",
    "cannot-open": "This forwarder cannot open the study; it was not sealed to it.",
    "bad-manifest": "The study's list of parts makes no sense. Its parts are kept.",
    "codec-unknown": "A newer version of the program coded the study; update this node.",
    "author-revoked": "The node that took the study in is no longer trusted. It waits for a person.",
}


def tell_troubles(node: Node, view: EntryView) -> list[dict[str, Any]]:
    """Return the open troubles of an entry, as the API says them."""
    return [
        {
            "code": fact.body.code,
            "instances": fact.body.instances,
            "since": fact.body.since,
            "detail": TROUBLES.get(fact.body.code, ""),
        }
        for fact in view.troubles
        if isinstance(fact.body, Trouble)
    ]


def reasons_of(node: Node, entry: EntryId) -> list[dict[str, Any]]:
    """Return why images of an entry were refused, as far as this node sent them: places by code."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, proof in sorted(node.queue.proofs(entry).items()):
        if proof.outcome in _REFUSALS:
            places[proof.outcome, proof.code].append(position)
    return [
        {"outcome": outcome, "code": code, "detail": explain(code), "instances": found}
        for (outcome, code), found in places.items()
    ]


def decide(
    node: Node,
    view: EntryView,
    decision: str,
    person: str,
    *,
    destination: str = "",
    instances: Collection[int] | None = None,
    folder: str = "",
) -> bytes:
    """Sign what a person decided about an entry, and return the fact's id.

    Args:
        node: this one; it may sign decisions.
        view: of an entry that is on its way.
        decision: "retry", "accept", "leave-out", "destination" or "urgent".
        person: who.
        destination: for "destination", which.
        instances: for "accept" and "leave-out", which images by place; None for all that are concerned.
        folder: for "leave-out", where the bytes of these images are written first, on this machine.

    Raises:
        Refused: something is missing, or nothing would follow from it.
    """
    detail: dict[str, Any] = {"answers": [fact.id for fact in view.troubles]}
    if decision == "destination":
        if destination not in node.facts.ask(lambda ledger: ledger.destinations()):
            raise Refused("destination-unknown", "No PACS of this name is known. Add it first.")
        detail["name"] = destination
    if decision in _ABOUT_INSTANCES:
        chosen = _chosen(node, view, decision, instances)
        if decision == "leave-out":
            if not folder:
                raise Refused(
                    "folder-missing", "Name a folder: the images that are left out are written there first."
                )
            export(node, view, chosen, Path(folder))
        detail["instances"] = sorted(chosen | _decided_before(node, view, decision))
    return bytes(node.facts.issue(Decision(decision, person, detail), view.entry).id)


def _chosen(node: Node, view: EntryView, decision: str, instances: Collection[int] | None) -> set[int]:
    """Return the images that a decision is about, by place in the sealed index."""
    if instances is not None:
        return set(instances)
    proofs = node.queue.proofs(view.entry).items()
    found = {position for position, proof in proofs if proof.outcome in _ABOUT_INSTANCES[decision]}
    if not found:
        raise Refused(
            "nothing-to-decide",
            "No image is known here that this is about. Decide on the node that sends to the PACS.",
        )
    return found


def _decided_before(node: Node, view: EntryView, decision: str) -> set[int]:
    """Return what this node said before: a new decision of the same kind replaces the old one."""
    before: set[int] = set()
    for fact in view.decisions:
        body = fact.body
        if fact.header.author == node.facts.node_id and isinstance(body, Decision):
            said = body.detail.get("instances")
            if body.decision == decision and isinstance(said, list):
                before |= {n for n in said if type(n) is int}
    return before


def export(node: Node, view: EntryView, instances: Iterable[int], folder: Path) -> int:
    """Write the original bytes of some images into a folder that a person named; return how many.

    Raises:
        Refused: this node cannot open the study, or the folder cannot be written.
        Locked: the passphrase is needed.
        StoreDamaged: an image cannot be read here; nothing is left out.
    """
    secret = node.keystore.seal_secret
    held = node.queue.get(view.entry)
    if secret is None or held is None or not held.complete:
        raise Refused(
            "not-held-here", "This node cannot open the study. Decide on the node that sends to the PACS."
        )
    opened = node.vault.open_study(node.blobs.get(BlobId(view.entry)), secret)
    there = opened.index.instances
    wanted = sorted(set(instances))
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(there):
        raise Refused("nothing-to-decide", "The study has no images at these places.")
    if folder.resolve().is_relative_to(node.home.path.resolve()):
        raise Refused("folder-not-writable", "Name a folder outside of the node's own data.")
    place = folder / journey.code_of(view.entry)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for position in wanted:
            write_stream_durably(place / f"IM{position + 1:05}.dcm", opened.read(there[position]))
    except OSError:
        raise Refused(
            "folder-not-writable", "The folder cannot be written. Nothing was left out; name another."
        ) from None
    log.warning("images exported to a person entry=%s instances=%d", short(view.entry), len(wanted))
    return len(wanted)


def withdraw(node: Node, view: EntryView, person: str, reason: str) -> dict[str, Any]:
    """Take an entry back before it is delivered; say how much of it may be at the PACS already.

    Raises:
        Refused: it has ended, or this node may not: only the one that took it in, and forwarders.
    """
    said, announced = view.study, view.announced
    if said is None or announced is None or view.tombstone is not None:
        raise Refused("study-unknown", "No study on its way has this id.")
    me = node.facts.node_id
    roles = node.facts.ask(lambda ledger: ledger.membership.roles(me))
    own = said.header.author == me and Role.INGEST in roles
    if not own and Role.FORWARD not in roles:
        raise Refused(
            "may-not-withdraw",
            "Only the node that took the study in, or one that sends to the PACS, can take it back.",
        )
    claims = [fact.body for fact in view.claims.values() if isinstance(fact.body, Claim)]
    proven = max((claim.proven for claim in claims), default=0)
    total = max((claim.total for claim in claims), default=0)
    tombstone = Tombstone(
        outcome=Ending.WITHDRAWN.value,
        destination=announced.destination,
        evidence="",
        instances=0,
        proven=0,
        receipt=None,
        size=announced.size,
        origin=announced.origin,
        study=said.raw,
    )
    names = node.keystore.intake.seal(cbor.encode({"person": person, "reason": reason}))
    with node.facts.writing() as writing:
        node.queue.receipts.keep_names(writing.session, view.entry, names)
        writing.issue(tombstone, view.entry)
    log.warning("withdrawn by a person entry=%s", short(view.entry))
    return {"entry_id": view.entry.hex(), "state": "withdrawn", "proven": proven, "instances": total}


def recall(holdings: Holdings, entry: EntryId, reason: str) -> None:
    """Say that a PACS lost an entry: who still holds it announces it anew.

    The recall's id comes from the entry, so that two forwarders that recall it make one and the same entry.
    """
    name = hashlib.sha256(b"clinicmesh/recall/1:" + entry).digest()[:16]
    holdings.facts.issue(Recall(reason=reason[:200], recall=name), entry)
    log.warning("recalled entry=%s", short(entry))


def recall_by_person(node: Node, view: EntryView, person: str, reason: str) -> dict[str, Any]:
    """Recall a delivered entry, because a person found that the PACS does not have it.

    Raises:
        Refused: it was not delivered, was recalled before, or this node may not.
    """
    roles = node.facts.ask(lambda ledger: ledger.membership.roles(node.facts.node_id))
    if Role.FORWARD not in roles:
        raise Refused("may-not-recall", "Only a node that sends to the PACS can recall a study.")
    ending = view.ending
    if ending is None or ending.outcome == Ending.WITHDRAWN or view.recall is not None:
        raise Refused("not-delivered", "Only a delivered study can be recalled, and only once.")
    recall(node.holdings, view.entry, f"{person}: {reason}")
    held = node.queue.get(view.entry)
    return {"entry_id": view.entry.hex(), "state": "recalled", "held_here": bool(held and held.complete)}


def receipt_of(node: Node, entry: EntryId) -> dict[str, Any]:
    """Return the receipt of an entry as far as this node has it, with the UIDs if it can open them.

    Raises:
        Refused: there is none here.
        Locked: the passphrase is needed.
    """
    encoded, box = node.queue.receipts.receipt(entry), node.queue.receipts.names(entry)
    if encoded is None and box is None:
        raise Refused("no-receipt", "This node has no receipt of that study. The node that delivered it has.")
    look = node.queue.receipts.look(entry)
    told: dict[str, Any] = {
        "entry_id": entry.hex(),
        "digest": None if encoded is None else hashlib.sha256(encoded).hexdigest(),
        "second_look": None if look is None else (look.result or "due"),
    }
    names = _names(node, box)
    told |= {"person": names.get("person"), "reason": names.get("reason"), "study_uid": names.get("study")}
    if encoded is None:
        return told
    said = cbor.decode(encoded)
    by_digest = {digest: (uid, code) for digest, uid, _, code, _ in names.get("instances", [])}
    lines = [_line(one, by_digest) for one in said["instances"]]
    left_out = [_line([digest, None], by_digest) for digest in said["left_out"]]
    return told | {
        "destination": said["destination"],
        "demanded": said["demanded"],
        "instances": lines,
        "left_out": left_out,
    }


def _names(node: Node, box: bytes | None) -> dict[str, Any]:
    try:
        said = {} if box is None else cbor.decode(node.keystore.intake.open(box))
    except (CannotOpen, BadCbor):
        return {}
    return said if isinstance(said, dict) else {}


def _line(line: list[Any], names: dict[bytes, tuple[str, str]]) -> dict[str, Any]:
    """Return one image of a receipt. `sent`: what was sent instead of the original, if the PACS forced it."""
    digest, level, *change = line
    uid, code = names.get(digest, (None, ""))
    return {
        "sha256": digest.hex(),
        "uid": uid,
        "level": level,
        "sent": {"sha256": change[0].hex(), "how": change[1]} if change else None,
        "code": code,
        "remark": explain(code),
    }
