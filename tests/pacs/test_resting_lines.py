"""Connections that an archive closes while they rest: asked about, not lost over, and no loop."""

from collections.abc import Iterator

import pytest
from support.lying_pacs import LyingPacs, lying_pacs
from support.outgoing import outcomes, outgoing, verdict
from support.slices import made_slice

from node.deliver.dicomweb import DicomWebDestination
from node.errors import DestinationUnreachable
from sync.bodies import Ending
from sync.evidence import Outcome

SLICES = [outgoing(made_slice(4711, n)) for n in (1, 2, 3)]


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as served:
        yield served


@pytest.fixture
def sender(pacs: LyingPacs) -> Iterator[DicomWebDestination]:
    destination = DicomWebDestination(pacs.url, idle_s=5)
    yield destination
    destination.close()


@pytest.mark.parametrize("kept", [(), (0,), (0, 1, 2)])
def test_a_connection_that_is_closed_without_a_word_is_asked_about_before_more_is_sent(
    pacs, sender, kept: tuple[int, ...]
) -> None:
    """Orthanc closes what rests for a second: on a satellite line that is each one that is used again."""

    def closes(state: LyingPacs, parts: dict[str, bytes]) -> None:
        uids = list(parts)
        state.keep({uids[n]: parts[uids[n]] for n in kept})

    outcomes(sender, [outgoing(made_slice(4712, 1))])
    pacs.posts = [closes]

    sent = outcomes(sender, SLICES)

    assert sent == [Outcome.UNKNOWN if n in kept else Outcome.STORED for n in range(3)]
    rest = [one.uid for n, one in enumerate(SLICES) if n not in kept]
    assert pacs.bodies[2:] == ([rest] if rest else [])
    assert verdict(sender, SLICES).ending is Ending.DELIVERED


def test_a_pacs_that_closes_each_connection_is_no_loop(pacs, sender) -> None:
    """Once is the keep-alive; twice is a line that does not hold."""
    outcomes(sender, [outgoing(made_slice(4712, 1))])
    pacs.posts = [lambda state, parts: None] * 5

    with pytest.raises(DestinationUnreachable):
        sender.store(SLICES)
    assert len(pacs.bodies) == 3
