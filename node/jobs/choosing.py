"""Where each entry goes: as a person said, else by the destinations' rules (`sync.destinations`).

Called by `node.jobs.forward`.
"""

from node.store.holdings import Holdings
from sync.bodies import Decision, DestinationBody
from sync.destinations import choose, has_rules
from sync.entries import EntryView
from sync.ids import EntryId
from sync.manifest import StudyIndex


class Choices:
    """Remembers what was found out when an entry was opened: which modalities it has is sealed in it."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._known: dict[str, DestinationBody] = {}
        self._chosen: dict[EntryId, str] = {}  # by the rules of the destinations in `_known`

    def of(self, view: EntryView) -> str:
        """Return where an entry goes, as far as is known without opening it; "" if that is not far enough."""
        known = self._now()
        if name := _said(view) or self._chosen.get(view.entry, ""):
            return name
        return next(iter(known)) if len(known) == 1 and not any(map(has_rules, known.values())) else ""

    def opened(self, view: EntryView, index: StudyIndex) -> str:
        """Return where an entry goes; "" if a person must say.

        A study that was salvaged is announced without its destination; what was confirmed is sealed in it.
        """
        known, said = self._now(), index.confirmed
        named = _said(view) or str(said.get("destination") or "")
        kinds = [one for one in said.get("modalities") or () if isinstance(one, str)]
        name = choose(known, named=named, modalities=kinds, origin=view.origin or b"")
        self._chosen[view.entry] = name
        return name

    def _now(self) -> dict[str, DestinationBody]:
        known = self._holdings.facts.ask(lambda ledger: ledger.destinations())
        if known != self._known:
            self._known = known
            self._chosen.clear()
        return known


def _said(view: EntryView) -> str:
    chosen = view.announced.destination if view.announced else ""
    for fact in view.decisions:
        if isinstance(fact.body, Decision) and fact.body.decision == "destination":
            chosen = str(fact.body.detail.get("name", chosen))
    return chosen
