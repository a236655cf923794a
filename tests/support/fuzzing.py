"""Requests made up from the OpenAPI document, sent to a running node by schemathesis in its own process."""

import subprocess
import sys
from pathlib import Path

from support.nodes import _Node

_CHECKS = ("not_a_server_error", "response_schema_conformance", "content_type_conformance")
_CHECKS += ("status_code_conformance", "ignored_auth", "use_after_free")
# Left out: what never ends, what names folders of this machine, and what would dial made-up addresses.
_NOT = (
    "/api/v1/events|/api/v1/admin/salvage|/api/v1/admin/stick|/api/v1/admin/peers|"
    "/api/v1/destinations|/api/v1/admin/quarantine/[^/]+/[^/]+/send"
)


def made_up_requests(
    node: _Node, token: str | None, folder: Path, *, examples: int, phases: str, seed: int = 1
) -> tuple[int, str]:
    """Send made-up requests as the holder of a token; return the exit code and what was reported."""
    words = [
        *(sys.executable, "-m", "schemathesis.cli", "run"),
        f"http://127.0.0.1:{node.local_port}/openapi.json",
        *("--max-examples", str(examples), "--seed", str(seed), "--phases", phases),
        *(
            "--checks",
            ",".join(_CHECKS),
            "--exclude-path-regex",
            _NOT,
            "--no-color",
            "--request-timeout",
            "30",
        ),
    ]
    if token is not None:
        words += ["-H", f"Authorization: Bearer {token}"]
    done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True, encoding="utf-8")
    return done.returncode, f"{done.stdout}\n{done.stderr}"[-8000:]
