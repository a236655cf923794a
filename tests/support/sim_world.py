"""The simulation's world: time, chance, faults, and the invariants that are checked after every step.

One seed is one history, always the same. The numbers of invariants are those of docs/architecture.md §2.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from random import Random

from support.facts import MeshMaker, digest, meaning
from support.sim import HOLD_MS, HOUR, Node, Patient, Rules
from support.sim_disk import Disk, Fuses, Pacs, PowerCut, State
from support.sim_meeting import make_study, meet, seal_public, seal_secret

from sync.bodies import Role, Study, Tombstone
from sync.facts import FactClass
from sync.ids import BlobId, EntryId, FactId
from sync.plan import is_on_its_way

LOST_TO_A_THIEF = "lost to a stolen forwarder's key before its revocation came"  # no rule of ours can help
_FORWARDERS = ("cloud", "laptop")
_START_MS = 1_790_000_000_000
_WRONG_CLOCKS = (0, 0, 978_307_200_000 - _START_MS, 2_398_377_600_000 - _START_MS)  # right, 2001, 2046
_QUOTA = 6_000  # of a courier, in octets: some four studies


class Violation(AssertionError):
    """An invariant was broken."""


@dataclass
class Result:
    """What came of one run."""

    seed: int
    steps: int
    acknowledged: int
    delivered: int
    over: int
    faults: Counter[str] = field(repr=False)


class World:
    """One mesh and everything that happens to it."""

    def __init__(self, seed: int, rules: type[Rules] = Rules, *, scarce: bool = False) -> None:
        self.seed = seed
        self.chances = _CHANCES | (_SCARCE if scarce else {})
        quota = _QUOTA // 2 if scarce else _QUOTA
        self.quotas = {"courier1": quota, "courier2": quota, "laptop": quota}
        self.random = Random(seed)
        self.rules = rules()
        self.now = _START_MS
        self.fuses = Fuses()
        self.pacs = Pacs(self.fuses, self.random)
        self.mesh = MeshMaker(name="simulation")
        self.nodes: list[Node] = []
        self.patients: list[Patient] = []
        self.by_submission: dict[bytes, Patient] = {}
        self.patient_of: dict[EntryId, Patient] = {}
        self.offsets: dict[Node, int] = {}
        self.images: dict[Node, State] = {}
        self.tombstones: dict[Node, set[FactId]] = {}
        self.judged: set[FactId] = set()
        self.deceived: set[Patient] = set()
        self.revocation: bytes | None = None
        self.honest: list[bytes] = []  # what a stolen node said before, not vouched for yet
        self.log: deque[str] = deque(maxlen=25)
        self.steps = 0
        carry = [Role.CARRY]
        facts = [
            self.mesh.member("root", "clinic1", [Role.INGEST, *carry]),
            self.mesh.member("root", "clinic2", [Role.INGEST, *carry]),
            self.mesh.member("root", "courier1", carry),
            self.mesh.member("root", "laptop", [Role.FORWARD, *carry]),
            self.mesh.member("root", "cloud", [Role.FORWARD, Role.ADMIT, *carry]),
        ]
        for name in ("clinic1", "clinic2", "courier1", "laptop", "cloud"):
            self._join(name, facts)

    def _join(self, name: str, facts: list[bytes], state: State | None = None) -> Node:
        quota = self.quotas.get(name.rstrip("'"), 10**9)
        node = Node(name, self.mesh, Disk(self.fuses, state), self.random, self.rules, quota=quota)
        node.disk.on_unlink = partial(self._unlinked, node)
        self.nodes.append(node)
        self.offsets[node] = self.random.choice(_WRONG_CLOCKS)
        self.tombstones[node] = set()
        self._tick(0)
        if state is None:
            node.take(facts)
        else:
            node.start()
        return node

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.up and not node.stolen]

    # -- running --------------------------------------------------------------------------------

    def run(self, steps: int) -> Result:
        """Run so many steps, then heal everything and wait for the mesh to finish its work."""
        for _ in range(steps):
            self.step()
        self._heal()
        held = sum(self.pacs.held.get(p.name) == p.plaintext for p in self.patients if p.acknowledged)
        return Result(
            self.seed, self.steps, sum(p.acknowledged for p in self.patients), held,
            sum(p.over for p in self.patients if p.acknowledged), self.fuses.counts,
        )  # fmt: skip

    def step(self) -> None:
        """Let some time pass and one thing happen, which may break off anywhere; then check."""
        self.steps += 1
        self._tick(self.random.randint(1, 60) * 60_000)
        self._insist()
        action = self.random.choices(list(self.chances), list(self.chances.values()))[0]
        self.fuses.power = self.random.randint(0, 25) if self.random.random() < 0.12 else None
        self.fuses.line = self.random.randint(0, 12) if self.random.random() < 0.2 else None
        self._try(action)
        self.fuses.power = self.fuses.line = None
        self.check()

    def _try(self, action: str) -> None:
        self.log.append(action)
        try:
            getattr(self, "_" + action.replace(" ", "_"))()
        except PowerCut as cut:
            node = next(node for node in self.nodes if node.disk is cut.disk)
            self._note(f"power cut at {node.name}")
            node.crash()

    def _note(self, what: str) -> None:
        self.log[-1] += f"; {what}"

    def _tick(self, passed: int) -> None:
        self.now += passed
        for node in self.nodes:
            node.wall_ms = max(1, self.now + self.offsets[node])
            if node.up:
                node.disk.durable.carried_ms += passed

    def _pick(self, *names: str) -> Node | None:
        fit = [n for n in self.running if not names or n.name.rstrip("'") in names]
        chosen = self.random.choice(fit) if fit else None
        if chosen:
            self._note(chosen.name)
        return chosen

    # -- what people and nodes do ---------------------------------------------------------------

    def _ingest(self) -> None:
        node = self._pick("clinic1", "clinic2")
        if node is None:
            return
        recipients = [seal_public(name) for name in (*_FORWARDERS, "recovery")]
        patient, entry, blobs, study = make_study(node, self.random, recipients)
        self.patients.append(patient)
        self.by_submission[study.submission] = self.patient_of[entry] = patient
        self.rules.keep(node, patient, entry, blobs, study)
        patient.acknowledged = True

    def _meeting(self, size: int = 2) -> None:
        stolen = [n for n in self.nodes if n.stolen and self.random.random() < 0.3]
        if len(self.running) + len(stolen) < size:
            return
        present = self.random.sample([*self.running, *stolen], size)
        self._note(" ".join(n.name for n in present))
        frame = self.random.choice((0, 4096))
        for one, two in combinations(present, 2):
            if meet(one, two, frame=frame, corrupt=0.03):
                self._same_meaning(one, two)
        honest = [n for n in present if not n.stolen]
        for node in honest:
            self.rules.make_room(node, honest)

    def _market_day(self) -> None:
        self._meeting(size=4)

    def _deliver(self) -> None:
        if node := self._pick(*_FORWARDERS):
            for _ in range(3):
                self.rules.deliver(node, self.pacs, seal_secret(node.name.rstrip("'")))
            self.rules.recheck(node, self.pacs, {e: p.name for e, p in self.patient_of.items()})

    def _sweep(self) -> None:
        if node := self._pick():
            self.rules.sweep(node)

    def _scrub(self) -> None:
        if node := self._pick():
            self.rules.scrub(node)

    def _restart(self) -> None:
        for node in self.nodes:
            if not node.up and self.random.random() < 0.7:
                self._note(node.name)
                if meaning(node.load()) != meaning(node.ledger):
                    self._broken(8, f"{node.name} reads another meaning from its disk than it had in memory")
                node.start()

    def _withdraw(self) -> None:
        node = self._pick("clinic1", "clinic2")
        rows = [] if node is None else [
            r for r in node.rows.values()
            if is_on_its_way(node.ledger.entry(r.entry)) and node.parsed(r.study).header.author == node.id
        ]  # fmt: skip
        if node is not None and rows:
            row = self.random.choice(rows)
            body = Tombstone("withdrawn", "", "", 1, 0, None, 0, node.id, row.study)
            self.patient_of[row.entry].over = True
            node.take([node.sign(body, row.entry)])

    def _late_member(self) -> None:
        cloud = self.node("cloud")
        if cloud.up and not any(n.name == "courier2" for n in self.nodes):
            cloud.take([self.mesh.member("cloud", "courier2", [Role.CARRY], at=self.now)])
            self._join("courier2", list(cloud.disk.durable.facts.values()))

    def _newer_version(self) -> None:
        """A node with a newer version says something that the others do not understand."""
        if node := self._pick():
            known = list(node.rows)
            entry = self.random.choice([None, *known])
            permanent = self.random.random() < 0.3
            slot = None if permanent else b"s"
            raw = self.mesh.say_unknown(
                node.name.rstrip("'"), "future", permanent=permanent, entry=entry, slot=slot, at=node.wall_ms
            )
            node.take([raw])

    # -- faults ---------------------------------------------------------------------------------

    def _crash(self) -> None:
        if node := self._pick():
            self.fuses.counts["crash"] += 1
            node.crash(power=self.random.random() < 0.7)

    def _clock(self) -> None:
        if node := self._pick():
            self.fuses.counts["clock jump"] += 1
            self.offsets[node] = self.random.choice(_WRONG_CLOCKS) + self.random.randint(-HOUR, HOUR)

    def _rot(self) -> None:
        """Let copies of one study rot, at most all but one; the last one is with who has least room."""
        waiting = [p for p in self.patients if p.acknowledged and not p.over and p.name not in self.pacs.held]
        if waiting:
            patient = self.random.choice(waiting)
            copies = [node for node in self.running if self._intact(node, patient)]
            copies.sort(key=lambda node: -node.quota)
            for node in copies[: self.random.randint(0, len(copies))]:
                if self._safe_without(node, {patient}):
                    self._note(node.name)
                    self.fuses.counts["rotten blob"] += 1
                    here = [
                        b
                        for b in (patient.stream, *sorted(patient.entries))
                        if node.disk.blobs.get(BlobId(b))
                    ]
                    node.disk.rot(BlobId(self.random.choice(here)))

    def _backup(self) -> None:
        if node := self._pick():
            self.images[node] = node.disk.image()

    def _restore(self) -> None:
        node = self._pick(*(n.name for n in self.images))
        if node is None or node not in self.images:
            return
        image = self.images.pop(node)
        here = {p for p in self.patients if self._intact(node, p) and not self._in(image.blobs, p)}
        if self._safe_without(node, here):
            self.fuses.counts["restored backup"] += 1
            node.disk = Disk(self.fuses, image)
            node.disk.on_unlink = partial(self._unlinked, node)
            self.tombstones[node] = set()
            node.start()

    def _clone(self) -> None:
        node = self._pick("clinic1", "courier1", "courier2", "cloud")
        if node is not None and not any("'" in n.name for n in self.nodes):
            self.fuses.counts["cloned disk"] += 1
            self._join(node.name + "'", [], node.disk.image())

    def _theft(self) -> None:
        laptop, cloud = self.node("laptop"), self.node("cloud")
        if (
            laptop.stolen
            or not laptop.up
            or not cloud.up
            or not self._safe_without(laptop, set(self.patients))
        ):
            return
        self.fuses.counts["stolen node"] += 1
        self.honest = [
            f.raw for f in laptop.ledger.facts(FactClass.PERMANENT).values() if f.header.author == laptop.id
        ]
        laptop.stolen = True
        self.revocation = self.mesh.revoke("root", "laptop")
        for row in list(laptop.rows.values()):
            if is_on_its_way(laptop.ledger.entry(row.entry)):
                body = Tombstone("delivered", "pacs", "read-back", 1, 1, digest("lie"), 1, laptop.id)
                laptop.take([laptop.sign(body, row.entry)], follow=False)
        self._insist()
        if self.random.random() < 0.5:
            self._vouch()

    def _insist(self) -> None:
        """Whoever revoked the stolen node sees to it that the cloud node knows it, whatever it lost."""
        cloud = self.node("cloud")
        if self.revocation and cloud.up and not cloud.ledger.membership.is_revoked(self.node("laptop").id):
            cloud.take([self.revocation])

    def _vouch(self) -> None:
        """A person looked into the PACS, and clears what the stolen node did before."""
        if self.honest:
            self.node("cloud").take([self.mesh.vouch("root", "laptop", *self.honest)])
            self.honest = []

    def _pacs_mood(self) -> None:
        self.pacs.honest = self.random.random() < 0.5
        self.pacs.down = self.random.random() < 0.2

    def _pacs_loses(self) -> None:
        held = [p for p in self.patients if p.name in self.pacs.held]
        if held:
            patient = self.random.choice(held[-8:])
            self.pacs.lose(patient.name)
            patient.over = True  # it was proven: what comes now is help, not duty

    # -- invariants -----------------------------------------------------------------------------

    def check(self) -> None:
        """Check what must hold after every step."""
        self._learn()
        for patient in self.patients:
            if patient.acknowledged and not patient.over and not self._safe(patient):
                if patient in self.deceived:
                    self.fuses.counts[LOST_TO_A_THIEF] += 1
                    patient.over = True
                    continue
                self._broken(1, "an acknowledged study is on no disk and not in the PACS")
        for node in self.nodes:
            here = node.disk.durable.facts.keys()
            if not self.tombstones[node] <= here:
                self._broken(4, f"{node.name} forgot a tombstone")
        self._same_in_another_order(self.nodes[self.steps % len(self.nodes)])

    def _learn(self) -> None:
        """Note new entries and tombstones; judge the latter by what the PACS really has."""
        for node in self.nodes:
            for row in node.rows.values():
                if row.entry not in self.patient_of:
                    body = node.parsed(row.study).body
                    assert isinstance(body, Study)
                    patient = self.patient_of[row.entry] = self.by_submission[body.submission]
                    patient.entries.add(row.entry)
            for fact_id in node.ledger.facts(FactClass.PERMANENT).keys() - self.tombstones[node]:
                fact = node.ledger.get(fact_id)
                if fact is None or not isinstance(fact.body, Tombstone) or fact.header.entry is None:
                    continue
                self.tombstones[node].add(fact_id)
                if fact_id in self.judged:
                    continue
                self.judged.add(fact_id)
                patient = self.patient_of[fact.header.entry]
                lie = fact.body.receipt == digest("lie") or fact.body.outcome == "withdrawn"
                if not lie and self.pacs.held.get(patient.name) != patient.plaintext:
                    self._broken(3, "a delivery tombstone without the study in the PACS")

    def _safe(self, patient: Patient) -> bool:
        if self.pacs.held.get(patient.name) == patient.plaintext:
            return True
        return any(self._intact(node, patient) for node in self.nodes if not node.stolen)

    def _safe_without(self, lost: Node, patients: set[Patient]) -> bool:
        """Say whether these studies would survive without one node; else the fault would be unfair."""
        others = [n for n in self.nodes if n is not lost and not n.stolen]
        return all(
            p.over or not p.acknowledged or self.pacs.held.get(p.name) == p.plaintext
            or not self._intact(lost, p) or any(self._intact(n, p) for n in others)
            for p in patients
        )  # fmt: skip

    def _intact(self, node: Node, patient: Patient) -> bool:
        return node.disk.good(patient.stream) and any(node.disk.good(BlobId(e)) for e in patient.entries)

    def _in(self, blobs: dict[BlobId, bytes], patient: Patient) -> bool:
        disk = Disk(self.fuses, State(blobs=blobs))
        return disk.good(patient.stream) and any(disk.good(BlobId(e)) for e in patient.entries)

    def _unlinked(self, node: Node, blob: BlobId) -> None:
        """Judge a deletion by the facts that are durable here (invariant 2)."""
        if not node.disk.good(blob) or node.stolen:
            return
        for row in node.rows.values():
            if row.erased or blob not in {b for b, _ in row.blobs}:
                continue
            view = node.ledger.entry(row.entry)
            tombstone = view.tombstone
            if tombstone is not None and tombstone.id in node.disk.durable.facts and row.erasing:
                lived = -1 if row.ended_ms is None else node.life_ms - row.ended_ms
                if row.origin and view.recall is None and lived < HOLD_MS:
                    self._broken(2, f"{node.name} erased its own study within the hold")
                if tombstone.header.author == self.node("laptop").id and self.node("laptop").stolen:
                    self.deceived.add(self.patient_of[row.entry])
            elif row.origin or row.complete or blob == row.entry:
                self._broken(2, f"{node.name} deleted a blob without an end, or before it took custody back")

    def _same_in_another_order(self, node: Node) -> None:
        """Check that a node's facts, told again in any order, mean what they mean to it (invariant 7)."""
        told = [fact for kind in FactClass for fact in node.ledger.facts(kind).values()]
        Random(self.steps).shuffle(told)
        again = self.mesh.ledger()
        for fact in [*told, *told]:  # what fell to a tombstone that a revocation undoes is told once more
            again.add_fact(fact)
        if meaning(again) != meaning(node.ledger):
            self._broken(7, f"{node.name} would understand its facts differently in another order")

    def _same_meaning(self, one: Node, two: Node) -> None:
        if all(
            one.ledger.snapshot(c).root_fingerprint() == two.ledger.snapshot(c).root_fingerprint()
            for c in FactClass
        ) and meaning(one.ledger) != meaning(two.ledger):
            self._broken(7, f"{one.name} and {two.name} have equal facts and understand them differently")

    def _broken(self, number: int, what: str) -> None:
        steps = "\n  ".join(self.log)
        raise Violation(f"invariant {number}, seed {self.seed}, step {self.steps}: {what}\n  {steps}")

    # -- the end --------------------------------------------------------------------------------

    def _heal(self) -> None:
        """Repair everything, let all meet all; then everything must be delivered, erased and equal."""
        self.pacs.honest, self.pacs.down = True, False
        self.log.append("healing")
        for _ in range(25):
            self._tick(13 * HOUR)
            for node in self.nodes:
                if not node.up:
                    node.start()
                if node.stolen:
                    continue
                self.rules.scrub(node)
                if node.name.rstrip("'") in _FORWARDERS:
                    while self.rules.deliver(node, self.pacs, seal_secret(node.name.rstrip("'"))):
                        pass
                    self.rules.recheck(node, self.pacs, {e: p.name for e, p in self.patient_of.items()})
                self.rules.sweep(node)
            self._insist()
            self._vouch()
            for one, two in combinations(self.running, 2):
                meet(one, two)
                self._same_meaning(one, two)
            self.check()
            if not self.unfinished():
                return
        self._broken(0, "the mesh does not come to rest: " + "; ".join(self.unfinished()))

    def unfinished(self) -> list[str]:
        """Say what is left to do."""
        left = []
        for patient in self.patients:
            if patient.acknowledged and not patient.over and patient.name not in self.pacs.held:
                left.append(f"not delivered: {patient.name.decode()}")
        left += [f"blobs at {n.name}" for n in self.running if set(n.disk.blobs) - self._remains(n)]
        sets = {tuple(n.ledger.snapshot(c).root_fingerprint() for c in FactClass) for n in self.running}
        return left + (["sets differ"] if len(sets) > 1 else [])

    def _remains(self, node: Node) -> set[BlobId]:
        """Return what is left of studies that the PACS lost when nobody had them whole: for a person."""
        return {
            blob
            for row in node.rows.values()
            if node.ledger.entry(row.entry).recall and not self._safe(self.patient_of[row.entry])
            for blob, _ in row.blobs
        }


_CHANCES = {
    "ingest": 10, "meeting": 40, "market day": 4, "deliver": 10, "sweep": 8, "scrub": 5, "restart": 8,
    "withdraw": 0.5, "late member": 1, "newer version": 1, "crash": 3, "clock": 1, "rot": 4, "backup": 1.5,
    "restore": 1, "clone": 0.3, "theft": 0.3, "pacs mood": 2, "pacs loses": 0.5,
}  # fmt: skip
# A mesh with little room, bad disks and a PACS far away: copies are given up all the time.
_SCARCE = {"ingest": 5, "deliver": 0.7, "rot": 8, "scrub": 2, "market day": 15, "theft": 0.1}
