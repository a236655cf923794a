"""Put the built web app into the wheel: pwa/dist becomes node/app.

Called by hatchling (pyproject.toml names it) when a wheel is built. An editable install does not
need it: a node that runs from a checkout serves pwa/dist itself. A source distribution carries
pwa/dist, so that installing from it needs no Node.js.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class AppHook(BuildHookInterface[Any]):
    """Add the app to a wheel, built first when it is missing."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folder of the app for hatchling.

        Args:
            version: "standard", or "editable" for an install that points to the checkout.
            build_data: what hatchling puts into the wheel; the app is added.

        Raises:
            RuntimeError: there is no built app, and nothing to build it with.
        """
        if version == "editable":
            return
        pwa = Path(self.root) / "pwa"
        if not (pwa / "dist" / "index.html").is_file():
            _build(pwa)
        build_data["force_include"][str(pwa / "dist")] = "node/app"


def _build(pwa: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or not (pwa / "package-lock.json").is_file():
        raise RuntimeError(
            "pwa/dist is missing and cannot be built here; start `python3 run.py` once, then again"
        )
    for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        subprocess.run([npm, *command], cwd=pwa, check=True)
