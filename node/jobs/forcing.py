"""Forcing: giving a destination what it takes, when it does not take the original, and remembering that.

What is sent changed is proven like everything else, and stands in the receipt with both digests. Called by
`node.jobs.forward`; how a change is made says `node.deliver.forced`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from node.deliver.destination import Outgoing, Result
from node.deliver.reasons import explain
from node.jobs.lines import Lines
from node.jobs.pieces import Study
from sync.evidence import Change, InstanceProof, Outcome

log = logging.getLogger(__name__)
_TOO_LARGE, _REFUSES_FROM = "http-413", "refuses-from"  # the second is a size in octets
_PAGES = "pdf-pages"
_KNOWN = {
    "explicit-vr": "needs-explicit-vr",
    _PAGES: "needs-pages",
}  # how → the name under which it is remembered


_THERE = frozenset({Outcome.STORED, Outcome.STORED_WITH_WARNING, Outcome.ALREADY_THERE_SAME})


class Forcing:
    """Sends what a destination takes. What it learns is kept by `lines`."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def forget(self, study: Study) -> None:
        """Forget what a person may have mended at the destination: the largest image that it takes."""
        self._lines.keep_learnt(study.name, study.body, **{_REFUSES_FROM: 0})

    def store(
        self,
        study: Study,
        chunk: Sequence[Outgoing],
        send: Callable[[Sequence[Outgoing]], list[Result]],
    ) -> tuple[dict[str, Result], dict[str, tuple[Outgoing, ...]]]:
        """Send a chunk as the destination takes it.

        Returns:
            a result for each original, and what was sent for it, both by the original's SOP Instance UID.
        """
        learnt = self._lines.learnt(study.name, study.body)
        limit = learnt.get(_REFUSES_FROM, 0)
        sent = {one.uid: self._as_learnt(study, one, learnt) for one in chunk}
        hopeless = {uid for uid, parts in sent.items() if limit and any(p.size >= limit for p in parts)}
        results = self._send({uid: parts for uid, parts in sent.items() if uid not in hopeless}, send)
        for uid in hopeless:
            results[uid] = Result(uid, Outcome.REJECTED, _TOO_LARGE, explain(_TOO_LARGE))
        again = {one.uid: made for one in chunk if (made := self._other_way(study, one, sent, results))}
        if again:
            sent |= again
            results |= self._send(again, send)
            log.info("sent changed instances=%d", len(again))
        return results, sent

    def _send(
        self,
        sent: Mapping[str, tuple[Outgoing, ...]],
        send: Callable[[Sequence[Outgoing]], list[Result]],
    ) -> dict[str, Result]:
        """Send what stands for each original; of several parts the worst result counts."""
        going = [part for parts in sent.values() for part in parts]
        answers = dict(zip((part.uid for part in going), send(going) if going else [], strict=True))
        results = {}
        for uid, parts in sent.items():
            worst = next((answers[p.uid] for p in parts if answers[p.uid].outcome not in _THERE), None)
            results[uid] = replace(worst or answers[parts[0].uid], uid=uid)
        return results

    def proofs_of_originals(
        self,
        chunk: Sequence[Outgoing],
        sent: Mapping[str, tuple[Outgoing, ...]],
        shown: Mapping[str, InstanceProof],
    ) -> dict[str, InstanceProof]:
        """Return what was shown of the originals, where other bytes were sent for them."""
        proofs = {}
        for one in chunk:
            of_parts = [(part, shown.get(part.uid)) for part in sent[one.uid]]
            levels = [p.level for part, p in of_parts if p is not None and p.sha256 == part.sha256]
            conflict = any(p is not None and p.conflict for _, p in of_parts)
            if conflict or len(levels) == len(of_parts):
                told = [level for level in levels if level is not None]
                level = min(told, key=lambda level: level.rank) if len(told) == len(of_parts) else None
                proofs[one.uid] = InstanceProof(one.sha256, level, conflict=conflict)
        return proofs

    def called(self, study: Study, one: Outgoing) -> frozenset[str]:
        """Return the SOP Instance UIDs under which a destination has an instance, and note them."""
        change = study.changes.get(one.uid)
        if change is None or change.how != _PAGES:
            return frozenset({one.uid})
        from node.deliver.forced import changed

        uids = tuple(part.uid for part in changed(one, change.how))
        study.changes[one.uid] = replace(change, uids=uids)
        return frozenset(uids)

    def learnt(
        self,
        study: Study,
        chunk: Sequence[Outgoing],
        results: Mapping[str, Result],
        proofs: Mapping[str, InstanceProof],
    ) -> dict[str, int]:
        """Return what a chunk has taught: changes that were proven to help, sizes that are never taken."""
        found: dict[str, int] = {}
        for one in chunk:
            change, proof = study.changes.get(one.uid), proofs.get(one.uid)
            if change is not None and proof is not None and not proof.conflict and proof.level is not None:
                found[_KNOWN[change.how]] = 1
        too_large = [one.size for one in chunk if one.uid in results and results[one.uid].code == _TOO_LARGE]
        before = self._lines.learnt(study.name, study.body).get(_REFUSES_FROM, 0)
        if too_large:
            found[_REFUSES_FROM] = min(too_large) if not before else min(before, *too_large)
        return found

    def _as_learnt(self, study: Study, one: Outgoing, learnt: Mapping[str, int]) -> tuple[Outgoing, ...]:
        """Return an instance as it was learnt that this destination, or an earlier run, wants it."""
        known = study.changes.get(one.uid)
        hows = [how for how, name in _KNOWN.items() if learnt.get(name)]
        for how in [known.how] if known is not None else hows:
            made = self._change(study, one, how)
            if made:
                return made
        return (one,)

    def _other_way(
        self,
        study: Study,
        one: Outgoing,
        sent: Mapping[str, tuple[Outgoing, ...]],
        results: Mapping[str, Result],
    ) -> tuple[Outgoing, ...]:
        """Return what to send instead of an original that was refused; nothing if there is no other way."""
        result = results[one.uid]
        if result.outcome is not Outcome.REJECTED or sent[one.uid] != (one,):
            return ()
        from node.deliver.forced import way_out  # brings pydicom along, which most nodes never need

        how = way_out(one, result.code)
        return self._change(study, one, how) if how else ()

    def _change(self, study: Study, one: Outgoing, how: str) -> tuple[Outgoing, ...]:
        from node.deliver.forced import changed, digest_of

        made = changed(one, how)
        if made:
            uids = tuple(part.uid for part in made if part.uid != one.uid)
            study.changes[one.uid] = Change(how, digest_of(made), uids)
        return made
