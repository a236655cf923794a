"""The journey of an entry in words that a nurse can read: where it is, who has it, what is proven.

Made from facts alone, so any node tells it; nothing of the patient is in it. Called by the API.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from sync.bodies import Claim, Role, Tombstone, Trouble
from sync.entries import EntryView
from sync.erasure import Erasure
from sync.ids import EntryId, NodeId, short
from sync.lifecycle import EntryState
from sync.membership import MemberInfo

AUTHOR_REVOKED = "author-revoked"
_SIGNS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: nothing that looks like something else
_AT_PACS = frozenset({EntryState.DELIVERED, EntryState.PARTLY_DELIVERED, EntryState.RECALLED})


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `at`: milliseconds since 1970 by the clock of whoever said so; `by`: that node's label."""

    step: str
    done: bool
    at: int | None = None
    by: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """An entry as people see it (docs/architecture.md §3, "Study")."""

    entry_id: str
    code: str
    state: str
    priority: str
    destination: str
    bytes: int
    announced_at: int | None
    origin: str | None
    copies: int
    holders: list[str]
    silent: list[str]  # those that said that they hold it, and were not heard of in 14 days
    journey: list[Step]
    evidence: dict[str, str | int] | None
    trouble: dict[str, str | int] | None
    erased: dict[str, int | list[str]]
    delivery: dict[str, str | int | None] | None = None  # of the node that is to deliver it, as it knows
    goes_on_as: str | None = None  # the entry as which it goes on, if it was sealed anew


def code_of(entry: EntryId) -> str:
    """Return an entry's short code, for people to read out: "K7F-2QX"."""
    number = int.from_bytes(entry[:4]) >> 2
    signs = "".join(_SIGNS[number >> 5 * place & 31] for place in reversed(range(6)))
    return f"{signs[:3]}-{signs[3:]}"


def tell(
    view: EntryView,
    members: Mapping[NodeId, MemberInfo],
    erasure: Erasure,
    *,
    counting: Set[NodeId],
) -> Story:
    """Return the story of an entry; `counting`: the nodes that hold it and were heard of lately."""

    def label(node: NodeId | None) -> str | None:
        if node is None:
            return None
        info = members.get(node)
        return info.label if info is not None and info.label else short(node)

    def labels(nodes: Iterable[NodeId]) -> list[str]:
        return sorted(filter(None, map(label, nodes)))

    said, ending = view.announced, view.ending
    delivers = {node for node in view.holders if Role.FORWARD in _roles(members, node)}
    carriers = labels(view.holders - delivers)
    at_pacs = view.state in _AT_PACS
    announced_at = view.study.header.timestamp if view.study else None
    steps = [
        Step("clinic", done=said is not None or ending is not None, at=announced_at, by=label(view.origin)),
        Step("carried", done=bool(carriers) or bool(delivers) or at_pacs, by=", ".join(carriers) or None),
        Step("cloud", done=bool(delivers) or at_pacs, by=", ".join(labels(delivers)) or None),
        _pacs_step(view, at_pacs, label(view.tombstone.header.author) if view.tombstone else None),
        Step(
            "erased",
            done=view.tombstone is not None and erasure.complete,
            detail=f"{erasure.n} of {erasure.of}",
        ),
    ]
    return Story(
        entry_id=view.entry.hex(),
        code=code_of(view.entry),
        state=(view.state if view.successor is None else EntryState.CARRIED).value,
        priority="urgent" if view.urgent else "routine",
        destination=(ending.destination if ending else said.destination if said else ""),
        bytes=ending.size if ending else said.size if said else 0,
        announced_at=announced_at,
        origin=label(view.origin),
        copies=len(counting),
        holders=labels(view.holders),
        silent=labels(said_to_hold(view) - counting),
        journey=steps,
        evidence=_evidence(ending),
        trouble=_trouble(view),
        erased={
            "n": erasure.n,
            "of": erasure.of,
            "missing": [
                *labels(erasure.missing),
                *(f"stick {name}" for name in sorted(erasure.sticks_missing)),
            ],
        },
    )


def said_to_hold(view: EntryView) -> frozenset[NodeId]:
    """Return the nodes that say that they hold an entry whole, its origin among them."""
    origin = {view.origin} if view.study is not None and view.origin_holds and view.origin else frozenset()
    return view.holders | origin


def _roles(members: Mapping[NodeId, MemberInfo], node: NodeId) -> frozenset[str]:
    info = members.get(node)
    return frozenset() if info is None else info.roles


def _pacs_step(view: EntryView, done: bool, by: str | None) -> Step:
    claims = [fact.body for fact in view.claims.values() if isinstance(fact.body, Claim)]
    progress = next((f"{claim.proven} of {claim.total}" for claim in claims), None)
    at = view.tombstone.header.timestamp if view.tombstone and done else None
    return Step("pacs", done=done, at=at, by=by if done else None, detail=progress)


def _evidence(ending: Tombstone | None) -> dict[str, str | int] | None:
    if ending is None:
        return None
    return {
        "outcome": ending.outcome,
        "level": ending.evidence,
        "proven": ending.proven,
        "instances": ending.instances,
    }


def _trouble(view: EntryView) -> dict[str, str | int] | None:
    for fact in view.troubles:
        if isinstance(fact.body, Trouble):
            return {"code": fact.body.code, "instances": fact.body.instances, "since": fact.body.since}
    if view.waits_for_person and view.study is not None:
        return {"code": AUTHOR_REVOKED, "instances": 0, "since": view.study.header.timestamp}
    return None
