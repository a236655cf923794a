"""Which destinations there are, and which of them a study goes to.

Called by the ledger, the node's forward job and its administration. Pure: what the facts mean does not
depend on the order in which they came.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sync.bodies import DestinationBody
from sync.facts import Fact
from sync.ids import FactId

# Two values of `type` that are no PACS: one takes a name away, one seals the credentials of a destination
# (its fact is named by the quirk "of") to forwarders that came later.
REMOVED, SEALS = "removed", "seals"


@dataclass(frozen=True, slots=True)
class Standing:
    """A destination that there is: its fact, and what it says, with the credentials of all that seal it."""

    fact: FactId
    body: DestinationBody


def standing(facts: Iterable[Fact]) -> dict[str, Standing]:
    """Return the destinations by name.

    The newest of a name counts, whoever said it; one that another one supersedes does not. Seals are added
    to the very fact that they name, so that they never bring back what an administrator has changed.

    Args:
        facts: the destination facts that have effect.
    """
    said = [(f, f.body) for f in sorted(facts, key=lambda f: f.order) if isinstance(f.body, DestinationBody)]
    superseded = {old for _, body in said for old in body.supersedes}
    newest: dict[str, Standing] = {}
    seals: dict[object, dict[bytes, bytes]] = defaultdict(dict)
    for fact, body in said:
        if body.type == SEALS:
            of = body.quirks.get("of")
            seals[of if isinstance(of, bytes) else None].update(body.secrets)
        elif fact.id not in superseded:
            newest[body.name] = Standing(fact.id, body)
    return {
        name: Standing(one.fact, replace(one.body, secrets={**seals[one.fact], **one.body.secrets}))
        for name, one in newest.items()
        if one.body.type != REMOVED
    }


def choose(
    known: Mapping[str, DestinationBody],
    *,
    named: str = "",
    modalities: Iterable[str] = (),
    origin: bytes = b"",
) -> str:
    """Return the name of the destination that a study goes to; "" if a person must say.

    Whoever confirmed it may name one, known or not. Else the one whose rules fit best: rules of a
    destination are the quirks "modalities" and "origins"; one that states both is more particular than one
    that states one, and one without rules takes what no other wants. Two that fit alike leave it open.

    Args:
        known: the destinations by name.
        named: the one that was chosen at the confirmation or by a later decision.
        modalities: of the study's series.
        origin: the node that took it in.
    """
    if named:
        return named
    kinds = frozenset(modalities)
    fitting: dict[int, list[str]] = defaultdict(list)
    for name, body in known.items():
        wanted, origins = _rule(body, "modalities"), _rule(body, "origins")
        if (wanted is None or kinds & wanted) and (origins is None or origin in origins):
            fitting[(wanted is not None) + (origins is not None)].append(name)
    best = fitting[max(fitting)] if fitting else []
    return best[0] if len(best) == 1 else ""


def has_rules(body: DestinationBody) -> bool:
    """Say whether a destination takes only some studies by itself."""
    return _rule(body, "modalities") is not None or _rule(body, "origins") is not None


def _rule(body: DestinationBody, quirk: str) -> frozenset[object] | None:
    value = body.quirks.get(quirk)
    if not isinstance(value, list | tuple) or not value:
        return None
    return frozenset(one for one in value if isinstance(one, str | bytes))
