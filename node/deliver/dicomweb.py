"""A PACS that speaks DICOMweb: STOW-RS to send, QIDO-RS and WADO-RS to prove.

Made by `node.jobs` from a destination's fact and its opened secrets. Fulfils
`node.deliver.destination.Destination`.
"""

import logging
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import httpx

from node.deliver.access import Access, http_client, session
from node.deliver.destination import Auth, Outgoing, Result
from node.deliver.reading import counted, in_order, of_proof
from node.deliver.stow import ONE_OF_SEVERAL, Limits, StowSender
from node.deliver.verify import Verifier
from sync.evidence import Evidence, InstanceProof, Outcome

log = logging.getLogger(__name__)


class DicomWebDestination:
    """One DICOMweb service.

    Args:
        url: its base URL, such as `https://pacs.example/dicom-web`.
        access: what lets us in.
        limits: how much one request carries at most.
        idle_s: how long a connection may stand still.
        tls: whom to trust and how to show ourselves, or None for the public certificates.
        coerced: tags that it is recorded to change in what it stores.
    """

    def __init__(
        self,
        url: str,
        access: Access | None = None,
        *,
        limits: Limits | None = None,
        idle_s: float = 120,
        tls: ssl.SSLContext | None = None,
        coerced: frozenset[int] = frozenset(),
    ) -> None:
        self._base_url = base_url = url.rstrip("/")
        self._access = access or Auth()
        self._client = http_client(self._access, idle_s=idle_s, tls=tls)
        self._sender = StowSender(self._client, base_url, limits, self.present)
        self._verifier = Verifier(
            self._client, base_url, self._access, session=session(tls), idle_s=idle_s, coerced=coerced
        )

    @property
    def strongest(self) -> Evidence:
        """A commitment, until it is known that it offers none; then reading back."""
        offered = self._verifier.commitments.offered
        return Evidence.READ_BACK if offered is False else Evidence.COMMITTED

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._verifier.close()
        self._access.close()

    def learnt(self) -> dict[str, int]:
        """Return how much one request may carry, as was found out."""
        return self._sender.size.learnt()

    def take_up(self, learnt: Mapping[str, int]) -> None:
        """Go on from what was found out before."""
        self._sender.size.take_up(learnt)

    def present(self, study_uid: str) -> frozenset[str]:
        """Return the SOP Instance UIDs that QIDO-RS lists for a study."""
        return frozenset(self._verifier.listed(study_uid))

    def store(self, instances: Sequence[Outgoing]) -> list[Result]:
        """Send instances of one study; see `Destination.store`.

        What is listed already is read back and compared. What an answer refuses without naming it is asked
        for, and sent alone if it is not there, so that one bad instance does not hold up its neighbours.
        """
        if not instances:
            return []
        study_uid = instances[0].study_uid
        there = self.present(study_uid)
        old = [i for i in instances if i.uid in there]
        results = self._compare(study_uid, old)
        results |= {r.uid: r for r in self._sender.send([i for i in instances if i.uid not in there])}
        unclear = [i for i in instances if _is_one_of_several(results[i.uid])]
        if unclear:
            there = self.present(study_uid)
            again = self._sender.send([i for i in unclear if i.uid not in there], alone=True)
            results |= {r.uid: r for r in again}
        for outcome, count in counted(results):
            log.info("instances sent outcome=%s instances=%d", outcome, count)
        return in_order(instances, results)

    def prove(
        self, study_uid: str, instances: Sequence[Outgoing], demanded: Evidence
    ) -> dict[str, InstanceProof]:
        """Find out what it shows of these instances; see `Destination.prove`."""
        return self._verifier.prove(study_uid, instances, demanded)

    def fetch(self, instance: Outgoing) -> bytes | None:
        """Return the file of an instance as it is given back; for the doctor, which sends small ones."""
        return self._verifier.fetch(instance)

    def again(self, instance: Outgoing) -> Result:
        """Send an instance although it is there; for the doctor."""
        return self._sender.send([instance], alone=True)[0]

    def remove(self, study_uid: str) -> bool:
        """Remove a study where the archive offers it (dcm4chee, Google, Azure); for the doctor's own."""
        try:
            answer = self._client.delete(f"{self._base_url}/studies/{quote(study_uid, safe='')}")
            return answer.status_code in (200, 202, 204)
        except httpx.HTTPError:
            return False

    def _compare(self, study_uid: str, instances: Sequence[Outgoing]) -> dict[str, Result]:
        if not instances:
            return {}
        proofs = self._verifier.prove(study_uid, instances, Evidence.READ_BACK)
        return {i.uid: of_proof(i.uid, proofs.get(i.uid)) for i in instances}


def _is_one_of_several(result: Result) -> bool:
    open_ended = result.outcome in (Outcome.UNKNOWN, Outcome.RETRY)
    return open_ended and (result.code == ONE_OF_SEVERAL or result.code.startswith("http-"))
