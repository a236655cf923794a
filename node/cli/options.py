"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer

from node.config import default_data_dir

Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="CLINICMESH_DATA",
        help="The node's data folder.",
        default_factory=default_data_dir,
        show_default=False,
        file_okay=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]


def group(about: str) -> typer.Typer:
    """Return a command that has commands. Its help is Markdown, so that paragraphs fill the screen."""
    return typer.Typer(
        help=about,
        rich_markup_mode="markdown",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
