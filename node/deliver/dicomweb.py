"""A PACS that speaks DICOMweb: STOW-RS to send, QIDO-RS and WADO-RS to prove.

Made by `node.jobs` from a destination's fact and its opened secrets. Fulfils
`node.deliver.destination.Destination`.
"""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import replace

import httpx

from node.deliver.destination import Auth, Outgoing, Result
from node.deliver.reasons import explain
from node.deliver.stow import ONE_OF_SEVERAL, Limits, StowSender
from node.deliver.verify import Verifier
from sync.evidence import Evidence, InstanceProof, Outcome

log = logging.getLogger(__name__)


def http_client(*, idle_s: float = 120, ca_file: str | None = None) -> httpx.Client:
    """Return the client that streams: HTTP/1.1, no proxy from the environment, no redirects.

    Args:
        idle_s: how long a connection may stand still; there is no limit to a whole transfer.
        ca_file: certificates to trust, or None for the public ones.
    """
    trusted = ssl.create_default_context(cafile=ca_file) if ca_file else True
    return httpx.Client(
        trust_env=False,
        follow_redirects=False,
        http2=False,
        verify=trusted,
        timeout=httpx.Timeout(idle_s, connect=min(10, idle_s)),
        limits=httpx.Limits(max_connections=4, max_keepalive_connections=2),
    )


class DicomWebDestination:
    """One DICOMweb service.

    Args:
        url: its base URL, such as `https://pacs.example/dicom-web`.
        auth: how it knows us.
        limits: how much one request carries at most.
        idle_s: how long a connection may stand still.
        ca_file: certificates to trust, or None for the public ones.
        coerced: tags that it is recorded to change in what it stores.
    """

    def __init__(
        self,
        url: str,
        auth: Auth | None = None,
        *,
        limits: Limits | None = None,
        idle_s: float = 120,
        ca_file: str | None = None,
        coerced: frozenset[int] = frozenset(),
    ) -> None:
        base_url = url.rstrip("/")
        headers = (auth or Auth()).as_headers
        self._client = http_client(idle_s=idle_s, ca_file=ca_file)
        self._sender = StowSender(self._client, base_url, headers, limits)
        self._verifier = Verifier(
            self._client, base_url, headers, idle_s=idle_s, ca_file=ca_file, coerced=coerced
        )

    @property
    def strongest(self) -> Evidence:
        """Reading back; a commitment is not asked for."""
        return Evidence.READ_BACK

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._verifier.close()

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
        counts = {outcome: sum(r.outcome is outcome for r in results.values()) for outcome in Outcome}
        for outcome, count in counts.items():
            if count:
                log.info("instances sent outcome=%s instances=%d", outcome, count)
        return [results[i.uid] for i in instances]

    def prove(
        self, study_uid: str, instances: Sequence[Outgoing], demanded: Evidence
    ) -> dict[str, InstanceProof]:
        """Find out what it shows of these instances; see `Destination.prove`."""
        return self._verifier.prove(study_uid, instances, demanded)

    def _compare(self, study_uid: str, instances: Sequence[Outgoing]) -> dict[str, Result]:
        if not instances:
            return {}
        proofs = self._verifier.prove(study_uid, instances, Evidence.READ_BACK)
        return {i.uid: _of_proof(i.uid, proofs.get(i.uid)) for i in instances}


def _is_one_of_several(result: Result) -> bool:
    open_ended = result.outcome in (Outcome.UNKNOWN, Outcome.RETRY)
    return open_ended and (result.code == ONE_OF_SEVERAL or result.code.startswith("http-"))


def _of_proof(uid: str, proof: InstanceProof | None) -> Result:
    if proof is not None and proof.conflict:
        result = Result(uid, Outcome.CONFLICT, "other-content")
    elif proof is not None and proof.level is Evidence.READ_BACK:
        result = Result(uid, Outcome.ALREADY_THERE_SAME)
    else:
        result = Result(uid, Outcome.UNKNOWN, "not-readable")
    return replace(result, detail=explain(result.code))
