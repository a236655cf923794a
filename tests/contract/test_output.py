"""What commands print: nothing that comes from elsewhere may harm a terminal, and nothing is cut off."""

import pytest
import typer

from node.cli.output import Output, plain, told_plainly
from node.errors import Refused


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setenv("COLUMNS", "40")
    return Output(as_json=False)


@pytest.mark.parametrize("label", ["[/]", "[/bold]", "[link=http://a.b]Post-3[/link]", ":warning:"])
def test_labels_of_other_nodes_are_printed_as_they_are(
    out: Output, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    """A member chooses its label, and must not be able to break everybody's `status` with it."""
    out.say(f"[bold]{plain(label)}[/] runs.")
    out.table(["node"], [[label]])
    with pytest.raises(typer.Exit), told_plainly():
        raise Refused("not-found", plain(label))

    printed = capsys.readouterr()
    assert printed.out.replace("\n", "").count(label) == 2
    assert label in printed.err


def test_what_moves_a_cursor_is_replaced(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """A label with an escape sequence would otherwise write over what was printed before."""
    out.say("Post \x1b[2J 3")
    out.table(["node"], [["\x1b]0;x\x07"]])

    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\x07" not in printed
    assert "Post \N{REPLACEMENT CHARACTER}[2J 3" in printed


def test_no_cell_is_cut_on_a_narrow_screen(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """What a list shows is typed into the next command."""
    words = ["abcdefgh-" * 3, "ijklmnop-" * 3]
    out.table(["first", "second"], [words])

    printed = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert printed.count("abcdefgh-") + printed.count("ijklmnop-") >= 4
    assert sum(char in "abcdefghijklmnop" for char in printed) >= 48


def test_a_sentence_keeps_its_margin(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """Advice stands under what it is about, on each of its lines."""
    out.say("    " + "word " * 20)

    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) > 2
    assert all(line.startswith("    word") for line in lines)


def test_a_table_without_rows_is_not_printed(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says in words that there is nothing."""
    out.table(["study"], [])

    assert capsys.readouterr().out == ""
