"""Forward: deliver what this node may open, prove that the PACS has it, and write the tombstone.

The heart of the node, to be read as the sentence it implements: choose, open, claim, send what is not proven,
prove, judge, end. What is proven of each instance is noted at once, so that after a power cut nothing proven
is sent again. What ends an entry is `sync.evidence.judge`, never an answer to a store.
"""

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from node.clock import Clock
from node.deliver.destination import Outgoing, Result
from node.deliver.reasons import means_full
from node.errors import CodecUnknown, Locked, StoreDamaged
from node.jobs.choosing import Choices
from node.jobs.claims import Claims
from node.jobs.ending import Ends
from node.jobs.forcing import Forcing
from node.jobs.lines import TROUBLES, Lines
from node.jobs.pieces import Study, excused, in_chunks, noted, outgoing_of, proof_of
from node.jobs.uplink import Uplink
from node.jobs.withdrawn import Withdrawn
from node.keys import Keystore
from node.opening import open_study
from node.store.holdings import Holdings
from node.store.queue import Proof, QueueEntry
from node.store.vault import Vault
from sync.bodies import Role
from sync.entries import EntryView
from sync.errors import BadManifest, CannotOpen
from sync.evidence import Evidence, InstanceProof, Outcome, Verdict, judge
from sync.forwarding import Deliverable, Setback, choose, delay_after, stands_back
from sync.ids import BlobId, EntryId, short
from sync.manifest import key_id, parse_manifest
from sync.plan import is_on_its_way

log = logging.getLogger(__name__)
_STALE_MS = 10 * 60_000  # a proof that is older is looked at once more before it ends anything
_REFUSALS = frozenset({Outcome.CONFLICT, Outcome.REJECTED})


class _StandsBack(Exception):
    """The delivery of an entry stops between two chunks: others first, or it has ended meanwhile."""


@dataclass(slots=True)
class _Found:
    """What sending and proving has brought of a study, by SOP Instance UID."""

    proofs: dict[str, InstanceProof]
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What became of each."""
        return {uid: result.outcome for uid, result in self.results.items()}

    @property
    def codes(self) -> dict[str, str]:
        """Why, where there is a reason."""
        return {uid: result.code for uid, result in self.results.items()}


Timed = Callable[[str, str], AbstractContextManager[None]]
"""Notes how long a step (`store`, `prove`) at a destination takes."""


class Forwarder:
    """Delivers entries, one after another, over `lines` and the `uplink`."""

    def __init__(
        self,
        holdings: Holdings,
        vault: Vault,
        keystore: Keystore,
        clock: Clock,
        lines: Lines,
        uplink: Uplink,
        *,
        look_after_ms: int | None = None,
        claims: Claims | None = None,
        timed: Timed = lambda _destination, _step: nullcontext(),
    ) -> None:
        self._holdings = holdings
        self._queue = holdings.queue
        self._vault = vault
        self._keystore = keystore
        self._clock = clock
        self._lines = lines
        self._choices = Choices(holdings)
        self._uplink = uplink
        self._claims = claims or Claims(holdings, clock)
        self._timed = timed
        self._forcing = Forcing(lines)
        self._ends = Ends(holdings, keystore, clock, look_after_ms)
        self._withdrawn = Withdrawn(holdings, clock, self._ends, self._open)
        self._turns: dict[EntryId, int] = {}
        self._acted_on: set[bytes] = set()  # decisions

    def forward_all(self) -> int:
        """Deliver until nothing is ready; return how many entries ended."""
        if self._may_forward():
            self._withdrawn.tell()
        ended = 0
        while (entry := self._next()) is not None:
            ended += self._deliver(entry)
        return ended

    def close(self) -> None:
        """Hold nothing up any more."""
        self._uplink.close()
        self._claims.close()

    # -- choosing -------------------------------------------------------------------------------

    def _next(self) -> Deliverable | None:
        if not self._may_forward() or not self._may_deliver():
            return None
        now = self._clock.carried_ms()
        return choose(self._deliverable(now), now=now, paused=self._lines.resting())

    def _may_forward(self) -> bool:
        me = self._holdings.facts.node_id
        return Role.FORWARD in self._holdings.facts.ask(lambda ledger: ledger.membership.roles(me))

    def _may_deliver(self) -> bool:
        """Say whether there is any destination; the fact of one wakes this job."""
        return bool(self._holdings.facts.ask(lambda ledger: ledger.destinations()))

    def _deliverable(self, now: int) -> Iterator[Deliverable]:
        routine = self._uplink.routine_may_go()
        for held in self._queue.all():
            if not held.complete or held.ended_ms is not None or held.erasing:
                continue
            view = self._holdings.view(held.entry)
            if not is_on_its_way(view) or view.waits_for_person or not (routine or view.urgent):
                continue
            yield Deliverable(
                entry=held.entry,
                destination=self._choices.of(view),
                urgent=view.urgent,
                waiting_since=held.seen_ms,
                try_at=0 if self._is_told_anew(view) else held.try_at_ms,
                claimed_by_other=self._claims.of_another(view, now),
                turns=self._turns.get(held.entry, 0),
            )

    def _is_told_anew(self, view: EntryView) -> bool:
        """Say whether a person decided, or somebody granted, what no attempt of this run of the node knew."""
        return any(fact.id not in self._acted_on for fact in (*view.decisions, *view.grants))

    # -- delivering -----------------------------------------------------------------------------

    def _deliver(self, chosen: Deliverable) -> bool:
        """Deliver one entry as far as it goes; say whether it ended."""
        held = self._queue.get(chosen.entry)
        view = self._holdings.view(chosen.entry)
        if held is None:
            return False
        asked_again = self._is_told_anew(view)
        self._acted_on |= {fact.id for fact in (*view.decisions, *view.grants)}
        try:
            study = self._open(held, view)
            if study is None:
                return False
            if not self._claims.take(held.entry, len(study.outgoing)):
                return False
            if asked_again:
                self._forcing.forget(study)
            found = self._send_and_prove(study, chosen)
        except _StandsBack:
            self._turns[chosen.entry] = self._turns.get(chosen.entry, 0) + 1
            self._claims.end(held.entry)
            return False
        except TROUBLES as error:
            # Which destination it is may have been found out only by opening the study.
            setback = self._lines.rest(self._choices.of(view), error)
            self._claims.end(held.entry)  # another forwarder may reach it
            self._queue.set_setback(
                held.entry, failures=held.failures, setback=setback.value, try_at_ms=held.try_at_ms
            )
            return False
        except CannotOpen as error:
            if self._is_for_others(held.entry):
                self._rest(held, Setback.STUDY)  # who can open it will grant the key
            else:
                self._ends.trouble(held, error.code, 0)
            return False
        except (BadManifest, CodecUnknown) as error:
            self._ends.trouble(held, error.code, 0)
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
        self._lines.went_well(study.name)
        return self._conclude(study, found)

    def _open(self, held: QueueEntry, view: EntryView, name: str = "") -> Study | None:
        secret = self._keystore.seal_secret
        if secret is None:
            self._rest(held, Setback.STUDY)
            return None
        opened = open_study(self._vault, self._holdings.blobs.get(BlobId(held.entry)), view, secret)
        name = name or self._choices.opened(view, opened.index)
        body = self._holdings.facts.ask(lambda ledger: ledger.destinations().get(name))
        if body is None and self._may_deliver():
            # A person chose one that nobody told us of; or rules do not say which of several.
            self._ends.trouble(held, "destination-unknown" if name else "destination-open", 0)
        if body is None:
            return None
        uid = opened.index.study_uid
        return Study(
            held=held,
            view=view,
            destination=self._lines.open(name, body, secret),
            name=name,
            body=body,
            opened=opened,
            outgoing=tuple(outgoing_of(uid, opened, instance) for instance in opened.index.instances),
        )

    def _send_and_prove(self, study: Study, chosen: Deliverable) -> _Found:
        """Send what is not proven yet, chunk by chunk, and prove each chunk before the next."""
        started = self._clock.carried_ms()
        found = _Found(noted(study, self._queue.proofs(study.held.entry)))
        self._forget_lost(study, found)
        open_ = [one for one in study.outgoing if one.uid not in found.proofs]
        for number, chunk in enumerate(in_chunks(open_, self._uplink.chunk_bytes())):
            if number:
                self._go_on(chosen, started)
            self._deliver_chunk(study, chunk, found)
            self._claims.renew(study.held.entry, proven=_levels(found.proofs))
        if self._clock.carried_ms() - started > _STALE_MS:
            self._forget_lost(study, found)
        return found

    def _forget_lost(self, study: Study, found: _Found) -> None:
        """Ask once more for what was proven some time ago; an archive whose disk was replaced has lost it."""
        if not found.proofs or study.destination.strongest < Evidence.LISTED:
            return
        there = study.destination.present(study.opened.index.study_uid)
        proven = [one for one in study.outgoing if one.uid in found.proofs]
        lost = [one for one in proven if not self._forcing.called(study, one) <= there]
        for one in lost:
            del found.proofs[one.uid]
        if lost:
            position = study.positions
            self._queue.note_proofs(
                study.held.entry,
                [Proof(position[one.uid], study.place, Outcome.UNKNOWN.value, None) for one in lost],
            )
            log.warning("no longer there entry=%s lost=%d", short(study.held.entry), len(lost))

    def _deliver_chunk(self, study: Study, chunk: Sequence[Outgoing], found: _Found) -> None:
        entry, position = study.held.entry, study.positions
        self._queue.note_sending(entry, study.place, [position[one.uid] for one in chunk])

        def store(instances: Sequence[Outgoing]) -> list[Result]:
            with self._uplink.sending(), self._timed(study.name, "store"):
                return study.destination.store(
                    [self._uplink.metered(one, lambda: self._claims.beat(entry)) for one in instances]
                )

        results, sent = self._forcing.store(study, chunk, store)
        parts = [part for one in chunk for part in sent[one.uid]]
        with self._timed(study.name, "prove"):
            shown = study.destination.prove(chunk[0].study_uid, parts, study.demanded)
        proofs = self._forcing.proofs_of_originals(chunk, sent, shown)
        found.results |= results
        found.proofs |= proofs
        self._queue.note_proofs(
            entry,
            [
                proof_of(
                    position[one.uid],
                    study.place,
                    results.get(one.uid),
                    proofs.get(one.uid),
                    study.changes.get(one.uid),
                )
                for one in chunk
            ],
        )
        self._lines.keep_learnt(study.name, study.body, **self._forcing.learnt(study, chunk, results, proofs))

    def _go_on(self, chosen: Deliverable, started_ms: int) -> None:
        """Look up between two chunks: is there anything that goes first, or has this entry ended?"""
        now = self._clock.carried_ms()
        view = self._holdings.view(chosen.entry)
        if view.tombstone is not None or self._claims.of_another(view, now):
            raise _StandsBack
        others, resting = list(self._deliverable(now)), self._lines.resting()
        lasted = now - started_ms
        if stands_back(chosen, others, lasted_ms=lasted, now=now, paused=resting):
            raise _StandsBack

    # -- concluding -----------------------------------------------------------------------------

    def _conclude(self, study: Study, found: _Found) -> bool:
        view = self._holdings.view(study.held.entry)
        left_out = _left_out(study, view, found)
        verdict = judge(
            study.expected,
            found.proofs,
            demanded=study.demanded,
            left_out=left_out,
            outcomes=found.outcomes,
        )
        self._turns.pop(study.held.entry, None)
        if verdict.ending is not None:
            self._ends.delivered(study, verdict, found.codes)
            sealed = 0 if view.announced is None else view.announced.size
            self._uplink.learn_expansion(sum(one.size for one in study.outgoing), sealed)
            return True
        refused = len(verdict.conflicts) + len(verdict.rejected)
        if verdict.left_out and not (verdict.proven or verdict.missing or refused):
            self._ends.left_out_altogether(study)  # nothing was delivered
            return True
        self._not_yet(study, found, verdict, refused)
        self._claims.end(study.held.entry)
        log.info(
            "not delivered yet entry=%s proven=%d total=%d refused=%d",
            short(study.held.entry),
            len(verdict.proven),
            len(study.outgoing),
            refused,
        )
        return False

    def _not_yet(self, study: Study, found: _Found, verdict: Verdict, refused: int) -> None:
        """Say why it is not delivered: a matter for a person, of a full PACS, or of time."""
        levels = [one.level for one in found.proofs.values() if one.level is not None]
        if refused and not verdict.missing:
            self._ends.trouble(study.held, "conflict" if verdict.conflicts else "rejected", refused)
        elif verdict.missing and all(means_full(found.codes.get(i.uid, "")) for i in verdict.missing):
            self._lines.rest_full(study.name)
            self._rest(study.held, Setback.BUSY)
        elif (
            verdict.missing
            and study.demanded > study.destination.strongest
            and len(levels) == len(study.outgoing)
            and all(level >= study.destination.strongest for level in levels)
        ):
            self._ends.trouble(study.held, "evidence-not-offered", len(verdict.missing))
        else:
            self._rest(study.held, Setback.STUDY)

    def _rest(self, held: QueueEntry, setback: Setback) -> None:
        """Let this entry wait its turn again; others go on."""
        delay = delay_after(held.failures + 1, jitter=random.random())
        self._queue.set_setback(
            held.entry,
            failures=held.failures + 1,
            setback=setback.value,
            try_at_ms=self._clock.carried_ms() + delay,
        )

    def _is_for_others(self, entry: EntryId) -> bool:
        """Say whether an entry is sealed to other nodes that deliver, and not to this one."""
        seals = self._holdings.facts.ask(lambda ledger: ledger.membership.forwarder_seals())
        sealed = parse_manifest(self._holdings.blobs.get(BlobId(entry))).keys.keys()
        mine = self._keystore.seal_public
        return bool({key_id(seal) for seal in seals if seal != mine} & sealed) and (
            mine is None or key_id(mine) not in sealed
        )


def _levels(proofs: Mapping[str, InstanceProof]) -> int:
    return sum(proof.level is not None for proof in proofs.values())


def _left_out(study: Study, view: EntryView, found: _Found) -> frozenset[str]:
    """Return the refused or conflicting instances that a person decided to go on without."""
    bad: dict[int, Outcome] = {}
    for position, one in enumerate(study.outgoing):
        proof, outcome = found.proofs.get(one.uid), found.outcomes.get(one.uid)
        if proof is not None and proof.level is not None and proof.level >= study.demanded:
            continue
        if proof is not None and proof.conflict:
            bad[position] = Outcome.CONFLICT
        elif outcome in _REFUSALS:
            bad[position] = outcome
    return frozenset(study.outgoing[n].uid for n in excused(view, bad))
