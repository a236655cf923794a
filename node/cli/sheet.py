"""Asking for the recovery sheet on the terminal, line by line. It is kept nowhere.

Called by the commands that a person starts with the paper in hand.
"""

from collections.abc import Iterable

import typer

from node.cli.output import Output
from node.errors import Refused
from node.recovery import MeshRoot, RecoverySheet, check_line, parse_root

_LINES = 4


def ask_root(out: Output) -> MeshRoot:
    """Ask for the root's lines only: what opens studies stays on the paper."""
    out.console.print("Type the first four lines of the recovery sheet (A1 to A4; or C, D, E).")
    return parse_root("\n".join(_ask([f"root {number}" for number in range(1, _LINES + 1)])))


def ask_sheet(out: Output) -> RecoverySheet:
    """Ask for all eight lines."""
    out.console.print("Type the eight lines of the recovery sheet, each with its name, such as A1.")
    return RecoverySheet.parse("\n".join(_ask([f"{number}" for number in range(1, 2 * _LINES + 1)])))


def _ask(names: Iterable[str]) -> list[str]:
    """Ask for lines; a mistyped one is asked for again at once. What is typed is not shown."""
    lines = []
    for name in names:
        while True:
            line = str(typer.prompt(f"Line {name}", hide_input=True, err=True))
            try:
                said = check_line(line)
            except Refused as error:
                typer.echo(str(error), err=True)
                continue
            typer.echo(f"  {said} is right.", err=True)
            lines.append(line)
            break
    return lines
