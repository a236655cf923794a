"""Ending a delivery: tombstones with their receipts, troubles that a person must answer, withdrawals.

Called by `node.jobs.forward`. What ends an entry is `sync.evidence.judge`, never an answer to a store.
"""

import logging
from collections.abc import Mapping

from node.clock import Clock
from node.jobs.pieces import Study, answered
from node.keys import Keystore
from node.store.holdings import Holdings
from node.store.queue import QueueEntry
from sync import cbor
from sync.bodies import Ending, Tombstone, Trouble
from sync.evidence import Evidence, Verdict, receipt, receipt_digest
from sync.forwarding import Setback
from sync.ids import short

log = logging.getLogger(__name__)
_TROUBLE_RETRY_MS, _TROUBLE_LONGEST_MS = 60 * 60_000, 24 * 60 * 60_000  # a PACS may be mended unannounced


class Ends:
    """Writes what ends an entry, or keeps it from ending. `look_after_ms`: when the PACS is seen again."""

    def __init__(
        self, holdings: Holdings, keystore: Keystore, clock: Clock, look_after_ms: int | None
    ) -> None:
        self._holdings = holdings
        self._queue = holdings.queue
        self._keystore = keystore
        self._clock = clock
        self._look_after_ms = look_after_ms

    def delivered(self, study: Study, verdict: Verdict, codes: Mapping[str, str]) -> None:
        """Write the tombstone and its receipt in one commit.

        Args:
            study: what was delivered.
            verdict: with an ending.
            codes: by SOP Instance UID, what the destination remarked.
        """
        ending = verdict.ending
        assert ending is not None
        self._write(study, verdict, ending, codes)
        log.info(
            "delivered and proven entry=%s instances=%d changed=%d",
            short(study.held.entry),
            len(verdict.proven),
            len(study.changes),
        )

    def partly(self, study: Study, verdict: Verdict) -> None:
        """Say of an entry that was withdrawn how many of its instances had arrived by then."""
        if verdict.ending is not None:
            self.delivered(study, verdict, {})  # a delivery beats a withdrawal
            return
        self._write(study, verdict, Ending.PARTLY, {})
        log.warning(
            "withdrawn when a part had arrived entry=%s proven=%d total=%d",
            short(study.held.entry),
            len(verdict.proven),
            len(study.outgoing),
        )

    def left_out_altogether(self, study: Study) -> None:
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

    def trouble(self, held: QueueEntry, code: str, instances: int) -> None:
        """Say, once, that a person must look; the entry is tried again all the same, ever more seldom."""
        view = self._holdings.view(held.entry)
        mine = [f.body for f in view.troubles if f.header.author == self._holdings.facts.node_id]
        same = any(isinstance(b, Trouble) and (b.code, b.instances) == (code, instances) for b in mine)
        if not same or answered(view):
            now = self._clock.now_ms()
            self._holdings.facts.issue(Trouble(code=code, instances=instances, since=now), held.entry)
        rest_ms = min(_TROUBLE_RETRY_MS * 2 ** min(held.failures, 10), _TROUBLE_LONGEST_MS)
        try_at = self._clock.carried_ms() + rest_ms
        self._queue.set_setback(
            held.entry, failures=held.failures + 1, setback=Setback.STUDY.value, try_at_ms=try_at
        )

    def _write(self, study: Study, verdict: Verdict, ending: Ending, codes: Mapping[str, str]) -> None:
        entry = study.held.entry
        proof = receipt(entry, study.name, verdict, study.changes)
        origin = study.view.origin
        if origin is None and study.view.ending is not None:
            origin = study.view.ending.origin
        assert origin is not None
        weakest = min((level for _, level in verdict.proven), key=lambda level: level.rank, default=None)
        now = self._clock.carried_ms()
        looks = self._look_after_ms is not None and ending is not Ending.PARTLY and _can_be_asked(weakest)
        with self._holdings.facts.writing() as writing:
            self._queue.receipts.keep(
                writing.session,
                entry,
                proof,
                self._keystore.intake.seal(_names(study, verdict, codes)),
                due_ms=now + (self._look_after_ms or 0) if looks else None,
            )
            writing.issue(
                Tombstone(
                    outcome=ending.value,
                    destination=study.name,
                    evidence="" if weakest is None else weakest.value,
                    instances=len(study.outgoing),
                    proven=len(verdict.proven),
                    receipt=receipt_digest(proof),
                    size=_size(study),
                    origin=origin,
                ),
                entry,
            )


def _can_be_asked(weakest: Evidence | None) -> bool:
    """Say whether the destination can be asked what it has: it was, for every instance."""
    return weakest is not None and weakest >= Evidence.LISTED


def _size(study: Study) -> int:
    if study.view.announced is not None:
        return study.view.announced.size
    return study.view.ending.size if study.view.ending is not None else 0


def _names(study: Study, verdict: Verdict, codes: Mapping[str, str]) -> bytes:
    """Return the UIDs that belong to a receipt's digests, to be sealed."""
    proven = {one.uid for one, _ in verdict.proven}
    return cbor.encode(
        {
            "study": study.opened.index.study_uid,
            "instances": [
                [
                    one.sha256,
                    one.uid,
                    one.uid in proven,
                    codes.get(one.uid, ""),
                    list(_called(study, one.uid)),
                ]
                for one in study.outgoing
            ],
        }
    )


def _called(study: Study, uid: str) -> tuple[str, ...]:
    change = study.changes.get(uid)
    return () if change is None else change.uids
