"""The clinic-courier trace: a month of meetings and studies, as a pure function of a seed.

Node 0 is the cloud, 1 to 12 are clinics, 13 to 16 couriers who each travel between three clinics, 17 is the
district hospital. The draws are made in a fixed order, so that a seed is the same month for everybody who
simulates it; whoever changes the order has another trace.
"""

import math
from dataclasses import dataclass
from random import Random

DAY = 86_400
HOUR = 3_600
CLOUD, CLINICS, COURIERS, HOSPITAL = 0, range(1, 13), range(13, 17), 17
DEFAULT_SEED = 20260101
_SUNDAY, _SATURDAY = 6, 5


@dataclass(frozen=True, slots=True)
class Contact:
    """Two nodes can talk, from one moment to another; times in seconds."""

    start: float
    end: float
    one: int
    two: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A study that a clinic took in."""

    at: float  # seconds
    clinic: int
    size: int  # octets
    modality: str
    urgent: bool


@dataclass(frozen=True, slots=True)
class Month:
    """A trace. Contacts of one pair do not overlap; both lists are in order of time."""

    contacts: tuple[Contact, ...]
    studies: tuple[Taken, ...]
    end: float

    @property
    def cloud_seconds(self) -> float:
        """How long anybody could talk to the cloud."""
        return sum(c.end - c.start for c in self.contacts if c.one == CLOUD)


def month(
    seed: int = DEFAULT_SEED, *, days: int = 30, quiet_days: int = 5, studies_per_clinic_day: float = 4.0
) -> Month:
    """Return the trace of a seed; nothing is taken in on the last `quiet_days`."""
    draw = Random(seed)
    seen = [contact for day in range(days) for contact in _contacts_of(day, draw)]
    studies = [
        study
        for day in range(days - quiet_days)
        for clinic in CLINICS
        for study in _studies_of(day, clinic, studies_per_clinic_day, draw)
    ]
    return Month(
        tuple(_merged(seen)),
        tuple(sorted(studies, key=lambda s: (s.at, s.clinic, s.size, s.modality, s.urgent))),
        days * DAY,
    )


def _contacts_of(day: int, draw: Random) -> list[Contact]:
    midnight, weekday = day * DAY, day % 7
    found = []

    def meet(one: int, two: int, start: float, end: float) -> None:
        found.append(Contact(start, end, one, two))

    for clinic in CLINICS:  # a clinic's own line works for ten minutes, once a month
        if draw.random() < 0.03:
            start = midnight + draw.uniform(7, 18) * HOUR
            meet(CLOUD, clinic, start, start + 600)
    if draw.random() < 0.30:
        start = midnight + draw.uniform(9, 15) * HOUR
        meet(CLOUD, HOSPITAL, start, start + 1800)
    if weekday == _SUNDAY:
        return found
    for turn, courier in enumerate(COURIERS):
        for stop in range(3):
            if draw.random() < 0.6:
                start = midnight + (8 + 2 * stop) * HOUR + draw.uniform(0, 3600)
                meet(CLINICS[3 * turn + stop], courier, start, start + draw.uniform(1200, 3600))
        if draw.random() < 0.5:
            start = midnight + 15.5 * HOUR + draw.uniform(0, 1200)
            meet(courier, HOSPITAL, start, start + draw.uniform(1200, 2400))
        if draw.random() < 0.5:
            start = midnight + 17 * HOUR + draw.uniform(0, 3600)
            meet(CLOUD, courier, start, start + draw.uniform(900, 2700))
    if weekday == _SATURDAY:  # the market, where all couriers meet
        start = midnight + 14.2 * HOUR
        for one in COURIERS:
            for two in range(one + 1, COURIERS.stop):
                meet(one, two, start, start + 3000)
    return found


def _merged(seen: list[Contact]) -> list[Contact]:
    """Join contacts of one pair that overlap or follow each other within a second."""
    whole: list[Contact] = []
    for contact in sorted(seen, key=lambda c: (c.one, c.two, c.start, c.end)):
        last = whole[-1] if whole else None
        same = last is not None and (last.one, last.two) == (contact.one, contact.two)
        if last is not None and same and contact.start <= last.end + 1:
            whole[-1] = Contact(last.start, max(last.end, contact.end), last.one, last.two)
        else:
            whole.append(contact)
    return sorted(whole, key=lambda c: (c.start, c.one, c.two))


def _studies_of(day: int, clinic: int, expected: float, draw: Random) -> list[Taken]:
    taken = []
    for _ in range(_poisson(expected, draw)):
        at = day * DAY + draw.uniform(7.5, 17) * HOUR
        kind = draw.random()
        if kind < 0.6:
            modality, size = "DX", draw.uniform(15e6, 30e6)
        elif kind < 0.9:
            modality, size = "US", draw.uniform(20e6, 120e6)
        else:
            modality, size = "CT", draw.uniform(150e6, 400e6)
        taken.append(Taken(at, clinic, int(size), modality, draw.random() < 0.1))
    return taken


def _poisson(expected: float, draw: Random) -> int:
    """Draw a Poisson number: multiply uniform draws until they fall below e^-expected."""
    floor, product, number = math.exp(-expected), draw.random(), 0
    while product > floor:
        product *= draw.random()
        number += 1
    return number
