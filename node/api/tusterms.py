"""What this server says of tus 1.0: its names, its limits, and how /openapi.json tells them."""

from typing import Any

from node.callers import SILENCE_S
from node.intake.uploads import EXPIRE_MS, Limits

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,termination,expiration"
CHECKSUMS = "sha256,sha1"
BODY_TYPE = "application/offset+octet-stream"
METADATA_LIMIT = 8 << 10
IDLE_S = SILENCE_S

_VERSION_HEADER = ("Tus-Resumable", VERSION)
OF_POST = (_VERSION_HEADER, ("Upload-Length", "octets in all"), ("Upload-Metadata", "`submission` at least"))
OF_PATCH = (
    _VERSION_HEADER,
    ("Upload-Offset", "where this body begins"),
    ("Content-Type", BODY_TYPE),
    ("Upload-Checksum", f"may come: {CHECKSUMS}, a space, and the digest in base64"),
)


def told_headers(*told: tuple[str, str]) -> dict[str, Any]:
    """Return request headers as OpenAPI describes them."""
    return {
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": not text.startswith("may"),
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in told
        ]
    }


def told_limits(limits: Limits) -> dict[str, Any]:
    """Return what a client may want to know before it begins."""
    told = {
        "version": VERSION,
        "extensions": EXTENSIONS.split(","),
        "checksums": CHECKSUMS.split(","),
        "max_bytes": limits.max_bytes,
        "device_bytes": limits.device_bytes,
        "node_bytes": limits.node_bytes,
        "reserve_bytes": limits.reserve_bytes,
        "metadata_bytes": METADATA_LIMIT,
        "expires_days": EXPIRE_MS // 86_400_000,
        "idle_seconds": int(IDLE_S),
    }
    return {**told_headers(*OF_POST), "x-tus": told}
