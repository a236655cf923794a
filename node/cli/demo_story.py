"""The demo's story: the whole journey of a real study on this machine, step by step, and its proof.

Three nodes in processes and folders of their own, which find each other on this machine's own network. Who
is out of reach is switched off, so that the courier is never connected to both ends. Ends with a table of
what was proven. Called by `node.cli.demo`.
"""

import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from node.cli.mesh import PRESETS
from node.cli.output import Output, size
from node.cli.packing import Picked, pick
from node.cli.remote import running
from node.cli.submitting import hand_in
from node.demo import proof
from node.demo.nodes import DemoNode
from node.demo.pacs import DemoPacs, running_pacs
from node.errors import Refused

_ENDED = "delivered"


@dataclass(slots=True)
class _Story:
    """What the demo has learnt so far."""

    out: Output
    picked: list[Picked]
    instances: list[proof.Original]
    wanted: frozenset[bytes] = field(repr=False)
    started: float = field(default_factory=time.monotonic)
    found: int = 0
    searched: int = 0
    typed: int = 0  # addresses that had to be given, where nodes do not find each other
    step: int = 0

    def by_patient(self) -> list[list[Picked]]:
        """Return the files of each patient: an impression is about one of them."""
        whose = {one.path: one.header.patient_id for one in self.instances}
        patients = sorted(set(whose.values()))
        return [[one for one in self.picked if whose.get(one.path) == patient] for patient in patients]

    def say(self, text: str, detail: str = "") -> None:
        """Tell the next step."""
        self.step += 1
        seconds = time.monotonic() - self.started
        self.out.say(f"[bold]{self.step:2}[/] {text}  [dim]{detail} {seconds:.0f} s[/]")

    def search(self, nodes: list[DemoNode]) -> None:
        """Search everything that the nodes have written up to now for the patient."""
        found, searched = proof.search([node.folder for node in nodes], self.wanted)
        self.found += found
        self.searched += searched


def tell(out: Output, study: Path | None, *, once: bool) -> bool:
    """Run the demo; return whether everything held.

    Args:
        out: where it is shown.
        study: a folder or file with DICOM images; None for the CD that pydicom brings along.
        once: end after the proof instead of leaving the app open.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clinicmesh-")))
        story = _prepare(out, study)
        pacs = stack.enter_context(running_pacs(folder / "pacs"))
        nodes = _found_mesh(story, stack, folder, pacs)
        entries = _bring(story, *nodes)
        held = _prove(story, pacs, list(nodes), entries)
        if not once:
            _stay(out, pacs, *nodes)
    return held


def _prepare(out: Output, study: Path | None) -> _Story:
    """Read the originals from disk, so that what arrives can be compared with them."""
    picked = pick([study or proof.bundled_cd()])
    instances = proof.originals(one.path for one in picked)
    if not instances:
        raise Refused("nothing-picked", "There are no DICOM images in what you named.")
    wanted = proof.markers(instances)
    folders = {one.path.parent for one in picked}
    seen, _ = proof.search(folders, wanted)
    if not seen:
        raise Refused("demo-search", "The search for patient data does not find it even in the originals.")
    octets = sum(one.path.stat().st_size for one in picked)
    out.say("[bold]ClinicMesh: the main job on this machine.[/]")
    out.say(f"   {len(picked)} files ({size(octets)}), {len(instances)} DICOM images in them.\n")
    return _Story(out, picked, instances, wanted)


def _found_mesh(
    story: _Story, stack: ExitStack, folder: Path, pacs: DemoPacs
) -> tuple[DemoNode, DemoNode, DemoNode]:
    """Make a mesh: the cloud node founds it, clinic and courier join with codes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CLINICMESH_")}
    nodes = [DemoNode(label, folder / label, environment) for label in ("clinic", "courier", "cloud")]
    clinic, courier, cloud = nodes
    cloud.command("init", "--name", "Demo", "--label", "cloud", "--json")
    for node in nodes:
        stack.callback(node.close)
    cloud.start()
    cloud.ask("POST", "/api/v1/destinations", {"name": "hospital", "url": pacs.dicomweb})
    story.say("The cloud node founds a mesh and knows the hospital's PACS", f"({pacs.name})")
    for node in (clinic, courier):
        roles = [role.value for role in PRESETS[node.label]]
        said = cloud.ask("POST", "/api/v1/admin/invitations", {"roles": roles, "label": node.label})
        story.typed += node.join(cloud, said["code"])
    story.say("Clinic and courier join, each with a single-use code and no address; neither can open studies")
    return clinic, courier, cloud


def _bring(story: _Story, clinic: DemoNode, courier: DemoNode, cloud: DemoNode) -> list[str]:
    """Let the study travel; return its entries."""
    nodes = [clinic, courier, cloud]
    cloud.stop()  # the village is far from town
    clinic.start()
    with running(clinic.folder) as remote:
        confirmation = {"impression": "Demo: please report.", "priority": "urgent", "destination": "hospital"}
        entries: list[str] = []
        for picked in story.by_patient():
            entries += hand_in(remote, story.out, picked, confirmation, ask=False)["entries"]
    story.say("The clinician uploads and confirms; the clinic keeps it sealed", f"({clinic.blobs()} blobs)")
    story.search(nodes)

    _visit(story, courier, clinic)
    courier.wait_for(lambda: _held(courier, entries), what="the courier to hold the study")
    story.say("The courier comes by, is found, and takes it along", f"({courier.blobs()} blobs)")
    story.search(nodes)

    clinic.stop()
    _visit(story, courier, cloud)
    cloud.wait_for(lambda: _all(cloud, entries, _ENDED), what="the PACS to prove every image")
    story.say("In town the courier meets the cloud node, which delivers and reads every image back")
    courier.wait_for(lambda: _all(courier, entries, _ENDED), what="the tombstone")
    courier.wait_for(lambda: courier.blobs() == 0, what="the courier to erase")
    story.say("A signed tombstone tells the courier: delivered and proven; it erases its copy")

    cloud.stop()
    _visit(story, courier, clinic)
    clinic.wait_for(lambda: _all(clinic, entries, _ENDED), what="the tombstone")
    clinic.wait_for(lambda: clinic.blobs() == 0, what="the clinic to erase")
    courier.wait_for(lambda: _erased(courier, entries) >= 2, what="the clinic's report")
    story.say("Back at the clinic the tombstone arrives; the clinic erases its copy")

    clinic.stop()
    _visit(story, courier, cloud)
    cloud.wait_for(lambda: _erased(cloud, entries) == len(nodes), what="the last report")
    story.say("The last report reaches the cloud: erased on 3 of 3")
    story.search(nodes)
    return entries


def _visit(story: _Story, courier: DemoNode, other: DemoNode) -> None:
    """Carry the courier's laptop to another node, which is switched on if it was off."""
    courier.stop()
    other.start()
    courier.start()
    story.typed += courier.find(other)


def _prove(story: _Story, pacs: DemoPacs, nodes: list[DemoNode], entries: list[str]) -> bool:
    """Print the proof table; say whether everything held."""
    cloud = nodes[-1]
    told = [cloud.get(f"/api/v1/studies/{entry}") for entry in entries]
    sent = sum(one["evidence"]["instances"] for one in told)
    proven = sum(one["evidence"]["proven"] for one in told)
    equal = proof.read_back(pacs.dicomweb, story.instances)
    left = {node.label: node.blobs() for node in nodes}
    total, made = len(story.instances), len(entries)
    rows: list[tuple[str, str, bool]] = [
        ("images handed in", str(total), True),
        ("impressions made into documents of their studies", str(made), True),
        ("delivered and proven by the cloud node", f"{proven} of {sent}", proven == sent == total + made),
        ("images read back here once more, equal to the originals", f"{equal} of {total}", equal == total),
        ("entries with a tombstone", f"{len(told)}", all(one["state"] == _ENDED for one in told)),
        *((f"blobs left on the {label} node", str(count), count == 0) for label, count in left.items()),
        (
            f"marks of the patient in {size(story.searched)} that the nodes wrote",
            str(story.found),
            story.found == 0,
        ),
        ("addresses that had to be typed", str(story.typed), True),
        ("seconds", f"{time.monotonic() - story.started:.1f}", True),
    ]
    held = all(row[2] for row in rows)
    story.out.say("")
    story.out.table(["proof", "", ""], [[what, value, "ok" if ok else "FAILED"] for what, value, ok in rows])
    story.out.value({"held": held, "proof": [{"what": a, "value": b, "ok": c} for a, b, c in rows]})
    story.out.say("[bold]Everything held.[/]" if held else "[bold red]Something did not hold.[/]")
    return held


def _stay(out: Output, pacs: DemoPacs, clinic: DemoNode, courier: DemoNode, cloud: DemoNode) -> None:
    """Leave the app open, with a courier that is always under way, until Ctrl+C."""
    clinic.start()
    code = clinic.ask("POST", "/api/v1/admin/device-codes", {"role": "clinician"})["code"]
    link = f"{clinic.url}/#enrol={code}"
    out.say(f"\nThe clinic's app:  [bold]{link}[/]   (works once, for ten minutes)")
    if pacs.page is not None:
        out.say(f"The PACS:          {pacs.page}")
    out.say("Upload a study of your own; the courier travels all the time now. Ctrl+C ends the demo.")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        out.say("\nThe demo ends; its folders go with it.")


def _state_of(node: DemoNode, entry: str) -> str:
    return str(node.get(f"/api/v1/studies/{entry}")["state"])


def _all(node: DemoNode, entries: list[str], state: str) -> bool:
    return all(_state_of(node, entry) == state for entry in entries)


def _held(node: DemoNode, entries: list[str]) -> bool:
    return all(node.label in node.get(f"/api/v1/studies/{entry}")["holders"] for entry in entries)


def _erased(node: DemoNode, entries: list[str]) -> int:
    return min(int(node.get(f"/api/v1/studies/{entry}")["erased"]["n"]) for entry in entries)
