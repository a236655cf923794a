"""Our import names are short; nothing else in this environment may claim them."""

from importlib.metadata import packages_distributions

from support.source import ROOT

import node
import sync


def test_nobody_else_owns_our_import_names() -> None:
    """A stranger's `node` or `sync` in this environment would mix with ours."""
    owners = packages_distributions()

    assert {name for ours in ("node", "sync") for name in owners.get(ours, [])} <= {"clinicmesh"}


def test_the_tests_try_this_checkout() -> None:
    """Checks that ran against another copy would say nothing about this one."""
    assert [*node.__path__, *sync.__path__] == [str(ROOT / "node"), str(ROOT / "sync")]


def test_no_test_folder_is_a_package() -> None:
    """With tests/x/__init__.py, pytest would let a folder of tests hide our own package of that name."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []
