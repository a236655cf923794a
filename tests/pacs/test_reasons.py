"""Codes of failure: what they make of an instance, and that each has a sentence without jargon."""

import pytest

from node.deliver.reasons import explain, failure_outcome
from sync.evidence import Outcome


@pytest.mark.parametrize(
    ("outcome", "codes"),
    [
        (Outcome.RETRY, ["A700", "A701", "A77A", "B00F", "0213"]),
        (Outcome.UNKNOWN, ["0111", "B00E"]),
        (
            Outcome.REJECTED,
            ["0110", "0122", "A777", "A778", "A779", "A77B", "A900", "C000", "C122", "1234", "no-reason"],
        ),
    ],
)
def test_each_code_waits_asks_or_calls_a_person(outcome: Outcome, codes: list[str]) -> None:
    """A full disk mends itself; a wrong patient ID never does; "exists already" says not which content."""
    assert {code: failure_outcome(code) for code in codes} == dict.fromkeys(codes, outcome)


@pytest.mark.parametrize("code", ["0110", "A7FF", "A9FF", "C777", "B123", "http-413", "http-418", "FFFF"])
def test_every_code_has_a_sentence(code: str) -> None:
    """Also those that nobody foresaw."""
    assert explain(code).endswith(".")


def test_where_there_is_no_code_there_is_nothing_to_say() -> None:
    """A stored image needs no explanation."""
    assert explain("") == ""
