"""Kinds of destination before kinds of PACS, for the contract suite."""

from collections.abc import Callable
from dataclasses import dataclass

from node.deliver.destination import Destination
from sync.evidence import Evidence


@dataclass(frozen=True)
class Kind:
    """A kind of destination before a PACS, and what that PACS can do.

    Attributes:
        make: gives a destination anew.
        strongest: the strongest level that it shows.
        levels: what it can show, all of them.
        checks_study: it refuses an image of another study than the one that was named.
    """

    make: Callable[[], Destination]
    strongest: Evidence = Evidence.READ_BACK
    levels: tuple[Evidence, ...] = (Evidence.LISTED, Evidence.METADATA, Evidence.READ_BACK)
    checks_study: bool = True
