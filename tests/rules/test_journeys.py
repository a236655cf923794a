"""Every code that a person can meet is told in docs/journeys.md: what happened, is it safe, who acts."""

import inspect
import re
import tomllib

from support.source import ROOT

import node.errors
import sync.errors
from node.api.problems import STATUS
from node.deliver import reasons as deliver
from node.intake.reasons import REASONS, SKIPPED

JOURNEYS = ROOT / "docs" / "journeys.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
SECURITY = ROOT / "docs" / "security.md"
# Bases, which say too little to be raised, and what only a mistake of ours can raise.
NOT_FOR_PEOPLE = {"node-error", "sync-error", "local-error", "peer-error", "bad-value", "reconcile-misuse"}


def told() -> set[str]:
    """Return what stands in code type on the page."""
    return set(re.findall(r"`([^`\n]+)`", JOURNEYS.read_text(encoding="utf-8")))


def test_each_code_of_the_api_is_told() -> None:
    """A clinician reads a code to whoever looks after the laptop, who looks it up here."""
    assert set(STATUS) - told() == set()


def test_each_code_of_an_examination_is_told() -> None:
    """Why a file is not sent decides whether somebody must go back to the scanner."""
    assert set(REASONS) - told() == set()


def test_the_tables_of_an_examination_list_no_code_that_nobody_gives() -> None:
    """Whoever looks for a code that no longer exists looks in vain."""
    page = JOURNEYS.read_text(encoding="utf-8")
    begin, end = page.index("### Examination: a whole"), page.index("### Keeping and replication")
    rows = [line.split("|") for line in page[begin:end].splitlines() if line.startswith("| ") and "`" in line]
    listed = {code for row in rows for code in re.findall(r"`([^`]+)`", row[2])}

    assert listed == set(REASONS)


def test_each_reason_says_what_happened_whether_the_data_is_safe_and_what_to_do() -> None:
    """A nurse reads it alone at night."""
    for code, reason in REASONS.items():
        sentences = [one for one in re.split(r"(?<=[.])\s", reason) if one]
        assert len(sentences) > 1, code
        assert all(one[0].isupper() and one.endswith(".") for one in sentences), code
        if code not in SKIPPED:
            safe = ("are kept", "Keep the original", "keep the original", "was lost", "Send it", "send again")
            assert any(words in reason for words in safe), code


def test_each_code_of_a_pacs_is_told() -> None:
    """The administrator of a PACS speaks in these codes."""
    assert deliver.table() in (ROOT / "docs" / "pacs.md").read_text(encoding="utf-8")


def test_each_error_is_told() -> None:
    """What stands in a log can be looked up."""
    codes = {
        str(vars(each)["code"])
        for module in (node.errors, sync.errors)
        for each in vars(module).values()
        if inspect.isclass(each) and each.__module__ == module.__name__ and "code" in vars(each)
    }

    assert codes - NOT_FOR_PEOPLE - told() == set()


def test_each_test_that_holds_a_risk_exists() -> None:
    """A risk that is said to be held by a test, and is not, is the worst one."""
    pages = ARCHITECTURE.read_text(encoding="utf-8") + SECURITY.read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", pages))

    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_each_module_that_has_a_layer_stands_in_the_docs() -> None:
    """The map of the house shows every room."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [
        layer
        for contract in settings["contracts"]
        if "containers" in contract
        for layer in contract["layers"]
    ]
    modules = {name.strip(" ()") for layer in layers for name in layer.split("|")}
    shown = set(re.findall(r"`(\w+)`", ARCHITECTURE.read_text(encoding="utf-8").split("## 6 Layers")[1]))

    assert modules - shown == set()


def test_each_row_of_the_security_page_names_its_test() -> None:
    """A claim that nothing holds is a hope."""
    text = SECURITY.read_text(encoding="utf-8")
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith(("| what |", "| attempt |"))
    ]

    assert len(rows) > 20
    assert [row for row in rows if "`tests/" not in row] == []
