"""Discovery: nodes of one mesh find each other on the local network (zeroconf's home).

Multicast DNS (RFC 6762, RFC 6763) under names that are drawn anew at every start and every few hours; the
machine's name is never told. A tag shows members that the node is of their mesh, and says nothing to those
who do not know the mesh. Nothing is trusted for it: an address found here is one more to try, and the TLS
handshake decides who answers. `node.service` runs `look` as a job, by the clock and when a name came up.
"""

import hashlib
import hmac
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zeroconf import Error, IPVersion, ServiceInfo, ServiceListener, Zeroconf

from node.addresses import own_addresses
from node.clock import Clock
from sync.ids import MeshId

log = logging.getLogger(__name__)
SERVICE = "_clinicmesh._tcp.local."
_WEB = "_https._tcp.local."  # what carries the names that people type
LOOK_S = 10.0
_VERSION = b"1"
_OCTETS = 8  # of nonce and tag
_MOST_ADDRESSES = 8  # of one announcement
_MOST_NAMES = 256
_TRIES = 3
_ASK_MS = 3_000
_DAMPING_MS = 30_000  # interfaces that come and go are followed at most this often
_ROTATE_MS = 4 * 3_600_000
_AGAIN_MS = 300_000
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_NEAR = tuple(
    ipaddress.ip_network(net)
    # RFC 1918, RFC 3927, RFC 4193. IPv6 link-local is left out: it means nothing without an interface.
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7")
)


@dataclass(frozen=True, slots=True)
class WebHost:
    """A name that people's browsers find this node by, without the last dot, and the port behind it.

    Several nodes may answer for one name: the mesh's own. A browser gets any of them that is near.
    """

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Which addresses are worth a try: those near by; loopback and public ones only if set up so."""

    loopback: bool = False
    public: bool = False

    def covers(self, address: str) -> bool:
        """Say whether a peer may be dialled at an address that a stranger has told."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if ip.is_loopback:
            return self.loopback
        if any(ip in net for net in _NEAR if net.version == ip.version):
            return True
        return self.public and ip.is_global and not ip.is_multicast


def tag_for(mesh: MeshId, nonce: bytes, port: int) -> bytes:
    """Return the tag by which members recognise an announcement: 8 octets.

    It changes with the nonce, so that two announcements of one mesh cannot be linked by those who do not
    know the mesh. No clock takes part: nodes whose clocks are years apart recognise each other.
    """
    return hmac.digest(mesh, nonce + port.to_bytes(2), hashlib.sha256)[:_OCTETS]


def properties_for(mesh: MeshId, nonce: bytes, port: int) -> dict[str, str]:
    """Return what an announcement says (its TXT record)."""
    return {"v": _VERSION.decode(), "n": nonce.hex(), "t": tag_for(mesh, nonce, port).hex()}


def is_of_mesh(mesh: MeshId, properties: Mapping[bytes, bytes | None], port: int) -> bool:
    """Say whether an announcement is one of this mesh, as far as anyone who knows the mesh can tell."""
    nonce, tag = _octets(properties.get(b"n")), _octets(properties.get(b"t"))
    if properties.get(b"v") != _VERSION or nonce is None or tag is None:
        return False
    return hmac.compare_digest(tag, tag_for(mesh, nonce, port))


def places(
    addresses: Sequence[str], port: int, *, own: Sequence[str], own_port: int, reach: Reach
) -> list[str]:
    """Return the places ("host:port") of an announcement that may be dialled, at most 8."""
    if not 1024 <= port <= 65535:
        return []
    near = [one for one in addresses if reach.covers(one) and not (port == own_port and one in own)]
    return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in near[:_MOST_ADDRESSES]]


def nearby(seconds: float, *, addresses: Callable[[], Sequence[str]] = own_addresses) -> Iterator[str]:
    """Yield the places ("host:port") at which nodes near by say that they listen, each once, as they come up.

    Of whatever mesh: who joins knows none yet, and recognises its inviter by the key that the code names.
    Ends after so many seconds, or at once if there is no network.
    """
    reach = Reach(loopback=True)
    interfaces = [one for one in addresses() if ":" not in one and reach.covers(one)]
    deadline = time.monotonic() + seconds
    awake = threading.Event()
    names = _Names(awake.set)
    yielded: set[str] = set()
    try:
        with Zeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only) as zeroconf:
            zeroconf.add_service_listener(SERVICE, names)
            while (left := deadline - time.monotonic()) > 0:
                awake.wait(min(left, 1.0))
                awake.clear()
                for name in names.take():
                    info = zeroconf.get_service_info(SERVICE, name, _ASK_MS)
                    if info is None or info.port is None:
                        names.retry(name)
                        continue
                    told = info.parsed_addresses(IPVersion.All)
                    for place in places(told, info.port, own=(), own_port=0, reach=reach):
                        if place not in yielded:
                            yielded.add(place)
                            yield place
    except (Error, OSError, RuntimeError) as error:
        log.info("nobody can be found near by error=%s", type(error).__name__)


class Discovery:
    """This node's announcement, and what it hears of others.

    Args:
        mesh: whose nodes are looked for.
        bind: where the mesh port listens; loopback is announced on loopback only.
        public: dial public addresses too.
        found: called with each place ("host:port") at which a node of this mesh says that it listens.
        moved: called when this machine's addresses have changed.
        wake: called when `look` should run soon; from a thread of zeroconf.
        random: gives as many random octets as it is asked for.
        addresses: gives this machine's addresses.
    """

    def __init__(
        self,
        mesh: MeshId,
        *,
        bind: str,
        public: bool,
        found: Callable[[str], None],
        moved: Callable[[], None],
        wake: Callable[[], None],
        random: Callable[[int], bytes],
        clock: Clock,
        addresses: Callable[[], Sequence[str]] = own_addresses,
    ) -> None:
        self._mesh = mesh
        self._bind = "127.0.0.1" if bind == "localhost" else bind
        self._reach = Reach(loopback=_is_loopback(self._bind), public=public)
        self._found = found
        self._moved = moved
        self._random = random
        self._clock = clock
        self._addresses = addresses
        self._names = _Names(wake)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._port: int | None = None
        self._hosts: tuple[WebHost, ...] = ()
        self._own: tuple[str, ...] | None = None
        self._zeroconf: Zeroconf | None = None
        self._failing = False
        self._opened_ms = self._asked_ms = -_ROTATE_MS

    def announce(self, port: int, hosts: Sequence[WebHost] = ()) -> None:
        """Say at which port the mesh is reached, and by which names browsers are; `look` does the rest."""
        self._port = port
        self._hosts = tuple(hosts)

    def look(self) -> None:
        """Follow the network, renew the names when it is time, and resolve what came up."""
        with self._lock:
            if self._closed.is_set() or self._port is None:
                return
            self._follow(self._port)
            if self._zeroconf is not None:
                self._resolve(self._zeroconf, self._port)

    def close(self) -> None:
        """Say goodbye and stop."""
        self._closed.set()
        with self._lock:
            self._shut()

    # -- this node ------------------------------------------------------------------------------

    def _follow(self, port: int) -> None:
        """Open, or open anew, when the addresses are others than before or the names are old."""
        now = self._clock.monotonic_ms()
        bound = self._addresses() if self._bind in _ANY else [self._bind]
        own = tuple(one for one in bound if self._reach.covers(one))
        changed = own != self._own
        if not changed and self._zeroconf is not None and now - self._opened_ms < _ROTATE_MS:
            return
        if changed and self._zeroconf is not None and now - self._opened_ms < _DAMPING_MS:
            return
        self._shut()
        if changed and self._own is not None:
            self._moved()
        self._own = own
        self._open(own, port)
        self._opened_ms = self._asked_ms = now

    def _open(self, own: Sequence[str], port: int) -> None:
        interfaces = [one for one in own if ":" not in one]
        if not interfaces:
            return
        name = self._random(8).hex()
        info = ServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            port=port,
            properties=properties_for(self._mesh, self._random(_OCTETS), port),
            server=f"cm-{self._random(8).hex()}.local.",
            parsed_addresses=list(own),
        )
        try:
            zeroconf = Zeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only, use_asyncio=False)
            self._zeroconf = zeroconf
            self._names.start(own=info.name)
            # Names are random: nobody needs to be asked whether they are free.
            zeroconf.register_service(info, cooperating_responders=True)
            for host in self._hosts:
                zeroconf.register_service(self._web_info(host, own), cooperating_responders=True)
            zeroconf.add_service_listener(SERVICE, self._names)
        except (Error, OSError, RuntimeError) as error:
            self._shut()
            if not self._failing:
                log.warning("discovery does not work error=%s", type(error).__name__)
            self._failing = True
            return
        if self._failing:
            log.info("discovery works again")
        self._failing = False

    def _web_info(self, host: WebHost, own: Sequence[str]) -> ServiceInfo:
        """Return the announcement by which this machine answers for a name."""
        return ServiceInfo(
            _WEB,
            f"{self._random(8).hex()}.{_WEB}",
            port=host.port,
            server=f"{host.name}.",
            parsed_addresses=[one for one in own if ":" not in one],
        )

    def _shut(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        try:
            zeroconf.close()
        except (Error, OSError, RuntimeError) as error:
            log.info("discovery did not end well error=%s", type(error).__name__)

    # -- others ---------------------------------------------------------------------------------

    def _resolve(self, zeroconf: Zeroconf, port: int) -> None:
        """Ask where the names that came up listen; every few minutes ask again for all that are here."""
        now = self._clock.monotonic_ms()
        if now - self._asked_ms >= _AGAIN_MS:
            self._asked_ms = now
            self._names.all_again()
        for name in self._names.take():
            if self._closed.is_set():
                return
            try:
                info = zeroconf.get_service_info(SERVICE, name, _ASK_MS)
            except (Error, OSError, RuntimeError):
                info = None
            if info is None or info.port is None:
                self._names.retry(name)
            elif is_of_mesh(self._mesh, info.properties, info.port):
                own = self._own or ()
                told = info.parsed_addresses(IPVersion.All)
                for place in places(told, info.port, own=own, own_port=port, reach=self._reach):
                    self._found(place)


class _Names(ServiceListener):
    """The names that are announced here now, at most 256, and which of them wait to be resolved."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._own = ""
        self._present: dict[str, int] = {}  # how often each was asked in vain
        self._waiting: dict[str, None] = {}  # in the order in which they came

    def start(self, *, own: str) -> None:
        """Forget all names; `own` is this node's."""
        with self._lock:
            self._own = own
            self._present.clear()
            self._waiting.clear()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Note a name (zeroconf calls this)."""
        with self._lock:
            if name == self._own or (name not in self._present and len(self._present) >= _MOST_NAMES):
                return
            self._present[name] = 0
            self._waiting[name] = None
        self._wake()

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Note a name that says something else now (zeroconf calls this)."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Forget a name (zeroconf calls this)."""
        with self._lock:
            self._present.pop(name, None)
            self._waiting.pop(name, None)

    def take(self) -> list[str]:
        """Return the names to resolve now."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        return taken

    def retry(self, name: str) -> None:
        """Let a name that did not answer be asked at the next look, three times in all."""
        with self._lock:
            if name in self._present:
                self._present[name] += 1
                if self._present[name] < _TRIES:
                    self._waiting[name] = None

    def all_again(self) -> None:
        """Let all names that are here be resolved again."""
        with self._lock:
            self._present = dict.fromkeys(self._present, 0)
            self._waiting = dict.fromkeys(self._present)


def _octets(text: bytes | None) -> bytes | None:
    """Return the 8 octets that 16 hex digits say; None if they are something else."""
    try:
        octets = bytes.fromhex((text or b"").decode("ascii"))
    except ValueError:
        return None
    return octets if len(octets) == _OCTETS else None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
