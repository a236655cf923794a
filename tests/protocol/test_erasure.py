"""Erased on n of m: nobody counts who may not have heard of the end, and nobody is left out of m."""

from support.facts import MeshMaker, entry_of, usual_mesh

from sync.bodies import Remains, StickSeen
from sync.erasure import MAX_STILL, Tombstones, Whereabouts, is_aboard_in_vain, remains_of, sticks_of
from sync.ids import EntryId, NodeId
from sync.ledger import Ledger

E, F = entry_of("e"), entry_of("f")
BLUE = bytes([7]) * 16


class Around:
    """A mesh, what everybody knows of it, and what single nodes know."""

    def __init__(self) -> None:
        self.mesh, members = usual_mesh()
        self.facts = [*members, self.mesh.study("clinic", E), self.mesh.study("clinic", F)]

    def say(self, *raws: bytes) -> None:
        self.facts += raws

    def remains(self, name: str, knows: list[bytes], *still: EntryId) -> Remains:
        """Return what a node says that knows these facts and still has these entries."""
        body = remains_of(Tombstones.of_ledger(ledger_of(self.mesh, knows)), set(still))
        self.say(self.mesh.say(name, body))
        return body

    def stick(
        self, turn: int, knows: list[bytes], *aboard: EntryId, by: str = "clinic", gone: bool = False
    ) -> None:
        """Say what is aboard the blue stick."""
        covers = Tombstones.of_ledger(ledger_of(self.mesh, knows)).covered()
        body = StickSeen(BLUE, "blue", turn, tuple(sorted(aboard)), 0, covers, gone)
        self.say(self.mesh.say(by, body))

    def erased(self, entry: EntryId = E) -> tuple[set[str], set[str]]:
        """Return where it is erased, by name, and where not."""
        ledger = ledger_of(self.mesh, self.facts)
        found = Whereabouts(ledger).erasure_of(ledger.entry(entry))
        assert (found.n, found.of) == (
            len(found.done) + len(found.sticks_done),
            found.n + len(found.missing) + len(found.sticks_missing),
        )
        return (
            names(self.mesh, found.done) | set(found.sticks_done),
            names(self.mesh, found.missing) | set(found.sticks_missing),
        )


def names(mesh: MeshMaker, nodes: frozenset[NodeId]) -> set[str]:
    return {name for name in mesh.keys if mesh.node(name) in nodes}


def ledger_of(mesh: MeshMaker, facts: list[bytes]) -> Ledger:
    ledger = Ledger(mesh.id, mesh.root_ids)
    for raw in facts:
        ledger.add(raw)
    return ledger


def test_it_is_erased_where_a_node_that_knows_the_end_says_so() -> None:
    """Silence, and a list that names it, are no proof."""
    around = Around()
    end = around.mesh.tombstone("cloud", E)
    around.say(end)
    around.remains("cloud", around.facts)
    around.remains("clinic", around.facts, E)

    done, missing = around.erased()

    assert "cloud" in done and {"clinic", "courier"} <= missing
    assert around.erased(F)[0] == set(), "nothing is erased that has not ended"


def test_to_know_the_newest_tombstone_is_not_to_know_them_all() -> None:
    """A line that was cut brought the second and not the first: the node cannot have erased for the first."""
    around = Around()
    first, second = around.mesh.tombstone("cloud", E), around.mesh.tombstone("cloud", F)
    before = list(around.facts)
    around.say(first, second)

    around.remains("courier", [*before, second], F)
    assert "courier" in around.erased(E)[1]

    around.remains("courier", [*before, first, second], F)
    assert "courier" in around.erased(E)[0]
    assert "courier" in around.erased(F)[1]


def test_what_a_node_says_is_not_believed_while_it_knows_of_more_than_we_do() -> None:
    """We cannot tell whether the end of this study is among what it knows; our own next meeting shows it."""
    around = Around()
    first, second = around.mesh.tombstone("cloud", E), around.mesh.tombstone("cloud", F)
    knows = [*around.facts, first, second]
    around.say(first)

    around.remains("courier", knows)
    assert "courier" in around.erased(E)[1]

    around.say(second)
    assert "courier" in around.erased(E)[0]


def test_a_word_from_before_the_end_says_nothing_of_it() -> None:
    """Also when another forwarder's tombstones were all known."""
    around = Around()
    around.remains("courier", around.facts)
    around.say(around.mesh.tombstone("cloud", F))
    around.remains("courier", around.facts, F)
    around.say(around.mesh.tombstone("cloud", E))

    assert "courier" in around.erased(E)[1]


def test_what_is_not_listed_for_lack_of_room_may_be_there() -> None:
    """A node with more ended entries than a fact holds is not believed about those behind the list."""
    entries = sorted(entry_of(str(n)) for n in range(MAX_STILL + 3))
    around = Around()
    ends = [around.mesh.tombstone("cloud", entry) for entry in (*entries, E)]
    around.say(*ends)
    body = around.remains("courier", around.facts, *entries)

    assert (len(body.still), body.unlisted) == (MAX_STILL, 3)
    assert "courier" in around.erased(entries[0])[1]
    assert "courier" in around.erased(entries[-1])[1]
    hidden = body.still[-1] < E
    assert "courier" in around.erased(E)[1 if hidden else 0]


def test_a_stick_counts_by_what_the_last_node_that_had_it_says() -> None:
    """By the stick's own count: clocks of two nodes are not compared."""
    around = Around()
    around.stick(1, around.facts, E, F)
    around.say(around.mesh.tombstone("cloud", E))
    assert "blue" in around.erased(E)[1]

    around.stick(3, around.facts, F, by="cloud")
    around.stick(2, around.facts, E, F, by="courier")  # said later, seen before

    assert "blue" in around.erased(E)[0]
    ledger = ledger_of(around.mesh, around.facts)
    assert sticks_of(ledger)[BLUE].turn == 3
    assert is_aboard_in_vain(ledger, E) and not is_aboard_in_vain(ledger, F)


def test_a_stick_that_was_last_seen_before_the_end_is_missing_and_one_given_up_is_not_waited_for() -> None:
    """It may have carried the study since; who says that it is lost says that nobody should wait."""
    around = Around()
    around.stick(1, around.facts)
    around.say(around.mesh.tombstone("cloud", E))
    assert "blue" in around.erased(E)[1]

    around.stick(2, [], gone=True)

    assert "blue" not in around.erased(E)[0] | around.erased(E)[1]


def test_a_revoked_node_says_nothing_about_sticks() -> None:
    """A thief must not make a stick look empty."""
    around = Around()
    around.stick(1, around.facts, E)
    around.say(around.mesh.tombstone("cloud", E))
    around.stick(9, around.facts, by="courier")
    assert "blue" in around.erased(E)[0]

    around.say(around.mesh.revoke("root", "courier"))

    assert "blue" in around.erased(E)[1]
