"""Report: what this node says of itself, hourly or when it changes (the `report` fact).

From the reports others know where an ended entry is gone for certain, and how much room there is.
"""

from node.clock import Clock
from node.store.holdings import Holdings
from node.store.notes import Notes
from sync.bodies import Report, Tombstone
from sync.facts import FactClass
from sync.ledger import Ledger
from sync.lifecycle import ENDED

_HOUR_MS = 3_600_000
_LAST = "last_report_ms"
_MAX_STILL = 500
_MB = 1_000_000


def report(holdings: Holdings, notes: Notes, clock: Clock, *, version: str, plans: str = "") -> bool:
    """Issue a new report if something changed or the last is an hour old; say whether it did."""
    tombstones = holdings.facts.ask(_newest_tombstones)
    still = [h.entry for h in holdings.queue.all() if holdings.view(h.entry).state in ENDED]
    said = holdings.facts.ask(lambda ledger: ledger.reports().get(holdings.facts.node_id))
    body = Report(
        free=holdings.blobs.free_bytes() // _MB * _MB,
        tombstones=dict(sorted(tombstones.items(), key=lambda pair: -pair[1])[:64]),
        still=tuple(sorted(still)[:_MAX_STILL]),
        version=version,
        plans=plans,
    )
    old = said.body if said is not None and isinstance(said.body, Report) else None
    same = old is not None and (dict(old.tombstones), old.still, old.version, old.plans) == (
        body.tombstones,
        body.still,
        body.version,
        body.plans,
    )
    now = clock.carried_ms()
    if same and now - notes.number(_LAST) < _HOUR_MS:
        return False
    holdings.facts.issue(body)
    notes.set_numbers(**{_LAST: now})
    return True


def _newest_tombstones(ledger: Ledger) -> dict[bytes, int]:
    """Return, by forwarder, the timestamp of its newest tombstone that is here."""
    newest: dict[bytes, int] = {}
    for fact in ledger.facts(FactClass.PERMANENT).values():
        if isinstance(fact.body, Tombstone):
            author = fact.header.author
            newest[author] = max(newest.get(author, 0), fact.header.timestamp)
    return newest
