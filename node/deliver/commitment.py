"""Storage commitment over DICOMweb (PS3.18 chapter 13): the PACS takes responsibility for instances.

Called by `node.deliver.verify` where a destination demands it. The transaction's UID comes from what is asked
for, so a request that is answered later, or was cut off, is found again instead of being made anew.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence

import httpx

from node.deliver.answer import StoreAnswer, read_answer
from node.deliver.destination import Outgoing
from node.deliver.stow import raise_for_all, retry_after_s
from node.errors import DestinationUnreachable

log = logging.getLogger(__name__)
_NOT_OFFERED = frozenset({400, 404, 405, 406, 410, 415, 501})
_SHORTEST_S, _LONGEST_ANSWER = 1.0, 64 * 1024 * 1024


class Commitments:
    """Asks one service to commit.

    Args:
        client: sends the requests and knows what lets us in.
        base_url: of the DICOMweb service, without a slash at the end.
        patience_s: how long an answer that comes later is waited for at once.
        sleep: waits between two looks.

    Attributes:
        offered: whether the service does this; None while nobody has asked.
    """

    def __init__(
        self,
        client: httpx.Client,
        base_url: str,
        *,
        patience_s: float = 20,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._base_url = base_url
        self._patience_s = patience_s
        self._sleep = sleep
        self.offered: bool | None = None

    def committed(self, instances: Sequence[Outgoing]) -> frozenset[str]:
        """Return the SOP Instance UIDs for which the PACS takes responsibility.

        One that is not among them failed, or its answer has not come yet: ask again later.

        Raises:
            DestinationUnreachable, DestinationBusy, DestinationLocked: nothing is known.
        """
        if not instances or self.offered is False:
            return frozenset()
        url = f"{self._base_url}/commitment-requests/{transaction_uid(i.uid for i in instances)}"
        status, headers, answer = self._ask("GET", url)
        if status not in (200, 202) or (status == 200 and not answer.readable):
            status, headers, answer = self._ask("POST", url, _request(instances))
            if status in _NOT_OFFERED and not (answer.stored or answer.failed):
                self.offered = False
                log.info("storage commitment is not offered status=%d", status)
                return frozenset()
        waited = 0.0
        while status == 202 and not (answer.stored or answer.failed):
            self.offered = True
            pause = max(_SHORTEST_S, retry_after_s(headers.get("Retry-After")) or _SHORTEST_S)
            waited += pause
            if waited > self._patience_s:
                return frozenset()
            self._sleep(pause)
            status, headers, answer = self._ask("GET", url)
        if not (answer.stored or answer.failed):
            raise_for_all(status, headers.get("Retry-After"))
            return frozenset()
        self.offered = True
        asked = {i.uid for i in instances}
        failed = asked & answer.failed.keys()
        if failed:
            log.warning("not committed instances=%d total=%d", len(failed), len(asked))
        return frozenset(asked & answer.stored.keys() - failed)

    def _ask(
        self, method: str, url: str, body: bytes | None = None
    ) -> tuple[int, httpx.Headers, StoreAnswer]:
        headers = {"Accept": "application/dicom+json"}
        if body is not None:
            headers["Content-Type"] = "application/dicom+json"
        try:
            with self._client.stream(method, url, content=body, headers=headers) as response:
                said = bytearray()
                for piece in response.iter_bytes():
                    said += piece
                    if len(said) > _LONGEST_ANSWER:
                        said.clear()
                        break
                return response.status_code, response.headers, read_answer(bytes(said))
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            kind = type(error).__name__
        # Outside of the handler: the error of httpx holds the URL, and must not be chained.
        log.info("line broke while asking for a commitment error=%s", kind)
        raise DestinationUnreachable("the line broke while asking for a commitment")


def transaction_uid(uids: Iterable[str]) -> str:
    """Return the UID of the transaction that asks for these instances: the same for the same ones."""
    digest = hashlib.sha256("\n".join(["clinicmesh/commitment/1", *sorted(uids)]).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def _request(instances: Sequence[Outgoing]) -> bytes:
    """Return the request's data set (PS3.18 §13.4): what is to be committed."""
    items = [
        {
            "00081150": {"vr": "UI", "Value": [one.sop_class]},
            "00081155": {"vr": "UI", "Value": [one.uid]},
        }
        for one in instances
    ]
    return json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()
