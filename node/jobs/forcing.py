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
_KNOWN = {"explicit-vr": "needs-explicit-vr"}  # how → the name under which it is remembered


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
    ) -> tuple[dict[str, Result], dict[str, Outgoing]]:
        """Send a chunk as the destination takes it.

        Returns:
            a result for each original, and what was sent for it, both by the original's SOP Instance UID.
        """
        learnt = self._lines.learnt(study.name, study.body)
        sent = {one.uid: self._as_learnt(study, one, learnt) for one in chunk}
        hopeless = {uid for uid, one in sent.items() if 0 < learnt.get(_REFUSES_FROM, 0) <= one.size}
        going = [one for uid, one in sent.items() if uid not in hopeless]
        results = {one.uid: result for one, result in zip(going, send(going) if going else [], strict=True)}
        for uid in hopeless:
            results[uid] = Result(uid, Outcome.REJECTED, _TOO_LARGE, explain(_TOO_LARGE))
        again = {
            one.uid: made for one in chunk if (made := self._other_way(study, one, sent, results)) is not None
        }
        if again:
            sent |= again
            answers = send(list(again.values()))
            results |= dict(zip(again, answers, strict=True))
            log.info("sent changed instances=%d", len(again))
        return {uid: replace(result, uid=uid) for uid, result in results.items()}, sent

    def proofs_of_originals(
        self,
        study: Study,
        chunk: Sequence[Outgoing],
        sent: Mapping[str, Outgoing],
        shown: Mapping[str, InstanceProof],
    ) -> dict[str, InstanceProof]:
        """Return what was shown of the originals, where other bytes were sent for them."""
        proofs = {}
        for one in chunk:
            proof = shown.get(sent[one.uid].uid)
            if proof is not None and proof.sha256 == sent[one.uid].sha256:
                proofs[one.uid] = replace(proof, sha256=one.sha256)
        return proofs

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

    def _as_learnt(self, study: Study, one: Outgoing, learnt: Mapping[str, int]) -> Outgoing:
        """Return an instance as it was learnt that this destination, or an earlier run, wants it."""
        known = study.changes.get(one.uid)
        hows = [how for how, name in _KNOWN.items() if learnt.get(name)]
        if known is None and not hows:
            return one
        from node.deliver.forced import changed  # brings pydicom along, which most nodes never need

        for how in [known.how] if known is not None else hows:
            made = changed(one, how)
            if made is not None:
                study.changes[one.uid] = Change(how, made.sha256)
                return made
        return one

    def _other_way(
        self,
        study: Study,
        one: Outgoing,
        sent: Mapping[str, Outgoing],
        results: Mapping[str, Result],
    ) -> Outgoing | None:
        """Return what to send instead of an original that was refused; None if there is nothing."""
        result = results[one.uid]
        if result.outcome is not Outcome.REJECTED or sent[one.uid] is not one:
            return None
        from node.deliver.forced import changed, way_out

        how = way_out(one, result.code)
        made = changed(one, how) if how else None
        if made is not None:
            study.changes[one.uid] = Change(how, made.sha256)
        return made
