"""Second look: a day after a delivery, ask the PACS whether it still has the images, and recall what it lost.

The clinic holds its copy for longer than that. An archive's index may hiccup, so what is missing is looked
for once more before a recall; images that are there again end the matter. Called by `node.service`.
"""

import logging

from node.clock import Clock
from node.deciding import recall
from node.jobs.lines import TROUBLES, Lines
from node.keys import Keystore
from node.store.holdings import Holdings
from node.store.receipts import Look
from sync import cbor
from sync.bodies import Tombstone
from sync.errors import BadCbor, CannotOpen
from sync.evidence import Evidence
from sync.ids import EntryId, short

log = logging.getLogger(__name__)
THERE, RECALLED = "there", "recalled"
_AGAIN = 24  # parts of the interval after which a failed look is repeated: an hour


class SecondLook:
    """Looks at what this node delivered. `after_ms`: the interval between delivery and look."""

    def __init__(
        self, holdings: Holdings, keystore: Keystore, clock: Clock, lines: Lines, after_ms: int
    ) -> None:
        self._holdings = holdings
        self._receipts = holdings.queue.receipts
        self._keystore = keystore
        self._clock = clock
        self._lines = lines
        self._again_ms = after_ms // _AGAIN

    def look_all(self) -> None:
        """Look at everything that is due; what cannot be asked now is asked later."""
        if self._keystore.locked:
            return
        for look in self._receipts.due(self._clock.carried_ms()):
            try:
                self._look(look)
            except TROUBLES as error:
                self._later(look, missed=look.missed)
                log.info("second look later entry=%s code=%s", short(look.entry), error.code)

    def _look(self, look: Look) -> None:
        view = self._holdings.view(look.entry)
        ending = view.ending
        mine = view.tombstone is not None and view.tombstone.header.author == self._holdings.facts.node_id
        uids = self._uids(look.entry)
        if ending is None or not mine or view.recall is not None or uids is None:
            self._receipts.finish(look.entry, RECALLED if view.recall is not None else "")
            return
        present = self._present(ending, uids[0])
        if present is None:
            self._later(look, missed=look.missed)
            return
        missing = len(uids[1] - present)
        if not missing:
            self._receipts.finish(look.entry, THERE)
            log.info("seen again at the destination entry=%s instances=%d", short(look.entry), len(uids[1]))
        elif not look.missed:
            self._later(look, missed=missing)
            log.warning("missing at the second look entry=%s missing=%d", short(look.entry), missing)
        else:
            recall(
                self._holdings, look.entry, f"{missing} of {len(uids[1])} images are no longer at the PACS"
            )
            self._receipts.finish(look.entry, RECALLED, missed=missing)

    def _present(self, ending: Tombstone, study_uid: str) -> frozenset[str] | None:
        """Return what the destination lists of a study; None if it cannot be asked."""
        facts = self._holdings.facts
        body = facts.ask(lambda ledger: ledger.destinations().get(ending.destination))
        if body is None or ending.destination in self._lines.resting():
            return None
        line = self._lines.open(ending.destination, body, self._keystore.seal_secret)
        return line.present(study_uid) if line.strongest >= Evidence.LISTED else None

    def _uids(self, entry: EntryId) -> tuple[str, frozenset[str]] | None:
        """Return the study's UID and those of the instances that were proven."""
        box = self._receipts.names(entry)
        try:
            said = {} if box is None else cbor.decode(self._keystore.intake.open(box))
            proven = {
                str(name)
                for _, uid, was_proven, _, sent_as in said["instances"]
                if was_proven
                for name in sent_as or [uid]
            }
            return str(said["study"]), frozenset(proven)
        except (CannotOpen, BadCbor, KeyError, TypeError, ValueError):
            return None

    def _later(self, look: Look, *, missed: int) -> None:
        self._receipts.postpone(look.entry, self._clock.carried_ms() + self._again_ms, missed=missed)
