"""Doctor: what on this machine endangers studies or patients, and what to do about it.

Looks and never changes anything. Each finding has a level, a sentence, and the next step. What cannot be seen
from here is said to be unknown, never taken for good. Called by the command line, with or without a running
node.
"""

import os
import platform
import re
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import node
import sync
from node import webcert
from node.addresses import own_addresses
from node.clock import BUILD_MS
from node.config import Settings
from node.errors import NodeError
from node.home import Home
from node.keys import Keystore
from node.parts import OPENING
from sync.errors import SyncError
from sync.facts import parse
from sync.membership import Membership

GB = 1_000_000_000
_DAY_MS = 86_400_000
_SYS = Path("/sys")
_PROC = Path("/proc")


class Level(StrEnum):
    """How a finding is."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `code` is stable; `advice` is empty where nothing is to be done."""

    code: str
    level: Level
    says: str
    advice: str = ""


def examine(home: Home, settings: Settings) -> list[Finding]:
    """Look at everything that can be seen from this machine; the worst first."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _disk_encryption(home),
        _swap,
        lambda: _permissions(home),
        lambda: _keys(home, settings),
        lambda: _clock(home),
        lambda: _certificate(home),
        lambda: _space(home, settings),
        lambda: _database(home),
        lambda: _network(settings),
        lambda: _firewall(settings),
        _program,
    )
    found = [finding for look in looks for finding in look()]
    order = [Level.BAD, Level.WARN, Level.UNKNOWN, Level.GOOD]
    return sorted(found, key=lambda finding: order.index(finding.level))


# -- at rest -------------------------------------------------------------------------------------


def _disk_encryption(home: Home) -> Iterator[Finding]:
    encrypted = is_encrypted(home.path)
    if encrypted:
        yield Finding("disk", Level.GOOD, "The disk that holds the data folder is encrypted.")
    elif encrypted is None:
        how = {
            "darwin": "Look with `fdesetup status`; turn FileVault on.",
            "win32": "Look with `manage-bde -status`; turn BitLocker on.",
        }
        yield Finding(
            "disk",
            Level.UNKNOWN,
            "Whether the disk is encrypted cannot be seen from here.",
            how.get(sys.platform, "Ask whoever set this machine up."),
        )
    else:
        yield Finding(
            "disk",
            Level.WARN,
            "The disk of the data folder is not encrypted. Studies are sealed all the same; keys are not.",
            "Use an encrypted disk (LUKS), or protect the keys by `clinicmesh passphrase`.",
        )


def is_encrypted(path: Path, sys_folder: Path = _SYS) -> bool | None:
    """Say whether a path lies on an encrypted block device; None if that cannot be seen."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        number = path.stat().st_dev
        device = (sys_folder / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}").resolve(
            strict=True
        )
    except OSError:
        return None  # an overlay, a network share, a file system of several devices
    return _is_crypt(device)


def _is_crypt(device: Path) -> bool:
    """Say whether a device, or all that it lies on, are dm-crypt."""
    with suppress(OSError):
        if (device / "dm" / "uuid").read_text().startswith("CRYPT-"):
            return True
    below = list((device / "slaves").iterdir()) if (device / "slaves").is_dir() else []
    return bool(below) and all(_is_crypt(one.resolve()) for one in below)


def _swap() -> Iterator[Finding]:
    if not sys.platform.startswith("linux"):
        yield Finding("swap", Level.UNKNOWN, "Whether swap is encrypted cannot be seen from here.")
        return
    try:
        areas = [line.split()[0] for line in (_PROC / "swaps").read_text().splitlines()[1:]]
    except OSError:
        areas = []
    plain = [area for area in areas if not _swap_is_safe(Path(area))]
    if plain:
        yield Finding(
            "swap",
            Level.WARN,
            "Swap is not encrypted: keys and images in memory may be written there.",
            "Turn it off (`swapoff -a`), or use an encrypted or compressed one (zram).",
        )
    else:
        yield Finding("swap", Level.GOOD, "No memory is swapped to an unencrypted disk.")


def _swap_is_safe(area: Path) -> bool:
    if "zram" in area.name:
        return True
    if area.is_file():
        return bool(is_encrypted(area))
    with suppress(OSError):
        number = area.stat().st_rdev
        device = _SYS / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
        return _is_crypt(device.resolve(strict=True))
    return False


def _permissions(home: Home) -> Iterator[Finding]:
    if os.name != "posix":
        yield Finding(
            "permissions",
            Level.UNKNOWN,
            "Permissions are the system's here; keep the data folder in a user's own folder.",
        )
        return
    wide = [path for path in (home.path, home.keys, home.keys / "keystore", home.database) if _is_wide(path)]
    if wide:
        names = ", ".join(path.name for path in wide)
        yield Finding(
            "permissions",
            Level.BAD,
            f"Other users of this machine may read: {names}.",
            f"chmod -R go-rwx {home.path}",
        )
    else:
        yield Finding("permissions", Level.GOOD, "The data folder is for its owner only.")


def _is_wide(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False


def _keys(home: Home, settings: Settings) -> Iterator[Finding]:
    try:
        keystore = Keystore.load(home.keys)
    except NodeError as error:
        yield Finding(
            "keys",
            Level.BAD,
            f"The keystore cannot be read: {error}.",
            "Restore `keys/` from its backup, or join anew.",
        )
        return
    opens = _opens(home, keystore)
    if keystore.protected:
        yield Finding("keys", Level.GOOD, "What opens patient data is under a passphrase.")
    elif opens is False:
        yield Finding("keys", Level.GOOD, "This node only carries: its keys open nothing of any patient.")
    else:
        yield Finding(
            "keys",
            Level.BAD if opens and not settings.unprotected else Level.WARN,
            "What opens patient data is not under a passphrase: whoever takes this machine can read it.",
            "Stop the node, then `clinicmesh passphrase`, with --keyring if it is to start by itself.",
        )


def _opens(home: Home, keystore: Keystore) -> bool | None:
    """Say whether this node's keys open anything of a patient; None if its roles cannot be read."""
    try:
        genesis = home.membership().genesis
        with closing(_reader(home)) as reader:
            rows = reader.execute("SELECT raw FROM fact WHERE membership").fetchall()
        facts = [parse(bytes(raw), mesh=genesis.mesh_id) for (raw,) in rows]
    except (NodeError, SyncError, sqlite3.Error):
        return None
    return bool(OPENING & Membership(genesis.roots, facts).roles(keystore.node_id))


# -- time, certificates, space ---------------------------------------------------------------------


def _clock(home: Home) -> Iterator[Finding]:
    floor = max(BUILD_MS, _number(home, "wall_ms"))
    now = time.time_ns() // 1_000_000
    if now < floor - 60_000:
        yield Finding(
            "clock",
            Level.WARN,
            f"The clock says {_date(now)}, and this node has seen {_date(floor)}. Nothing is lost for it.",
            "Set the clock. Until then this node issues no certificates.",
        )
    elif now > BUILD_MS + 20 * 365 * _DAY_MS:
        yield Finding(
            "clock", Level.WARN, f"The clock says {_date(now)}; that is hard to believe.", "Set the clock."
        )
    else:
        yield Finding("clock", Level.GOOD, f"The clock says {_date(now)}.")


def _certificate(home: Home) -> Iterator[Finding]:
    try:
        membership = home.membership()
    except NodeError:
        yield Finding(
            "mesh", Level.BAD, "This folder belongs to no mesh.", "clinicmesh init, or clinicmesh join"
        )
        return
    yield Finding("mesh", Level.GOOD, f"Member of {membership.genesis.name}, as {membership.label}.")
    if not membership.web_chain:
        yield Finding(
            "certificate",
            Level.WARN,
            "No certificate for browsers yet: phones cannot use this node.",
            "It comes by itself once an administrating node hears of this one.",
        )
        return
    days = (webcert.ends_ms(membership.web_chain[0]) - time.time_ns() // 1_000_000) // _DAY_MS
    if days < 0:
        yield Finding(
            "certificate",
            Level.BAD,
            "The certificate for browsers has ended: phones see a warning.",
            "It renews itself when this node hears of one that administrates; check the clock of both.",
        )
    else:
        said = f"The certificate for browsers is good for {days} days."
        if days > 60:
            yield Finding("certificate", Level.GOOD, said)
        else:
            yield Finding(
                "certificate",
                Level.WARN,
                said,
                "It should have been renewed by now. Let this node meet one that administrates; look at both "
                "clocks.",
            )


def _space(home: Home, settings: Settings) -> Iterator[Finding]:
    try:
        free = shutil.disk_usage(home.path).free
    except OSError:
        yield Finding("space", Level.UNKNOWN, "The free space cannot be read.")
        return
    said = f"{free / GB:.1f} GB free; {settings.reserve_gb:g} GB are kept in reserve."
    if free < settings.reserve_gb * GB:
        yield Finding("space", Level.BAD, f"{said} No new studies are taken.", "Make room on the disk.")
    elif free < 3 * settings.reserve_gb * GB:
        yield Finding("space", Level.WARN, said, "Make room on the disk soon.")
    else:
        yield Finding("space", Level.GOOD, said)


def _database(home: Home) -> Iterator[Finding]:
    if not home.database.exists():
        yield Finding("database", Level.WARN, "There is no database yet.", "clinicmesh run")
        return
    try:
        with closing(_reader(home)) as reader:
            said = str(reader.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error:
        said = "unreadable"
    if said == "ok":
        yield Finding("database", Level.GOOD, "The database is sound.")
    else:
        yield Finding(
            "database",
            Level.BAD,
            "The database is damaged.",
            "Stop the node and move state.db away: facts come back from peers, studies from their files.",
        )


def _reader(home: Home) -> sqlite3.Connection:
    """Open the database to read. With no node on it, so that SQLite leaves no file beside it."""
    running = home.database.with_name(f"{home.database.name}-wal").exists()
    how = "mode=ro" if running else "immutable=1"
    return sqlite3.connect(f"{home.database.resolve().as_uri()}?{how}", uri=True, timeout=5)


def _number(home: Home, name: str) -> int:
    """Return a number that the node keeps; 0 if there is none."""
    try:
        with closing(_reader(home)) as reader:
            row = reader.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
    except sqlite3.Error:
        row = None
    return int.from_bytes(row[0]) if row else 0


# -- network and program ---------------------------------------------------------------------------


def _network(settings: Settings) -> Iterator[Finding]:
    near = [one for one in own_addresses() if not one.startswith(("127.", "::1", "fe80"))]
    if near:
        yield Finding("network", Level.GOOD, f"This machine is at {', '.join(near[:4])}.")
    else:
        yield Finding(
            "network",
            Level.WARN,
            "This machine is on no network.",
            "Join the clinic's Wi-Fi, or carry studies by stick.",
        )
    if not settings.discovery:
        yield Finding("discovery", Level.WARN, "Nodes near by are not looked for (`discovery = false`).")


def _firewall(settings: Settings) -> Iterator[Finding]:
    numbers = (settings.people_port, settings.mesh_port, settings.setup_port)
    listed = ",".join(map(str, numbers))
    ports = "TCP {}, {} and {}, UDP 5353".format(*numbers)
    active = next((name for name in ("ufw", "firewalld", "nftables") if _is_active(name)), None)
    if active is None:
        yield Finding(
            "firewall",
            Level.UNKNOWN,
            "Whether a firewall keeps others out cannot be seen from here.",
            f"From another machine, open https://THIS-MACHINE:{numbers[0]}/healthz. Needed: {ports}.",
        )
    else:
        commands = {
            "ufw": f"ufw allow {listed}/tcp; ufw allow 5353/udp",
            "firewalld": f"firewall-cmd --permanent --add-port={{{listed}}}/tcp --add-port=5353/udp; "
            "firewall-cmd --reload",
        }
        yield Finding(
            "firewall",
            Level.UNKNOWN,
            f"{active} is on. Needed: {ports}.",
            commands.get(active, "Open these ports."),
        )


def _is_active(service: str) -> bool:
    """Say whether systemd lists a service as started, without asking it."""
    return Path(f"/run/systemd/units/invocation:{service}.service").exists()


def _program() -> Iterator[Finding]:
    folders = {Path(module.__file__ or "").parent for module in (node, sync)}
    yield Finding(
        "program",
        Level.GOOD,
        f"Python {platform.python_version()}, {platform.system()} {_release()}, "
        f"SQLite {sqlite3.sqlite_version}; "
        f"the program is in {', '.join(sorted(map(str, folders)))}.",
    )


def _release() -> str:
    return re.sub(r"[^\w.\-]", "", platform.release())[:40]


def _date(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min(ms, 253_402_300_799_000) / 1000))
