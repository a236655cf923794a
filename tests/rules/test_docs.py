"""What the docs and docstrings say is what the code does."""

import ast
import inspect
import re
from http import HTTPStatus
from types import ModuleType

import pytest
from support.source import ROOT, python_files, tree_of

import node.errors
import sync.errors
from node.api.problems import STATUS
from sync import lifecycle

ARCHITECTURE = ROOT / "docs" / "architecture.md"
TUS_CHECKSUM_MISMATCH = 460  # tus 1.0, extension "checksum"


@pytest.mark.parametrize("module", [node.errors, sync.errors], ids=lambda module: module.__name__)
def test_the_tree_of_errors_is_the_one_in_the_docstring(module: ModuleType) -> None:
    """An operator who looks a name up finds whose fault it is, and finds every name."""
    assert _tree_in_docstring(module) == _tree_of_classes(module)


@pytest.mark.parametrize("module", [node.errors, sync.errors], ids=lambda module: module.__name__)
def test_each_error_has_a_code_and_a_sentence_of_its_own(module: ModuleType) -> None:
    """The code goes to logs, the API and the app, where two things must not look like one."""
    classes = [each for each in vars(module).values() if _is_error(each, module)]
    own = [vars(each)["code"] for each in classes if isinstance(vars(each).get("code"), str)]

    assert len(set(own)) == len(own)
    assert [code for code in own if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []
    assert [each.__name__ for each in classes if not each.__doc__] == []


def test_each_code_has_one_http_status_that_exists() -> None:
    """Programs decide by the status; a number nobody knows would be taken for another."""
    known = {status.value for status in HTTPStatus} | {TUS_CHECKSUM_MISMATCH}

    assert {code: status for code, status in STATUS.items() if status not in known or status < 400} == {}


def test_the_table_of_statuses_lists_no_code_that_nobody_uses() -> None:
    """Whoever reads the table learns what can happen, and nothing that cannot."""
    problems = ROOT / "node" / "api" / "problems.py"
    said = {
        part.value
        for path in python_files("node", "sync")
        for part in ast.walk(tree_of(path))
        if isinstance(part, ast.Constant)
        and isinstance(part.value, str)
        and not (path == problems and _is_key_of_status(part))
    }

    assert set(STATUS) - said == set()


def test_the_life_of_an_entry_stands_in_the_docs() -> None:
    """The state that a clinician asks about can be looked up in the table that the program follows."""
    _, block, *_ = ARCHITECTURE.read_text(encoding="utf-8").split("<!-- lifecycle -->")
    told = [line.split("|")[1].strip() for line in block.strip().split("\n\n")[0].splitlines()[2:]]

    assert lifecycle.table() in block
    assert told == list(lifecycle.EntryState)


def test_each_link_in_the_docs_leads_somewhere() -> None:
    """A page that is promised and missing costs a reader more than one that is not mentioned."""
    broken = {
        f"{page.name}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    }

    assert broken == set()


def _tree_in_docstring(module: ModuleType) -> list[tuple[int, str]]:
    """Return the indented names of the docstring, with their depth."""
    lines = (module.__doc__ or "").splitlines()
    found = [re.fullmatch(r"( *)([A-Z][A-Za-z]+)(?:  .*)?", line) for line in lines]
    names = [(len(match[1]) // 2, match[2]) for match in found if match]
    return sorted(names[names.index(min(names)) :])


def _tree_of_classes(module: ModuleType) -> list[tuple[int, str]]:
    """Return our error classes, with how many of ours stand above each."""
    return sorted(
        (sum(_is_error(above, module) for above in each.__mro__[1:]), name)
        for name, each in vars(module).items()
        if _is_error(each, module)
    )


def _is_error(each: object, module: ModuleType) -> bool:
    return inspect.isclass(each) and issubclass(each, Exception) and each.__module__ == module.__name__


def _is_key_of_status(constant: ast.Constant) -> bool:
    return constant in _keys_of_status()


def _keys_of_status() -> list[ast.expr | None]:
    tree = tree_of(ROOT / "node" / "api" / "problems.py")
    for part in ast.walk(tree):
        if isinstance(part, ast.AnnAssign) and getattr(part.target, "id", "") == "STATUS":
            assert isinstance(part.value, ast.Dict)
            return part.value.keys
    raise AssertionError("node/api/problems.py has no table STATUS")


def test_each_decision_has_a_number_of_its_own() -> None:
    """Pages and commits name decisions by number."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [page.name[:4] for page in pages]

    assert len(set(numbers)) == len(numbers)
    assert [page.name for page in pages if not page.read_text().startswith(f"# {int(page.name[:4])}. ")] == []
