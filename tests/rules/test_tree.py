"""Rules on the files of the checkout: short, whole, and nobody's machine in them."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from support.source import ROOT, files, python_files, tree_of

LINES = 450
TEST_LINES = 600  # a test file is a list, read one test at a time
# Longer files that are better in one piece, with the reason.
LONGER = {
    "sync/reconcile.py": "one algorithm, Negentropy version 1, read beside its specification",
}
# The only modules that may catch every error, since what they start must not stop because of one.
CATCH_ALL = {
    "node/api/problems.py",  # around a request
    "node/intake/worker.py",  # around a file that a stranger made
    "node/jobs/schedule.py",  # around a job
}
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".ts",
    ".tsx",
    ".css",
    ".html",
    ".json",
    ".js",
    ".mjs",
    ".yml",
    ".lock",
    ".txt",
    "",
}


def test_no_file_is_too_long_to_read_at_once() -> None:
    """What a newcomer cannot read in one sitting hides its faults."""
    code = [path for path in files() if path.suffix in {".py", ".ts", ".tsx"}]
    lines = {_name(path): len(_text(path).splitlines()) for path in code if "generated" not in path.parts}
    long = {name for name, n in lines.items() if n > (TEST_LINES if _is_test(name) else LINES)}

    assert long == set(LONGER)


def test_nothing_names_a_place_on_somebody_s_machine() -> None:
    """Such a path works for its author only, and tells about him."""
    place = re.compile(
        r"(?<![\w.~/-])/" + "(?:root|work|home/[a-z]+|Users/[a-z]+)/" + r"\w|[A-Z]:\\" + "Users"
    )

    assert list(_lines_with(place)) == []


def test_lock_files_name_packages_and_hashes_and_no_address() -> None:
    """Where packages come from is the machine's affair; what they are is ours."""
    locks = sorted(ROOT.glob("requirements*.lock"))
    text = {path.name: path.read_text(encoding="utf-8") for path in locks}
    pin = re.compile(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    other = {
        name: line for name, lines in text.items() for line in lines.splitlines() if not pin.fullmatch(line)
    }

    assert sorted(text) == ["requirements-node.lock", "requirements-test.lock", "requirements.lock"]
    assert other == {}


def test_lock_files_hold_what_pyproject_asks_for() -> None:
    """A dependency that was added without `python3 run.py lock` would be missing at the next clinic."""
    settings = tomllib.loads(_text(ROOT / "pyproject.toml"))
    groups = settings["dependency-groups"]
    asked = {
        "requirements.lock": [*settings["project"]["dependencies"], *groups["build"]],
        "requirements-test.lock": [*settings["project"]["dependencies"], *groups["build"], *groups["test"]],
        "requirements-node.lock": groups["nodejs"],
    }
    missing = {
        f"{lock}: {name}"
        for lock, lines in asked.items()
        for name in (re.split(r"[<>=!~;\[ ]", line)[0].lower() for line in lines)
        if name not in _pins(lock)
    }

    assert missing == set()


def test_the_tests_run_with_the_versions_that_run_at_a_clinic() -> None:
    """A version that only the tests have proves nothing."""
    assert _pins("requirements.lock").items() <= _pins("requirements-test.lock").items()


def test_the_app_s_lock_file_names_packages_and_hashes_and_no_address() -> None:
    """The same for npm: integrity, and no registry."""
    packages = json.loads(_text(ROOT / "pwa" / "package-lock.json"))["packages"]
    fetched = {name: entry for name, entry in packages.items() if name and not entry.get("link")}

    assert fetched
    assert [name for name, entry in fetched.items() if "resolved" in entry] == []
    assert [
        name for name, entry in fetched.items() if "integrity" not in entry and not entry.get("inBundle")
    ] == []


def test_a_promise_to_do_something_later_has_a_number() -> None:
    """Others can find it, and it can be closed."""
    mark = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?!.*#\d)")

    assert list(_lines_with(mark)) == []


def test_only_three_modules_catch_every_error() -> None:
    """Elsewhere an error that nobody foresaw must be seen; to clean up and raise it again is allowed."""
    found = {
        f"{_name(path)}:{part.lineno}"
        for path in python_files("node", "sync")
        if _name(path) not in CATCH_ALL
        for part in ast.walk(tree_of(path))
        if isinstance(part, ast.ExceptHandler) and _catches_all(part) and not _raises_again(part)
    }

    assert found == set()


def _is_test(name: str) -> bool:
    return name.startswith("tests/") or ".test." in name


def _catches_all(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {part.id for part in ast.walk(handler.type) if isinstance(part, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _pins(lock: str) -> dict[str, set[str]]:
    """Return the names in a lock file with their versions: one, or one for each kind of machine."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", _text(ROOT / lock), re.MULTILINE
    ):
        versions.setdefault(name, set()).add(version)
    return versions


def _lines_with(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in files():
        if path.suffix in TEXT and path.name != "package-lock.json":
            for number, line in enumerate(_text(path).splitlines(), 1):
                if pattern.search(line):
                    yield f"{_name(path)}:{number}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
