"""Each library has its home: to learn what we ask of it, one reads one or two files."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from support.source import ROOT, imports_of, module_of, python_files, tree_of

# Library → the only modules that may import it. A name that ends in a dot means all modules below it.
HOME: dict[str, set[str]] = {
    "apscheduler": {"node.jobs.schedule"},
    "cbor2": {"sync.cbor"},
    "cryptography": {
        *("node.keys", "node.recovery", "node.mesh.tls", "node.tlskey", "node.webcert", "node.xchacha"),
    },
    "dicomweb_client": {"node.deliver.verify"},
    "fastapi": {
        "node.api.",
        "node.door",
        "node.mesh.server",
        "node.service",
        "node.serving",
        "node.sandbox_pacs",
    },
    "filelock": {"node.home"},
    "fpdf": {"node.wrap.page", "node.wrap.text"},
    "httpcore": {"node.mesh.line", "node.mesh.client"},
    "httpx": {"node.deliver.", "node.mesh.client", "node.mesh.joining", "node.cli.", "node.demo."},
    "ifaddr": {"node.addresses"},
    "imagecodecs": {"node.store.images"},
    "joserfc": {"node.api.tokens"},
    "PIL": {"node.wrap.pictures"},
    "keyring": {"node.unlock"},
    "nacl": {
        *("sync.bodies", "sync.cose", "sync.facts", "sync.manifest", "sync.segments"),
        *("node.keys", "node.recovery", "node.tlskey", "node.mesh.tls", "node.store.factlog"),
        *(
            "node.api.auth",
            "node.api.tokens",
            "node.operator",
            "node.mesh.joining",
            "node.intake.spool",
            "node.intake.uploads",
            "node.intake.submissions",
        ),
    },
    "numpy": {"node.store.images"},
    "platformdirs": {"node.config"},
    "prometheus_client": {"node.metrics"},
    "pydantic": {"node.config", "node.api."},
    "pydantic_settings": {"node.config"},
    "pydicom": {"node.intake.", "node.deliver.", "node.sandbox_pacs", "node.wrap."},
    "pypdfium2": {"node.wrap.capture"},
    "pynetdicom": {"node.deliver.association", "node.deliver.dimse"},
    "requests": {"node.deliver.access", "node.deliver.verify"},
    "rich": {"node.cli.", "node.demo."},
    "segno": {"node.cli."},
    "sqlalchemy": {"node.store.database"},
    "sqlmodel": {"node.store."},
    "starlette": {"node.api.", "node.mesh.server"},
    "structlog": {"node.logs"},
    "typer": {"node.cli."},
    "uharfbuzz": {"node.wrap.text"},
    "uvicorn": {"node.serving", "node.mesh.peercert", "node.sandbox_pacs"},
    "zeroconf": {"node.mesh.discovery"},
    "zstandard": {"node.store.codecs", "node.store.squeeze"},
}
# Libraries that come with one that pyproject.toml names, as its public face.
COMES_WITH = {
    "starlette": "fastapi",
    "pydantic": "fastapi",
    "sqlalchemy": "sqlmodel",
    "requests": "dicomweb-client",
}
# Named in pyproject.toml and imported by nobody here.
USED_BY_OTHERS = {"httptools": "uvicorn parses HTTP with it"}


def test_each_library_has_its_home() -> None:
    """A library that is called from everywhere can neither be replaced nor understood."""
    strays = {
        f"{module} imports {library}"
        for module, library in _libraries()
        if not any(_is_home(module, home) for home in HOME.get(library, ()))
    }

    assert strays == set()


def test_each_library_that_we_import_is_one_that_we_name() -> None:
    """What comes along with another library may stay away with its next version."""
    distributions = packages_distributions()
    named = _dependencies()
    unnamed = {
        library
        for _, library in _libraries()
        if not {_plain(owner) for owner in distributions.get(library, [])} & named
        and COMES_WITH.get(library) not in named
    }

    assert unnamed == set()


def test_each_library_that_we_name_is_one_that_we_import() -> None:
    """A dependency that nobody uses is only a risk."""
    distributions = packages_distributions()
    imported = {_plain(owner) for _, library in _libraries() for owner in distributions.get(library, [])}

    assert _dependencies() - imported - set(USED_BY_OTHERS) == set()


def test_the_protocol_opens_nothing_and_makes_no_random_keys() -> None:
    """`sync` decides from values alone, so that every decision can be tried and repeated."""
    random = {"generate", "SealedBox", "randombytes", "now", "today", "utcnow"}
    found = set()
    for path in python_files("sync"):
        for part in ast.walk(tree_of(path)):
            where = f"{module_of(path)}:{getattr(part, 'lineno', 0)}"
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
                if part.func.id in {"open", "print", "input"} | random:
                    found.add(f"{where} {part.func.id}")
            elif isinstance(part, ast.Attribute) and part.attr in random:
                found.add(f"{where} .{part.attr}")
        found |= {f"{module_of(path)} {name}" for name in imports_of(path) if name.startswith("nacl.utils")}

    assert found == set()


def _libraries() -> Iterator[tuple[str, str]]:
    """Yield each of our modules with each library outside of Python that it imports."""
    for path in python_files("node", "sync"):
        tops = {name.partition(".")[0] for name in imports_of(path)}
        for library in sorted(tops - sys.stdlib_module_names - {"node", "sync"}):
            yield module_of(path), library


def _is_home(module: str, home: str) -> bool:
    return f"{module}.".startswith(home) if home.endswith(".") else module == home


def _dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {_plain(re.split(r"[<>=!~;\[ ]", line)[0]) for line in project["dependencies"]}


def _plain(name: str) -> str:
    """Return the name of a distribution in its one form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
