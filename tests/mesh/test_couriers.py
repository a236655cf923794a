"""A month of clinics, couriers and a slow line to the cloud: the rules of `sync` bring through what can be.

The full report, over nine months and with plain flooding beside it, is printed by `bench/couriers.py`.
"""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from support.couriers import CLOUD, DAY, DEFAULT_SEED, Contact, Month, Taken, month
from support.couriers_flood import Flood
from support.couriers_model import Setting
from support.couriers_run import Run
from support.source import ROOT

GB = 10**9
_ORIGINAL = ROOT.parent / "shared" / "traces" / "clinic_courier.py"


@pytest.mark.skipif(not _ORIGINAL.is_file(), reason="the generator that this one repeats is not here")
@pytest.mark.parametrize("seed", [DEFAULT_SEED, 3])
def test_the_trace_is_the_one_that_others_simulate(seed: int, tmp_path: Path) -> None:
    """Results can be compared only on the same month."""
    command = [sys.executable, str(_ORIGINAL), "--seed", str(seed), "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    ours = month(seed)

    with (tmp_path / "studies.csv").open() as file:
        theirs = [tuple(row.values()) for row in csv.DictReader(file)]
    assert theirs == [
        (f"{s.at:.1f}", f"S{n}", str(s.clinic), str(s.size), s.modality, str(int(s.urgent)))
        for n, s in enumerate(ours.studies)
    ]
    ups = sorted((f"{c.start:.1f}", f"{c.end:.1f}", c.one, c.two) for c in ours.contacts)
    assert sorted(_contacts(tmp_path / "contacts.txt")) == ups


def _contacts(path: Path) -> list[tuple[str, str, int, int]]:
    found, since = [], {}
    for line in path.read_text().splitlines():
        at, _, one, two, what = line.split()
        if what == "up":
            since[one, two] = at
        else:
            found.append((since.pop((one, two)), at, int(one), int(two)))
    return found


def test_the_default_month_is_the_known_one() -> None:
    """330 contacts, 127,375 s with the cloud, 1,196 studies, 72.8 GB."""
    ours = month()

    assert (len(ours.contacts), len(ours.studies)) == (330, 1196)
    assert round(ours.cloud_seconds) == 127_375
    assert round(sum(s.size for s in ours.studies) / 1e9, 1) == 72.8


@pytest.mark.parametrize("uplink", [1e6, 0.5e6])
def test_small_courier_disks_bring_through_what_the_lines_allow(uplink: float) -> None:
    """A laptop with four gigabytes to spare serves a district; overload delays, and loses nobody."""
    setting = Setting(uplink, 4 * GB)
    ours, oracle = Run(month(), setting).run(), Run(month(), setting.oracle()).run()

    assert (ours.lost, oracle.lost) == (0, 0)
    if uplink == 1e6:
        assert ours.delivered >= oracle.delivered - 0.005
        assert ours.urgent >= oracle.urgent - 0.005
    else:
        assert ours.delivered >= oracle.delivered - 0.09
        assert ours.urgent >= 0.93


def test_plain_flooding_brings_far_less() -> None:
    """If it did not, the rules would not be worth their lines, or the simulation could not tell."""
    flood = Flood(month(), Setting(1e6, 4 * GB)).run()

    assert flood.delivered < 0.6
    assert flood.overhead > 10


def test_a_cut_goes_on_where_it_stopped_and_couriers_share_a_study() -> None:
    """Ten minutes of line a day are enough for a study of twenty, and two couriers are twice as fast."""
    study = Taken(0.0, 1, 1_000 * 10**6, "CT", False)
    to_both = (Contact(10, 1_000, 1, 13), Contact(1_000, 2_000, 1, 14))

    def delivered(*uplinks: Contact) -> bool:
        return Run(Month((*to_both, *uplinks), (study,), DAY), Setting(1e6, 4 * GB)).run().delivered == 1

    assert delivered(Contact(5_000, 5_510, CLOUD, 13), Contact(6_000, 6_510, CLOUD, 13))
    assert delivered(Contact(5_000, 5_510, CLOUD, 13), Contact(5_000, 5_510, CLOUD, 14))
    assert not delivered(Contact(5_000, 5_510, CLOUD, 13), Contact(6_000, 6_480, CLOUD, 13))
