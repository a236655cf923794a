"""Walking over the routes of an application."""

from collections.abc import Iterable, Iterator
from typing import Any


def walk(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield (method, path) of all routes, those of included routers as well."""
    for route in routes:
        included = getattr(route, "original_router", None)  # FastAPI from 0.160 on does not copy them
        if included is not None:
            yield from walk(included.routes)
        else:
            for method in sorted(getattr(route, "methods", None) or ()):
                yield method, route.path
