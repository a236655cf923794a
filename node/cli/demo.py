"""The command `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import Json
from node.cli.output import Output, told_plainly


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the proof; exit 0 if it holds.")] = False,
    study: Annotated[
        Path | None,
        typer.Option(help="A folder or file with DICOM images. [default: a real CD]", exists=True),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the main job: from upload through three nodes to a PACS, proven there, erased everywhere."""
    from node.cli import demo_story  # reads DICOM; that takes a second that no other command should wait

    with told_plainly(as_json=as_json):
        held = demo_story.tell(Output(as_json=as_json), study, once=once)
    if not held:
        raise typer.Exit(1)
