"""The command `clinicmesh`: what people type. Each module holds a few commands that belong together."""

from node.cli.main import main

__all__ = ["main"]
