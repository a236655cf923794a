"""The contract as OpenAPI tells it: errors of every route are problems (RFC 9457), in one place.

FastAPI documents its own form of validation errors, which no route here answers with.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

PROBLEM = "Problem"
_SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). `code` is stable; `detail` is a sentence for people.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
        "detail": {"type": "string"},
        "offset": {"type": "integer", "description": "How much of an upload is durable, if that differs."},
    },
}
_ANSWER: Mapping[str, Any] = {
    "description": "It was refused, or failed; see `code`.",
    "content": {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}}},
}
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch"})


def document_problems(app: FastAPI) -> None:
    """Let the OpenAPI document of `app` say how errors are answered."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        said = made()
        schemas = said.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas[PROBLEM] = dict(_SCHEMA)
        for path in said["paths"].values():
            for method, operation in path.items():
                if method in _METHODS:
                    operation["responses"].pop("422", None)
                    operation["responses"].setdefault("default", dict(_ANSWER))
        return said

    app.openapi = openapi  # type: ignore[method-assign]
