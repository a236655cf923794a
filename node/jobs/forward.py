"""Forward: deliver what this node may open, prove that the PACS has it, and write the tombstone.

The heart of the node, to be read as the sentence it implements: choose, open, claim, send what is not proven,
prove, judge, end. What is proven of each instance is noted at once, so that after a power cut nothing proven
is sent again. What ends an entry is `sync.evidence.judge`, never an answer to a store.
"""

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from node.clock import Clock
from node.deliver.destination import Destination, Outgoing
from node.errors import (
    CodecUnknown,
    DestinationBusy,
    DestinationLocked,
    DestinationUnreachable,
    Locked,
    StoreDamaged,
)
from node.jobs.pieces import in_chunks, outgoing_of, proof_of
from node.keys import Keystore
from node.store.holdings import Holdings
from node.store.queue import QueueEntry
from node.store.vault import OpenStudy, Vault
from sync.bodies import Claim, Decision, DestinationBody, Ending, Role, Tombstone, Trouble
from sync.entries import EntryView
from sync.errors import BadManifest, CannotOpen
from sync.evidence import (
    Evidence,
    Expected,
    InstanceProof,
    Outcome,
    Verdict,
    judge,
    receipt,
    receipt_digest,
)
from sync.forwarding import Deliverable, Setback, choose, delay_after
from sync.ids import BlobId, NodeId, short
from sync.plan import is_on_its_way

log = logging.getLogger(__name__)
_CLAIM_LEASE_MS = 10 * 60_000
_TROUBLE_RETRY_MS = 60 * 60_000
_NO_DESTINATION_RETRY_MS = 5_000
_LOCKED_PAUSE_MS = 15 * 60_000
_EXCUSING = frozenset({"leave-out", "accept"})

MakeDestination = Callable[[DestinationBody, bytes | None], Destination]


@dataclass(slots=True)
class _Pause:
    """Why a destination rests."""

    failures: int
    until_ms: int
    setback: Setback


@dataclass(frozen=True, slots=True)
class _Study:
    """One entry under delivery: its opened study and what goes where."""

    held: QueueEntry
    view: EntryView
    destination: Destination
    name: str
    place: str  # the destination's name and address: what was proven at one is not proven at another
    demanded: Evidence
    opened: OpenStudy
    outgoing: tuple[Outgoing, ...]

    @property
    def expected(self) -> list[Expected]:
        """What the confirmation froze."""
        return [Expected(one.uid, one.sha256) for one in self.outgoing]


class Forwarder:
    """Delivers entries, one after another. `make_destination` builds a PACS from its fact and its secret."""

    def __init__(
        self,
        holdings: Holdings,
        vault: Vault,
        keystore: Keystore,
        clock: Clock,
        make_destination: MakeDestination,
    ) -> None:
        self._holdings = holdings
        self._queue = holdings.queue
        self._vault = vault
        self._keystore = keystore
        self._clock = clock
        self._make_destination = make_destination
        self._pauses: dict[str, _Pause] = {}
        self._open_destinations: dict[str, tuple[DestinationBody, Destination]] = {}
        self._claims_seen: dict[bytes, int] = {}
        self._acted_on: set[bytes] = set()  # decisions

    def forward_all(self) -> int:
        """Deliver until nothing is ready; return how many entries ended."""
        ended = 0
        while (entry := self._next()) is not None:
            ended += self._deliver(entry)
        return ended

    def close(self) -> None:
        """Close the lines to all destinations."""
        for _, destination in self._open_destinations.values():
            destination.close()
        self._open_destinations.clear()

    # -- choosing -------------------------------------------------------------------------------

    def _next(self) -> Deliverable | None:
        me = self._holdings.facts.node_id
        if Role.FORWARD not in self._holdings.facts.ask(lambda ledger: ledger.membership.roles(me)):
            return None
        now = self._clock.carried_ms()
        paused = frozenset(name for name, pause in self._pauses.items() if pause.until_ms > now)
        return choose(self._deliverable(now, me), now=now, paused=paused)

    def _deliverable(self, now: int, me: NodeId) -> Iterator[Deliverable]:
        for held in self._queue.all():
            if not held.complete or held.ended_ms is not None or held.erasing:
                continue
            view = self._holdings.view(held.entry)
            if not is_on_its_way(view) or view.waits_for_person:
                continue
            yield Deliverable(
                entry=held.entry,
                destination=self._destination_name(view),
                urgent=view.urgent,
                waiting_since=held.seen_ms,
                try_at=0 if self._is_told_anew(view) else held.try_at_ms,
                claimed_by_other=self._claimed_by_other(view, now, me),
            )

    def _claimed_by_other(self, view: EntryView, now: int, me: NodeId) -> bool:
        """Say whether another forwarder said, not long ago as seen here, that it is delivering this."""
        fresh = False
        for author, fact in view.claims.items():
            seen = self._claims_seen.setdefault(fact.id, now)
            fresh = fresh or (author != me and now - seen < _CLAIM_LEASE_MS)
        return fresh

    def _is_told_anew(self, view: EntryView) -> bool:
        """Say whether a person decided something that no attempt of this run of the node knew of."""
        return any(fact.id not in self._acted_on for fact in view.decisions)

    def _destination_name(self, view: EntryView) -> str:
        chosen = view.announced.destination if view.announced else ""
        for fact in view.decisions:
            if isinstance(fact.body, Decision) and fact.body.decision == "destination":
                chosen = str(fact.body.detail.get("name", chosen))
        if chosen:
            return chosen
        known = self._holdings.facts.ask(lambda ledger: sorted(ledger.destinations()))
        return known[0] if len(known) == 1 else ""

    # -- delivering -----------------------------------------------------------------------------

    def _deliver(self, chosen: Deliverable) -> bool:
        """Deliver one entry as far as it goes; say whether it ended."""
        held = self._queue.get(chosen.entry)
        view = self._holdings.view(chosen.entry)
        if held is None:
            return False
        self._acted_on |= {fact.id for fact in view.decisions}
        try:
            study = self._open(held, view, chosen.destination)
            if study is None:
                return False
            self._say_claim(study, active=True)
            verdict = self._send_and_prove(study)
        except (DestinationUnreachable, DestinationBusy, DestinationLocked) as error:
            self._pause(chosen, error)
            return False
        except (CannotOpen, BadManifest, CodecUnknown) as error:
            self._trouble(held, error.code, 0)
            return False
        except Locked:
            self._rest(held, Setback.CREDENTIALS)
            return False
        except StoreDamaged:
            self._holdings.verify(held.entry)  # takes custody back; the blobs come again from others
            self._rest(held, Setback.STUDY)
            return False
        except Exception:
            self._rest(held, Setback.STUDY)  # nobody foresaw it; the others must have their turn
            raise
        self._pauses.pop(chosen.destination, None)
        return self._conclude(study, verdict)

    def _open(self, held: QueueEntry, view: EntryView, name: str) -> _Study | None:
        secret = self._keystore.seal_secret
        if secret is None:
            self._rest(held, Setback.STUDY)
            return None
        opened = self._vault.open_study(self._holdings.blobs.get(BlobId(held.entry)), secret)
        # A study that was salvaged is announced without its destination; what was confirmed is sealed in it.
        name = name or str(opened.index.confirmed.get("destination") or "")
        body = self._holdings.facts.ask(lambda ledger: ledger.destinations().get(name))
        if body is None and self._holdings.facts.ask(lambda ledger: bool(ledger.destinations())):
            self._trouble(held, "destination-unknown", 0)  # a person chose one that nobody has told us of
            return None
        if body is None:
            soon = self._clock.carried_ms() + _NO_DESTINATION_RETRY_MS
            setback = Setback.STUDY.value
            self._queue.set_setback(held.entry, failures=held.failures, setback=setback, try_at_ms=soon)
            log.warning("no such destination for entry=%s", short(held.entry))
            return None
        uid = opened.index.study_uid
        return _Study(
            held=held,
            view=view,
            destination=self._destination(name, body, secret),
            name=name,
            place=f"{name} {body.url}",
            demanded=Evidence(body.evidence),
            opened=opened,
            outgoing=tuple(outgoing_of(uid, opened, instance) for instance in opened.index.instances),
        )

    def _destination(self, name: str, body: DestinationBody, secret: bytes) -> Destination:
        """Return the line to a destination, kept open: it remembers what the PACS can take at once."""
        known = self._open_destinations.get(name)
        if known is not None and known[0] == body:
            return known[1]
        if known is not None:
            known[1].close()
        made = self._make_destination(body, secret)
        self._open_destinations[name] = (body, made)
        return made

    def _send_and_prove(self, study: _Study) -> Verdict:
        """Send what is not proven yet, chunk by chunk, and prove each chunk before the next."""
        proofs = self._noted(study)
        outcomes: dict[str, Outcome] = {}
        position = {one.uid: number for number, one in enumerate(study.outgoing)}
        open_ = [one for one in study.outgoing if one.uid not in proofs]
        for chunk in in_chunks(open_):
            results = {result.uid: result for result in study.destination.store(chunk)}
            shown = study.destination.prove(chunk[0].study_uid, chunk, study.demanded)
            outcomes |= {uid: result.outcome for uid, result in results.items()}
            proofs |= shown
            self._queue.note_proofs(
                study.held.entry,
                [
                    proof_of(position[one.uid], study.place, results.get(one.uid), shown.get(one.uid))
                    for one in chunk
                ],
            )
            self._say_claim(study, active=True, proven=sum(p.level is not None for p in proofs.values()))
        return judge(
            study.expected,
            proofs,
            demanded=study.demanded,
            left_out=self._left_out(study, proofs, outcomes),
            outcomes=outcomes,
        )

    def _noted(self, study: _Study) -> dict[str, InstanceProof]:
        """Return the proofs of earlier runs that reach the level that is demanded now."""
        noted = {}
        for position, proof in self._queue.proofs(study.held.entry).items():
            level = None if proof.evidence is None else Evidence(proof.evidence)
            if level is not None and level >= study.demanded and proof.place == study.place:
                one = study.outgoing[position]
                noted[one.uid] = InstanceProof(one.sha256, level)
        return noted

    def _left_out(
        self, study: _Study, proofs: Mapping[str, InstanceProof], outcomes: Mapping[str, Outcome]
    ) -> frozenset[str]:
        """Return the refused or conflicting instances, if a person decided to go on without so many."""
        bad = {uid for uid, outcome in outcomes.items() if outcome in _REFUSALS}
        bad -= {uid for uid, one in proofs.items() if one.level is not None and one.level >= study.demanded}
        bad |= {uid for uid, one in proofs.items() if one.conflict}
        seen = _answered(study.view, _EXCUSING)
        return frozenset(bad) if len(bad) <= max((one.instances for one in seen), default=0) else frozenset()

    # -- concluding -----------------------------------------------------------------------------

    def _conclude(self, study: _Study, verdict: Verdict) -> bool:
        if verdict.ending is not None:
            self._end(study, verdict)
            return True
        refused = len(verdict.conflicts) + len(verdict.rejected)
        if verdict.left_out and not (verdict.proven or verdict.missing or refused):
            self._withdraw(study)  # a person left out every image: nothing was delivered
            return True
        if refused and not verdict.missing:
            self._trouble(study.held, "conflict" if verdict.conflicts else "rejected", refused)
        else:
            self._rest(study.held, Setback.STUDY)
        self._say_claim(study, active=False, proven=len(verdict.proven))
        log.info(
            "not delivered yet entry=%s proven=%d total=%d refused=%d",
            short(study.held.entry),
            len(verdict.proven),
            len(study.outgoing),
            refused,
        )
        return False

    def _withdraw(self, study: _Study) -> None:
        """End an entry of which a person left out everything; the study fact goes into the tombstone."""
        said, body = study.view.study, study.view.announced
        assert said is not None and body is not None
        tombstone = Tombstone(
            outcome=Ending.WITHDRAWN.value,
            destination=study.name,
            evidence="",
            instances=len(study.outgoing),
            proven=0,
            receipt=None,
            size=body.size,
            origin=body.origin,
            study=said.raw,
        )
        self._holdings.facts.issue(tombstone, study.held.entry)
        log.warning("withdrawn, every image was left out entry=%s", short(study.held.entry))

    def _end(self, study: _Study, verdict: Verdict) -> None:
        """Write the tombstone and its receipt in one commit."""
        entry, ending = study.held.entry, verdict.ending
        assert ending is not None
        proof = receipt(entry, study.name, verdict)
        origin = study.view.origin
        assert origin is not None
        weakest = min((level for _, level in verdict.proven), key=lambda level: level.rank)
        with self._holdings.facts.writing() as writing:
            self._queue.keep_receipt(writing.session, entry, proof)
            writing.issue(
                Tombstone(
                    outcome=ending.value,
                    destination=study.name,
                    evidence=weakest.value,
                    instances=len(study.outgoing),
                    proven=len(verdict.proven),
                    receipt=receipt_digest(proof),
                    size=study.view.announced.size if study.view.announced else 0,
                    origin=origin,
                ),
                entry,
            )
        log.info(
            "delivered and proven entry=%s instances=%d evidence=%s",
            short(entry),
            len(verdict.proven),
            weakest.value,
        )

    def _trouble(self, held: QueueEntry, code: str, instances: int) -> None:
        """Say, once, that a person must look; the entry is tried again every hour all the same."""
        view = self._holdings.view(held.entry)
        mine = [f.body for f in view.troubles if f.header.author == self._holdings.facts.node_id]
        same = any(isinstance(b, Trouble) and (b.code, b.instances) == (code, instances) for b in mine)
        if not same or _answered(view):
            now = self._clock.now_ms()
            self._holdings.facts.issue(Trouble(code=code, instances=instances, since=now), held.entry)
        try_at = self._clock.carried_ms() + _TROUBLE_RETRY_MS
        self._queue.set_setback(
            held.entry, failures=held.failures + 1, setback=Setback.STUDY.value, try_at_ms=try_at
        )

    def _rest(self, held: QueueEntry, setback: Setback) -> None:
        """Let this entry wait its turn again; others go on."""
        delay = delay_after(held.failures + 1, jitter=random.random())
        self._queue.set_setback(
            held.entry,
            failures=held.failures + 1,
            setback=setback.value,
            try_at_ms=self._clock.carried_ms() + delay,
        )

    def _pause(
        self, chosen: Deliverable, error: DestinationUnreachable | DestinationBusy | DestinationLocked
    ) -> None:
        """Let the destination rest; the entry's own count does not rise for what is not its fault."""
        before = self._pauses.get(chosen.destination)
        failures = 1 if before is None else before.failures + 1
        if isinstance(error, DestinationLocked):
            setback, delay = Setback.CREDENTIALS, _LOCKED_PAUSE_MS
        elif isinstance(error, DestinationBusy):
            asked = int((error.retry_after_s or 0) * 1000)
            setback = Setback.BUSY
            delay = delay_after(failures, jitter=random.random(), retry_after_ms=asked)
        else:
            setback, delay = Setback.NO_NETWORK, delay_after(failures, jitter=random.random())
        until = self._clock.carried_ms() + delay
        self._pauses[chosen.destination] = _Pause(failures, until, setback)
        held = self._queue.get(chosen.entry)
        if held is not None:
            self._queue.set_setback(
                chosen.entry, failures=held.failures, setback=setback.value, try_at_ms=held.try_at_ms
            )
        log.info("destination rests code=%s seconds=%d", error.code, delay // 1000)

    def _say_claim(self, study: _Study, *, active: bool, proven: int = 0) -> None:
        """Say that this node is delivering an entry, if that is news to others."""
        me = self._holdings.facts.node_id
        said = self._holdings.view(study.held.entry).claims.get(me)
        body = Claim(active=active, proven=proven, total=len(study.outgoing))
        if (said is None) == active or (said is not None and active and said.body != body):
            self._holdings.facts.issue(body, study.held.entry)


_REFUSALS = frozenset({Outcome.CONFLICT, Outcome.REJECTED})


def _answered(view: EntryView, decisions: frozenset[str] | None = None) -> list[Trouble]:
    """Return the troubles that stand and were answered by a person; clocks of two nodes are not compared."""
    answers = {
        answer
        for fact in view.decisions
        if isinstance(fact.body, Decision) and (decisions is None or fact.body.decision in decisions)
        for answer in _list(fact.body.detail.get("answers"))
    }
    return [t.body for t in view.troubles if t.id in answers and isinstance(t.body, Trouble)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
