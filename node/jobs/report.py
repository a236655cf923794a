"""Report: what this node says of itself: how it is, hourly, and what of ended entries is left, on change.

From these facts others know where an ended entry is gone for certain, and how much room there is.
"""

from node.clock import Clock
from node.store.holdings import Holdings
from node.store.notes import Notes
from sync.bodies import Report
from sync.erasure import Tombstones, remains_of
from sync.lifecycle import ENDED

_HOUR_MS = 3_600_000
_LAST = "last_report_ms"
_MB = 1_000_000


def report(holdings: Holdings, notes: Notes, clock: Clock, *, version: str, plans: str = "") -> bool:
    """Issue a new report if something changed or the last is an hour old; say whether it did."""
    told = _tell_what_remains(holdings)
    said = holdings.facts.ask(lambda ledger: ledger.reports().get(holdings.facts.node_id))
    free = holdings.blobs.free_bytes() // _MB * _MB
    body = Report(free=free, tombstones={}, still=(), version=version, plans=plans)
    old = said.body if said is not None and isinstance(said.body, Report) else None
    same = old is not None and (old.version, old.plans) == (version, plans)
    now = clock.carried_ms()
    if same and now - notes.number(_LAST) < _HOUR_MS:
        return told
    holdings.facts.issue(body)
    notes.set_numbers(**{_LAST: now})
    return True


def _tell_what_remains(holdings: Holdings) -> bool:
    """Say which ended entries are still here, if that is news; say whether it is."""
    tombstones = holdings.facts.ask(Tombstones.of_ledger)
    still = {held.entry for held in holdings.queue.all() if holdings.view(held.entry).state in ENDED}
    body = remains_of(tombstones, still)
    said = holdings.facts.ask(lambda ledger: ledger.remains().get(holdings.facts.node_id))
    if said is not None and said.body == body:
        return False
    holdings.facts.issue(body)
    return True
