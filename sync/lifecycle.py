"""The life of an entry, as one total table.

An entry has no memory of its own: its state is a fold over the facts about it that have effect
now (`sync.ledger` leaves out what is superseded, taken back, or said by somebody who may not). So
the table must not care for order or repetition: for every state and every two events, either order
gives the same state, and an event twice is an event once. A test checks that for the whole table.
The states stand in rising order, and each event lifts a state to at least its own: that is why it holds.

After a power cut the same facts give the same state; nothing here says "uploading". The same table
stands in docs/architecture.md, compared by a test.
"""

from collections.abc import Iterable
from enum import StrEnum


class EntryState(StrEnum):
    """Where an entry stands, in rising order."""

    UNKNOWN = "unknown"  # no study fact with effect is here
    WAITING = "waiting"  # only its origin is known to hold it
    CARRIED = "carried"  # another node holds every blob, verified
    AT_FORWARDER = "at-forwarder"  # a node that may deliver holds every blob
    FORWARDING = "forwarding"  # a forwarder says that it is delivering
    TROUBLED = "troubled"  # a person must look
    WITHDRAWN = "withdrawn"  # a person took it back before delivery
    PARTLY_DELIVERED = "partly-delivered"  # taken back when some instances were there already
    DELIVERED = "delivered"  # proven at the destination
    RECALLED = "recalled"  # the destination lost it; a new entry takes over


class EntryEvent(StrEnum):
    """What a fact with effect says about its entry."""

    STUDY = "study"
    CUSTODY = "custody"  # by a node that is neither the origin nor a forwarder
    FORWARDER_CUSTODY = "forwarder custody"  # by a forwarder other than the origin
    CLAIM = "claim"
    TROUBLE = "trouble"
    WITHDRAWAL = "withdrawal"
    PARTLY = "partly"
    DELIVERY = "delivery"
    RECALL = "recall"


_S = EntryState
_LIFTS_TO: dict[EntryEvent, EntryState] = {
    EntryEvent.STUDY: _S.WAITING,
    EntryEvent.CUSTODY: _S.CARRIED,
    EntryEvent.FORWARDER_CUSTODY: _S.AT_FORWARDER,
    EntryEvent.CLAIM: _S.FORWARDING,
    EntryEvent.TROUBLE: _S.TROUBLED,
    EntryEvent.WITHDRAWAL: _S.WITHDRAWN,
    EntryEvent.PARTLY: _S.PARTLY_DELIVERED,
    EntryEvent.DELIVERY: _S.DELIVERED,
    EntryEvent.RECALL: _S.RECALLED,
}
_ORDER = list(EntryState)

TRANSITIONS: dict[EntryState, dict[EntryEvent, EntryState]] = {
    state: {event: max(state, lifted, key=_ORDER.index) for event, lifted in _LIFTS_TO.items()}
    for state in EntryState
}

# An entry in one of these has ended: its blobs may go once no reason to keep them is left.
ENDED = frozenset({_S.WITHDRAWN, _S.PARTLY_DELIVERED, _S.DELIVERED})


def advance(state: EntryState, event: EntryEvent) -> EntryState:
    """Return the state that follows `event` in `state`."""
    return TRANSITIONS[state][event]


def fold(events: Iterable[EntryEvent]) -> EntryState:
    """Return the state of an entry from what its facts say, in any order."""
    state = EntryState.UNKNOWN
    for event in events:
        state = advance(state, event)
    return state


def table() -> str:
    """Return the table as the Markdown that docs/architecture.md shows."""
    head = "| state \\ event | " + " | ".join(EntryEvent) + " |"
    rule = "|---" * (len(EntryEvent) + 1) + "|"
    rows = []
    for state, row in TRANSITIONS.items():
        cells = ["·" if to is state else str(to) for to in row.values()]
        rows.append(f"| {state} | " + " | ".join(cells) + " |")
    return "\n".join([head, rule, *rows])
