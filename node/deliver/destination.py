"""What a destination is: the interface that every kind of PACS fulfils, and the values it speaks in.

Called by `node.jobs`. `node.deliver.dicomweb` is the first kind; one contract suite
(tests/pacs/test_destination_contract.py) holds all of them to the same behaviour.
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from sync.evidence import Evidence, InstanceProof, Outcome


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An instance to deliver.

    Attributes:
        study_uid: Study Instance UID.
        uid: SOP Instance UID.
        sop_class: SOP Class UID.
        syntax: Transfer Syntax UID.
        size: of the original Part 10 bytes.
        sha256: of the original Part 10 bytes.
        open: gives these bytes from the beginning, anew at each call.
    """

    study_uid: str = field(repr=False)
    uid: str = field(repr=False)
    sop_class: str
    syntax: str
    size: int
    sha256: bytes = field(repr=False)
    open: Callable[[], Iterator[bytes]] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one instance that was sent.

    Attributes:
        uid: SOP Instance UID.
        code: a failure or warning reason as four hex digits (PS3.18 Table I.2-2), "http-413", or a word;
            "" if there is nothing to say.
        detail: the code as a sentence for people; never the server's own words, which may quote the data set.
    """

    uid: str = field(repr=False)
    outcome: Outcome
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Auth:
    """How a destination knows us: not at all, Basic (RFC 7617), a bearer token (RFC 6750), other headers."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def as_headers(self) -> dict[str, str]:
        """Return the header fields of a request."""
        fields = dict(self.headers)
        if self.bearer:
            fields["Authorization"] = f"Bearer {self.bearer}"
        elif self.user:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")
            fields["Authorization"] = f"Basic {pair}"
        return fields

    def renew(self, refused: Mapping[str, str]) -> bool:
        """After a 401: these are all there are."""
        return False

    def close(self) -> None:
        """Nothing is open."""


class Destination(Protocol):
    """A PACS to deliver to. All methods block, and raise

    DestinationUnreachable, DestinationBusy, DestinationLocked: nothing is known of what was under way;
        ask `prove` before sending again.
    StoreDamaged: an instance could not be read here.
    """

    @property
    def strongest(self) -> Evidence:
        """The strongest level that it can show, as far as is known; it rises or falls with what is learnt.

        A level that is demanded above it is never reached, and the study waits for a person.
        """
        ...

    def present(self, study_uid: str) -> frozenset[str]:
        """Return the SOP Instance UIDs that the destination lists for a study."""
        ...

    def store(self, instances: Sequence[Outgoing]) -> list[Result]:
        """Send instances of one study; what the destination lists already is compared, never sent again.

        Returns:
            one result for each instance that was given, in that order. None of them is a proof.
        """
        ...

    def prove(
        self, study_uid: str, instances: Sequence[Outgoing], demanded: Evidence
    ) -> dict[str, InstanceProof]:
        """Find out what the destination shows of these instances, by SOP Instance UID.

        An instance of which it shows nothing is not in the answer. No more is asked than `demanded` needs.
        """
        ...

    def close(self) -> None:
        """Close its connections; it is not used again."""
        ...


class Probed(Destination, Protocol):
    """A destination as the doctor probes it, with instances of its own making."""

    def fetch(self, instance: Outgoing) -> bytes | None:
        """Return the file of an instance as it is given back, in memory."""
        ...

    def again(self, instance: Outgoing) -> Result:
        """Send an instance although it is there."""
        ...

    def remove(self, study_uid: str) -> bool:
        """Remove a study, if the PACS allows that; say whether it is gone."""
        ...


@runtime_checkable
class Learning(Protocol):
    """A destination that finds out by itself how much it takes at once, and would forget it."""

    def learnt(self) -> dict[str, int]:
        """Return what was learnt, to be kept."""
        ...

    def take_up(self, learnt: Mapping[str, int]) -> None:
        """Go on from what was learnt before; unknown names are ignored."""
        ...
