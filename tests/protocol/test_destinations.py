"""Destinations: which there are, whatever the order of their facts, and which of them a study goes to."""

import itertools
from typing import Any

import pytest
from support.facts import id_of, usual_mesh

from sync.bodies import DestinationBody
from sync.destinations import REMOVED, SEALS, choose, has_rules

A, B = b"a" * 8, b"b" * 8


def pacs(name: str = "main", url: str = "https://pacs.example", **more: Any) -> DestinationBody:
    given = {"type": "dicomweb", "evidence": "read-back", "quirks": {}, "secrets": {}, **more}
    return DestinationBody(name=name, url=url, **given)


def every_order(bodies: list[DestinationBody], author: str = "admin") -> list[dict[str, DestinationBody]]:
    """Return what the ledger says of these facts, for each order in which they may come."""
    mesh, members = usual_mesh()
    raws = [mesh.say(author, body) for body in bodies]
    return [mesh.ledger([*members, *order]).destinations() for order in itertools.permutations(raws)]


def same(told: list[dict[str, DestinationBody]]) -> dict[str, DestinationBody]:
    assert all(one == told[0] for one in told)
    return told[0]


def test_the_newest_of_a_name_counts() -> None:
    """An administrator corrects an address."""
    told = same(every_order([pacs(), pacs(url="https://new.example"), pacs("other")]))

    assert {name: body.url for name, body in told.items()} == {
        "main": "https://new.example",
        "other": "https://pacs.example",
    }


def test_what_was_removed_is_gone_until_it_is_told_anew() -> None:
    gone = pacs(type=REMOVED, url="")

    assert same(every_order([pacs(), gone])) == {}
    assert same(every_order([pacs(), gone, pacs()])).keys() == {"main"}


def test_seals_are_added_to_the_fact_that_they_name_and_bring_no_old_one_back() -> None:
    """Credentials are sealed to a newcomer while an administrator changes the address elsewhere."""
    mesh, members = usual_mesh()
    old = mesh.say("admin", pacs(secrets={A: b"old"}))
    new = mesh.say("admin", pacs(url="https://new.example", secrets={A: b"new"}))
    late = mesh.say("admin", pacs(type=SEALS, url="", quirks={"of": id_of(old)}, secrets={B: b"late"}))
    good = mesh.say(
        "admin", pacs(type=SEALS, url="", quirks={"of": id_of(new)}, secrets={B: b"good", A: b"no"})
    )

    for order in itertools.permutations([old, new, late, good]):
        told = mesh.ledger([*members, *order]).destinations()["main"]
        assert (told.url, told.secrets) == ("https://new.example", {A: b"new", B: b"good"})
    assert mesh.ledger([*members, old, late]).destinations()["main"].secrets == {A: b"old", B: b"late"}
    assert mesh.ledger([*members, late]).destinations() == {}


def test_seals_by_who_may_not_admit_do_not_count() -> None:
    mesh, members = usual_mesh()
    old = mesh.say("admin", pacs(secrets={A: b"old"}))
    forged = mesh.say("cloud", pacs(type=SEALS, url="", quirks={"of": id_of(old)}, secrets={B: b"x"}))

    assert mesh.ledger([*members, old, forged]).destinations()["main"].secrets == {A: b"old"}


KNOWN = {
    "all": pacs("all"),
    "ct": pacs("ct", quirks={"modalities": ["CT", "MR"]}),
    "north": pacs("north", quirks={"origins": [b"north"]}),
    "north-ct": pacs("north-ct", quirks={"modalities": ["CT"], "origins": [b"north"]}),
}


@pytest.mark.parametrize(
    ("modalities", "origin", "where"),
    [
        (["US"], b"south", "all"),
        (["CT"], b"south", "ct"),
        (["US", "MR"], b"south", "ct"),
        (["CT"], b"north", "north-ct"),
        (["US"], b"north", "north"),
        (["MR"], b"north", ""),  # "ct" and "north" fit alike: a person must say
        ([], b"south", "all"),
    ],
)
def test_the_most_particular_rule_decides(modalities: list[str], origin: bytes, where: str) -> None:
    assert choose(KNOWN, modalities=modalities, origin=origin) == where


def test_a_person_beats_every_rule() -> None:
    """Also with a name that nobody has told us of: guessing would send images to a stranger."""
    assert choose(KNOWN, named="all", modalities=["CT"], origin=b"north") == "all"
    assert choose(KNOWN, named="elsewhere") == "elsewhere"


def test_the_only_one_takes_all_unless_its_rules_say_no() -> None:
    assert choose({"all": KNOWN["all"]}, modalities=["CT"]) == "all"
    assert choose({"ct": KNOWN["ct"]}, modalities=["US"]) == ""
    assert choose({}, modalities=["US"]) == ""
    assert [has_rules(body) for body in KNOWN.values()] == [False, True, True, True]


@pytest.mark.parametrize("nonsense", [{}, "CT", 5, None, [], [5]])
def test_a_rule_that_cannot_be_understood_is_none(nonsense: Any) -> None:
    """A newer version may say more; [5] fits nothing and is not taken for no rule."""
    known = {"one": pacs("one", quirks={"modalities": nonsense})}

    assert choose(known, modalities=["CT"]) == ("" if nonsense == [5] else "one")
