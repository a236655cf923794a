"""A made-up history of a mesh as a set of facts: chains, thieves, vouching, studies, endings. From a seed."""

from random import Random

from support.facts import MeshMaker, digest, entry_of, id_of

from sync.bodies import Claim, Decision, DestinationBody, Device, Grant, Member, Recall, Role, Trouble
from sync.facts import Fact
from sync.ids import FactId

ROLES = tuple(Role)
NAMES = ("a", "b", "c", "d", "e", "f")
ENTRIES = tuple(entry_of(name) for name in ("one", "two", "three"))


def story(seed: int, *, length: int = 50) -> tuple[MeshMaker, list[Fact]]:
    """Return a mesh and its facts; some are forged, by strangers, or about strangers."""
    random = Random(seed)
    mesh = MeshMaker(roots=("root", "spare"), name=f"story {seed}")
    who = ("root", "spare", *NAMES, "stranger")
    raws = [mesh.member("root", name, random.sample(ROLES, random.randint(2, 5))) for name in NAMES[:3]]
    raws += [mesh.study(random.choice(NAMES), entry, at=_at(random)) for entry in ENTRIES]
    while len(raws) < length:
        raws.append(_say(mesh, random, random.choice(who), raws))
    return mesh, [mesh.parse(raw) for raw in dict.fromkeys(raws)]


def _at(random: Random) -> int:
    """Return a timestamp of a clock that may be 20 years off."""
    return random.choice((0, 631_152_000_000, 1_400_000_000_000)) + random.randint(1, 10**9)


def _say(mesh: MeshMaker, random: Random, author: str, raws: list[bytes]) -> bytes:
    entry, at, other = random.choice(ENTRIES), _at(random), random.choice(NAMES)
    older = random.sample(raws, min(3, len(raws)))
    match random.choice(_ACTS):
        case "member":
            named = [raw for raw in raws if isinstance(mesh.parse(raw).body, Member)]
            supersedes = random.sample(named, 1) if random.random() < 0.3 else []
            roles = random.sample(ROLES, random.randint(0, 5))
            return mesh.member(author, other, roles, supersedes=supersedes, at=at)
        case "revoked":
            return mesh.revoke(random.choice(("root", author)), random.choice((*NAMES, "root")))
        case "vouched":
            about = random.choice((*NAMES, "root"))
            theirs = [raw for raw in raws if mesh.parse(raw).header.author == mesh.node(about)]
            return mesh.vouch(random.choice(("spare", "root", author)), about, *(theirs or older))
        case "device":
            number = digest("device", random.randint(0, 2))[:16]
            return mesh.say(author, Device(number, "{}", other, "lead", random.random() < 0.3), at=at)
        case "destination":
            names: tuple[FactId, ...] = tuple(id_of(raw) for raw in older)
            body = DestinationBody(random.choice("xy"), "dicomweb", "https://x", "listed", {}, {}, names)
            return mesh.say(author, body, at=at)
        case "custody":
            return mesh.custody(author, entry, holds=random.random() < 0.7, at=at)
        case "tombstone":
            return mesh.tombstone(author, entry, at=at)
        case "withdrawal":
            study = mesh.study(random.choice((author, other)), entry, at=at)
            origin = mesh.parse(study)
            name = next(n for n in (author, other) if mesh.node(n) == origin.header.author)
            return mesh.tombstone(author, entry, outcome="withdrawn", origin=name, study=study, at=at)
        case "study":
            return mesh.study(author, entry, at=at)
        case "again":
            study = mesh.study(other, random.choice(ENTRIES), at=at)
            return mesh.study(other, entry, author=author, again=study, at=at)
        case "recall":
            return mesh.say(author, Recall("lost", digest("recall", at)[:16]), entry, at=at)
        case "claim":
            return mesh.say(author, Claim(random.random() < 0.7, 0, 2), entry, at=at)
        case "trouble":
            return mesh.say(author, Trouble("x", 1, 1, random.random() < 0.7), entry, at=at)
        case "decision":
            word = random.choice(("retry", "urgent", "accept"))
            return mesh.say(author, Decision(word, "Dr. Owl", {}), entry, at=at)
        case "grant":
            return mesh.say(author, Grant({bytes(8): b"x"}), entry, at=at)
        case _:
            permanent = random.random() < 0.4
            slot = None if permanent else random.choice((None, b"s"))
            about = random.choice((None, entry))
            critical = permanent and random.random() < 0.4
            return mesh.say_unknown(
                author,
                "future",
                {"x": at},
                permanent=permanent,
                entry=about,
                slot=slot,
                critical=critical,
                at=at,
            )


_ACTS = (
    "member", "member", "member", "revoked", "vouched", "device", "destination", "custody", "custody",
    "tombstone", "withdrawal", "study", "again", "recall", "claim", "trouble", "decision", "grant", "unknown",
    "unknown",
)  # fmt: skip
