"""Nodes that are killed at any moment lose nothing, send nothing twice, and leave nothing behind."""

from pathlib import Path

from support.killing import Killing, check, counting_pacs, noisy_study, settle
from support.nodes import RealNode

KILLS_EACH = 10
SEED = 20_261_123


def test_nodes_that_are_killed_all_the_time_bring_every_study_once(
    three: tuple[RealNode, RealNode, RealNode], tmp_path: Path
) -> None:
    """A laptop whose battery dies is the ordinary case, in the middle of anything."""
    clinic, courier, cloud = three
    studies = [noisy_study(500 + n, 40, 50_000) for n in range(7)] + [noisy_study(600, 220, 40_000)]
    with counting_pacs(tmp_path / "pacs") as pacs:
        cloud.init()
        cloud.start()
        cloud.add_pacs(pacs.url)
        cloud.admit(clinic, "clinic")
        cloud.admit(courier, "courier")
        clinic.start()
        courier.start([clinic, cloud])
        killing = Killing(three, {"clinic": [], "courier": [clinic, cloud], "cloud": []}, SEED)

        entries = killing.run(studies, KILLS_EACH, apart_s=3.0)
        settle(three, entries, 90)

        assert sum(killing.kills.values()) >= 30
        check(three, pacs, studies)
