"""Withdrawn: say of an entry that was taken back how much of it had arrived at the PACS by then.

Somebody must ask the hospital to delete that. Called by `node.jobs.forward`, on nodes that deliver.
"""

import logging
from collections.abc import Callable, Mapping

from node.clock import Clock
from node.errors import Locked, StoreDamaged
from node.jobs.ending import Ends
from node.jobs.lines import TROUBLES
from node.jobs.pieces import Study, noted
from node.store.holdings import Holdings
from node.store.queue import Proof, QueueEntry
from sync.entries import EntryView
from sync.errors import BadManifest, CannotOpen
from sync.evidence import Evidence, InstanceProof, judge
from sync.ids import short
from sync.lifecycle import EntryState

log = logging.getLogger(__name__)
_PATIENCE_MS = 72 * 3_600_000  # then what is known already is said, and the study erased here, too
_AGAIN_MS = 10 * 60_000

OpenStudyOf = Callable[[QueueEntry, EntryView, str], Study | None]


class Withdrawn:
    """Looks after entries that were withdrawn when this node had begun to send them."""

    def __init__(self, holdings: Holdings, clock: Clock, ends: Ends, open_study: OpenStudyOf) -> None:
        self._holdings = holdings
        self._queue = holdings.queue
        self._clock = clock
        self._ends = ends
        self._open = open_study

    def tell(self) -> None:
        """Say of each such entry how much had arrived; what cannot be asked now is asked again later."""
        now = self._clock.carried_ms()
        for held in self._queue.all():
            view = self._holdings.view(held.entry)
            if (
                held.ended_ms is None
                or held.erasing
                or view.state is not EntryState.WITHDRAWN
                or view.successor is not None
            ):
                continue
            proofs = self._queue.proofs(held.entry)
            if proofs and held.try_at_ms <= now:
                self._tell_how_much(held, view, proofs, last=now - held.ended_ms > _PATIENCE_MS)

    def _tell_how_much(
        self, held: QueueEntry, view: EntryView, proofs: Mapping[int, Proof], *, last: bool
    ) -> None:
        place = next(iter(proofs.values())).place
        study = None
        shown: dict[str, InstanceProof] | None = None
        try:
            study = self._open(held, view, place.partition(" ")[0])
            if study is not None:
                sent = [study.outgoing[n] for n, proof in proofs.items() if proof.place == study.place]
                shown = study.destination.prove(study.opened.index.study_uid, sent, Evidence.LISTED)
        except (*TROUBLES, Locked, StoreDamaged, CannotOpen, BadManifest) as error:
            log.info("cannot tell how much of a withdrawn entry arrived code=%s", error.code)
        if shown is None and not last:
            self._queue.set_setback(
                held.entry,
                failures=held.failures,
                setback=held.setback,
                try_at_ms=self._clock.carried_ms() + _AGAIN_MS,
            )
        elif study is None:
            log.warning("nobody can say how much of a withdrawn entry arrived entry=%s", short(held.entry))
            self._queue.forget_proofs(held.entry)
        else:
            self._conclude(study, proofs, shown or {})

    def _conclude(
        self, study: Study, proofs: Mapping[int, Proof], shown: Mapping[str, InstanceProof]
    ) -> None:
        before = noted(study, proofs)
        whole = judge(study.expected, before, demanded=study.demanded)
        if whole.may_end:
            self._ends.partly(study, whole)  # a delivery beats a withdrawal
            return
        there = {one.uid: proof for one in study.outgoing if (proof := shown.get(one.uid)) is not None}
        levels = {uid: proof.level for uid, proof in {**there, **before}.items()}
        original = {
            one.uid: InstanceProof(one.sha256, levels[one.uid]) for one in study.outgoing if one.uid in levels
        }
        verdict = judge(study.expected, original, demanded=Evidence.ANSWERED)
        if verdict.proven:
            self._ends.partly(study, verdict)
        else:
            self._queue.forget_proofs(study.held.entry)
