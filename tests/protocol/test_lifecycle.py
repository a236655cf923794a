"""The life of an entry is one table; nothing about it depends on what came first."""

from itertools import product
from pathlib import Path

import pytest

from sync.lifecycle import ENDED, TRANSITIONS, EntryEvent, EntryState, advance, fold, table

DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_table_is_total() -> None:
    """No fact may ever find an entry in a state that has no answer."""
    assert set(TRANSITIONS) == set(EntryState)
    assert all(set(row) == set(EntryEvent) for row in TRANSITIONS.values())


def test_two_events_in_either_order_give_the_same_state() -> None:
    """Facts come over many roads."""
    for state, one, two in product(EntryState, EntryEvent, EntryEvent):
        assert advance(advance(state, one), two) == advance(advance(state, two), one)


def test_an_event_twice_is_an_event_once() -> None:
    """Facts come again and again."""
    for state, event in product(EntryState, EntryEvent):
        assert advance(advance(state, event), event) == advance(state, event)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_nothing_but_a_recall_leads_out_of_an_end(state: EntryState) -> None:
    """What has ended must not come back to life by an old announcement; a recall makes a new entry."""
    for event in EntryEvent:
        after = advance(state, event)
        assert after in ENDED or (event is EntryEvent.RECALL and after is EntryState.RECALLED)


def test_a_delivery_beats_a_withdrawal() -> None:
    """What the PACS has cannot be taken back; people must see that it is there."""
    assert fold([EntryEvent.STUDY, EntryEvent.WITHDRAWAL, EntryEvent.DELIVERY]) is EntryState.DELIVERED
    assert fold([]) is EntryState.UNKNOWN


def test_the_docs_show_this_table_and_say_what_each_state_means() -> None:
    """People decide by the docs; they must be what the code does."""
    text = DOCS.read_text()
    section = text.split("<!-- lifecycle -->")[1]

    assert table() in section
    for state in EntryState:
        assert f"| {state} | " in section.replace(table(), ""), f"no sentence about {state}"
