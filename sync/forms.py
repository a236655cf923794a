"""What every kind of fact is made of: the base of their values, and the checks of their fields.

A check is a function that says whether a plain CBOR value is one that a field may have.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Self

from sync.errors import BadFact
from sync.ids import EntryId

Check = Callable[[Any], bool]


def text(limit: int) -> Check:
    """Accept a text of at most so many characters."""
    return lambda v: type(v) is str and len(v) <= limit


def octets(size: int) -> Check:
    """Accept so many octets."""
    return lambda v: type(v) is bytes and len(v) == size


def uint(v: Any) -> bool:
    """Accept a whole number below 2^53."""
    return type(v) is int and 0 <= v < 2**53


def flag(v: Any) -> bool:
    """Accept true and false."""
    return type(v) is bool


def optional(check: Check) -> Check:
    """Accept null as well."""
    return lambda v: v is None or check(v)


def each(check: Check, limit: int) -> Check:
    """Accept a list of at most so many of them."""
    return lambda v: type(v) is list and len(v) <= limit and all(check(item) for item in v)


def one_of(values: type[StrEnum]) -> Check:
    """Accept the values of an enumeration."""
    known = frozenset(member.value for member in values)
    return lambda v: type(v) is str and v in known


def map_of(key: Check, value: Check, limit: int) -> Check:
    """Accept a map of at most so many pairs."""
    return lambda v: type(v) is dict and len(v) <= limit and all(key(k) and value(x) for k, x in v.items())


def decision(v: Any) -> bool:
    """Accept the name of a decision: it becomes part of a slot."""
    return type(v) is str and 0 < len(v) <= 16 and v.isascii()


def anything(_: Any) -> bool:
    """Accept whatever CBOR can say."""
    return True


def certificate(v: Any) -> bool:
    """Accept octets of the size of a certificate."""
    return type(v) is bytes and 0 < len(v) <= 8192


def covers(v: Any) -> bool:
    """Accept a map of authors to a point in their time and the digest of their tombstones up to it."""
    return map_of(octets(32), _point, 64)(v)


def _point(v: Any) -> bool:
    return type(v) is list and len(v) == 2 and uint(v[0]) and octets(16)(v[1])


ID = octets(32)
WORD = text(64)
SEALED = map_of(octets(8), lambda v: type(v) is bytes and len(v) <= 8192, 32)


class Body:
    """Base of all kinds."""

    __slots__ = ()
    KIND: ClassVar[str]
    LIVE: ClassVar[bool] = False
    ABOUT_ENTRY: ClassVar[bool] = False
    SLOTTED_BY_ENTRY: ClassVar[bool] = False
    SLOT: ClassVar[bytes | None] = None
    CHECKS: ClassVar[Mapping[str, Check]]

    def slot(self, entry: EntryId | None) -> bytes | None:
        """Return what a fact that says this replaces, of those of its author, kind and entry."""
        return entry if self.SLOTTED_BY_ENTRY else self.SLOT

    def to_payload(self) -> dict[str, Any]:
        """Return the payload as plain CBOR values."""
        return {name: _plain(getattr(self, name)) for name in self.CHECKS}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Return the value of a payload.

        Raises:
            BadFact: a key is missing, unknown, or has a wrong value.
        """
        if payload.keys() != cls.CHECKS.keys():
            raise BadFact(f"a {cls.KIND} fact with missing or unknown keys")
        for name, check in cls.CHECKS.items():
            if not check(payload[name]):
                raise BadFact(f"a {cls.KIND} fact with a wrong value for {name}")
        return cls(**{name: _frozen(value) for name, value in payload.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _frozen(value: Any) -> Any:
    return tuple(value) if type(value) is list else value
