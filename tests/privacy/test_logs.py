"""No patient in any log: canaries through every door that leads there."""

import ast
import io
import json
import logging
import logging.handlers
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from node import logs
from node.errors import Refused

CANARY = "CANARY^PATIENT"
UID = "1.2.840.113619.2.55.3.604688119"
NODE_SOURCES = sorted(Path(logs.__file__).parent.rglob("*.py"))


class Written:
    """What was written to the console and to the file."""

    def __init__(self, console: io.StringIO, log_dir: Path) -> None:
        self._console = console
        self.file = log_dir / "node.jsonl"

    def text(self) -> str:
        return self._console.getvalue() + self.file.read_text()

    def last(self) -> dict[str, Any]:
        event = json.loads(self.file.read_text().splitlines()[-1])
        assert isinstance(event, dict)
        return event


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    """Logging set up as a node does, and put back after."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    names = [*logs._HUSHED, "node", "sync"]
    levels = {name: logging.getLogger(name).level for name in names}
    root.handlers[:] = []
    console = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logs.setup(tmp_path / "logs", console=console, verbose=True)
        yield Written(console, tmp_path / "logs")
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def test_a_record_says_what_happened_to_which_digest(written: Written) -> None:
    """An operator in the evening wants to know which study went, and how long it took."""
    logging.getLogger("node.jobs").info("study forwarded entry=%s instances=%d ms=%d", "ab" * 32, 12, 345)

    event = written.last()
    assert event["event"] == "study forwarded"
    assert (event["entry"], event["instances"], event["ms"]) == ("abababab", 12, 345)
    assert (event["level"], event["logger"]) == ("info", "node.jobs")
    assert "study forwarded" in written.text().partition("{")[0]


def test_whoever_sends_what_is_no_request_writes_no_line(written: Written) -> None:
    """He would write the log full in seconds, and what it told would be gone."""
    logging.getLogger("node").info("node started version=%s", "1")
    before = written.text()
    for _ in range(100):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")

    assert written.text() == before


def test_raw_ids_are_cut_to_what_people_compare(written: Written) -> None:
    """Eight digits are enough to find a study and too few to be a name for it elsewhere."""
    logging.getLogger("node.store").info("blob kept blob=%s", bytes(range(32)))

    assert written.last()["blob"] == "00010203"


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("study read patient=%s", (CANARY,)),
        ("study read entry=%s", (CANARY,)),
        ("study read %s", (CANARY,)),
        ("study read code=%s", (UID,)),
        ("study read state=%r", (CANARY,)),
        ("study read entry=%s name=%s", ("ab", CANARY)),
        ("study read instances=%d", (CANARY,)),
        ("study read entry=%s", ({"name": CANARY},)),
        ("study read entry=%s", (Dataset(), CANARY)),
        ("study read entry=%(entry)s", ({"entry": CANARY},)),
    ],
)
def test_a_value_that_is_no_id_is_hidden(written: Written, template: str, values: tuple[Any, ...]) -> None:
    """One careless line must not put a patient into the log."""
    logging.getLogger("node.intake").warning(template, *values)

    assert written.last()["event"].startswith("study read")
    assert CANARY not in written.text()
    assert UID not in written.text()


def test_of_an_exception_only_its_class_and_place_are_written(written: Written) -> None:
    """Parsers quote what they read, in their text and in that of the exception before."""
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as error:
            raise KeyError(CANARY) from error
    except KeyError:
        logging.getLogger("node.intake").exception("file not read")

    event = written.last()
    assert event["error"] == "KeyError"
    assert any(place.startswith("privacy/test_logs.py:") for place in event["where"])
    assert CANARY not in written.text()


def test_of_our_own_errors_the_code_is_written(written: Written) -> None:
    """The code leads support to the page that helps."""
    try:
        raise Refused("confirmation-differs", CANARY)
    except Refused:
        logging.getLogger("node.api").warning("refused", exc_info=True)

    assert written.last()["code"] == "confirmation-differs"
    assert CANARY not in written.text()


@pytest.mark.parametrize(
    "name", ["httpx", "pydicom", "sqlalchemy.engine", "uvicorn.error", "apscheduler", "any"]
)
def test_what_a_library_quotes_is_not_written(written: Written, name: str) -> None:
    """httpx says whole URLs, pydicom says values, SQLAlchemy says parameters."""
    library = logging.getLogger(name)
    library.critical("value '%s' refused", CANARY)
    library.critical(f"value {CANARY} refused")
    library.critical("failed", exc_info=ValueError(CANARY))
    library.critical("value %(name)s refused", {"name": CANARY})

    assert written.last()["logger"] == name
    assert CANARY not in written.text()


def test_libraries_that_say_urls_at_info_are_hushed(written: Written) -> None:
    """One line for each request would hide what matters."""
    for name in ("httpx", "httpcore.connection", "urllib3", "uvicorn.access", "dicomweb_client.web"):
        logging.getLogger(name).info("GET something")

    assert written.text() == ""


def test_a_warning_that_quotes_a_data_set_is_written_without_its_text(written: Written) -> None:
    """pydicom warns about a bad birth date with the date."""
    warnings.warn(f"Invalid value for VR DA: '{CANARY}'", UserWarning, stacklevel=1)

    assert written.last()["category"] == "UserWarning"
    assert CANARY not in written.text()


def test_pydicom_reads_a_bad_date_without_a_trace(
    written: Written, capfd: pytest.CaptureFixture[str]
) -> None:
    """The leak that was found first: warning, log and console, all with the value."""
    ds = Dataset()
    ds.PatientBirthDate = CANARY
    ds.StudyInstanceUID = CANARY

    captured = capfd.readouterr()
    assert CANARY not in written.text() + captured.out + captured.err


def test_only_the_owner_reads_the_log_also_after_rotation(written: Written) -> None:
    """The laptop may have other users."""
    handler = next(
        h for h in logging.getLogger().handlers if isinstance(h, logging.handlers.RotatingFileHandler)
    )
    logging.getLogger("node").info("before")
    handler.doRollover()
    logging.getLogger("node").info("after")

    for file in written.file.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(list(written.file.parent.iterdir())) == 2
    assert stat.S_IMODE(written.file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("source", NODE_SOURCES, ids=lambda path: "/".join(path.parts[-2:]))
def test_log_calls_of_the_node_are_constant_sentences(source: Path) -> None:
    """A text that is put together beforehand would pass the filter whole."""
    methods = {"debug", "info", "warning", "error", "exception", "critical"}
    for call in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in methods:
            who = call.func.value
            if isinstance(who, ast.Name) and who.id in {"log", "logger", "logging"}:
                assert isinstance(call.args[0], ast.Constant), f"line {call.lineno}"
