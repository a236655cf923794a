"""Places and laptops: network namespaces that bridges join, and a laptop's cable that moves between them.

A *place* is a bridge. A *machine* is a namespace with one cable; it is plugged in at one place, or nowhere.
Two places can be joined by a radio link. Addresses are 10.77.<place>.<machine>/16. Nothing of it touches the
networks of the machine that runs the tests. Needs root and iproute2 (`missing()` says what is not there).
Threads and processes that are started inside of a namespace (`with machine.inside():`) stay in it, so a
proxy or a PACS started there is there.
"""

import contextlib
import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_PREFIX = "cmtest"


@cache
def missing() -> str | None:
    """Say why there can be no namespaces here, or None if there can."""
    if os.name != "posix" or not Path("/proc/self/ns/net").exists():
        return "network namespaces (Linux)"
    try:
        with Lab():
            return None
    except (OSError, subprocess.CalledProcessError):
        return "network namespaces (root and iproute2)"


def enter(name: str) -> None:
    """Put the calling thread into a namespace (setns(2); Python has it from 3.12 on)."""
    with (_NAMESPACES / name).open("rb") as namespace:
        _set_namespace(namespace)


def _set_namespace(namespace: BinaryIO) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    """All places and machines of one test; gone with the `with` block."""

    def __init__(self) -> None:
        _sweep()
        self._name = f"{_PREFIX}-{os.getpid()}-{next(_NUMBERS)}"
        self._machines: list[Machine] = []
        self._places: list[str] = []

    def __enter__(self) -> "Lab":
        _ip("netns", "add", self._name)
        try:
            self._inside("link", "add", "name", "probe", "type", "bridge")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*(machine.namespace for machine in self._machines), self._name]:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)

    def place(self, name: str) -> str:
        """Make a place: a bridge."""
        self._places.append(name)
        self._inside("link", "add", "name", f"br-{name}", "type", "bridge", "forward_delay", "0")
        self._inside("link", "set", "dev", f"br-{name}", "up")
        return name

    def machine(self, name: str, place: str | None = None) -> "Machine":
        """Make a machine, plugged in somewhere or nowhere."""
        machine = Machine(self, name, f"{self._name}-{name}", len(self._machines) + 1)
        self._machines.append(machine)
        _ip("netns", "add", machine.namespace)
        _ip("-n", machine.namespace, "link", "set", "dev", "lo", "up")
        self._inside(
            "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", machine.namespace
        )
        machine.move(place)
        return machine

    def number(self, place: str) -> int:
        """The number of a place in the addresses there."""
        return self._places.index(place) + 1

    @contextlib.contextmanager
    def joined(self, one: str, other: str) -> Iterator[None]:
        """Join two places by a radio link while the block runs."""
        ends = f"{one}-{other}", f"{other}-{one}"
        self._inside("link", "add", "name", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, place in zip(ends, (other, one), strict=True):
            self._inside("link", "set", "dev", end, "master", f"br-{place}", "up")
        try:
            yield
        finally:
            self._inside("link", "del", "dev", ends[0])

    def plug(self, cable: str, place: str | None) -> None:
        """Plug a machine's cable in at a place, or pull it out."""
        self._inside(
            "link",
            "set",
            "dev",
            cable,
            *(("nomaster",) if place is None else ("master", f"br-{place}")),
            "up",
        )

    def limit(self, cable: str, limit: list[str] | None) -> None:
        """Limit what goes towards a machine, or take the limit away."""
        how = ["del", "dev", cable, "root"] if limit is None else ["replace", "dev", cable, "root", *limit]
        _run("tc", "-n", self._name, "qdisc", *how)

    def _inside(self, *words: str) -> None:
        _ip("-n", self._name, *words)


class Machine:
    """A namespace with one cable."""

    def __init__(self, lab: Lab, name: str, namespace: str, number: int) -> None:
        self._lab = lab
        self._number = number
        self.name = name
        self.namespace = namespace
        self.place: str | None = None

    @property
    def address(self) -> str:
        """Its address where it is."""
        assert self.place is not None, f"{self.name} is nowhere"
        return f"10.77.{self._lab.number(self.place)}.{self._number}"

    def move(self, place: str | None) -> None:
        """Pull the cable out, and plug it in somewhere else, where the machine gets another address."""
        self._lab.plug(self.name, None)
        _ip("-n", self.namespace, "addr", "flush", "dev", "eth0")
        self.place = place
        if place is not None:
            _ip("-n", self.namespace, "addr", "add", f"{self.address}/16", "brd", "+", "dev", "eth0")
            _ip("-n", self.namespace, "link", "set", "dev", "eth0", "up")
            self._lab.plug(self.name, place)

    def slow_down(self, octets_a_second: int) -> None:
        """Let its cable take so much and no more, both ways."""
        limit = ["tbf", "rate", f"{octets_a_second * 8}bit", "burst", "32k", "latency", "400ms"]
        _run("tc", "-n", self.namespace, "qdisc", "replace", "dev", "eth0", "root", *limit)
        self._lab.limit(self.name, limit)

    def speed_up(self) -> None:
        """Let its cable take what it can."""
        _run("tc", "-n", self.namespace, "qdisc", "del", "dev", "eth0", "root")
        self._lab.limit(self.name, None)

    def received(self) -> int:
        """Return how many octets have come in through the cable."""
        with self.inside():
            lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()
        (line,) = (one for one in lines if one.strip().startswith("eth0:"))
        return int(line.partition(":")[2].split()[0])

    def pull(self) -> None:
        """Pull the cable out and change nothing else: peers hear nothing any more, and of nothing."""
        self._lab.plug(self.name, None)

    def plug(self) -> None:
        """Plug it in again where it was."""
        self._lab.plug(self.name, self.place)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread's new sockets, threads and processes be the machine's."""
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            enter(self.namespace)
            try:
                yield
            finally:
                _set_namespace(before)


_NUMBERS = itertools.count(1)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _sweep() -> None:
    """Take away what a killed test run left behind."""
    for path in _NAMESPACES.glob(f"{_PREFIX}-*"):
        pid = path.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", path.name)
