"""A blob that is received in pieces, at either end of a meeting.

What has come is kept every second: neither a line that is cut, nor a battery that dies, costs more than that
of a blob that may take twenty minutes.
"""

import time

from node.mesh.exchange import Exchange
from sync.errors import BadBlob
from sync.ids import BlobId

_KEEP_S = 1.0


class Receiving:
    """One transfer of a blob, or of its rest.

    Args:
        exchange: where it goes.
        blob: its id.
        offset: how much of it is here already.
        total: its size; None if it is not known, as of a manifest that is fetched.
        limit: the most that may come, all together.
    """

    def __init__(
        self, exchange: Exchange, blob: BlobId, offset: int, *, total: int | None, limit: int
    ) -> None:
        self._exchange = exchange
        self._blob = blob
        self._offset = self._began = offset
        self._total = total
        self._limit = limit
        self._octets = bytearray()
        self._kept_s = time.monotonic()

    @property
    def all_by_this(self) -> bool:
        """Whether the whole blob came by this transfer, so that its sender answers for all of it."""
        return self._began == 0

    @property
    def came(self) -> int:
        """How many octets came by this transfer."""
        return self._offset - self._began + len(self._octets)

    def add(self, piece: bytes) -> bool:
        """Take a piece in; say whether it is time to `keep`.

        Raises:
            BadBlob: more comes than there can be.
        """
        self._octets += piece
        if self._offset + len(self._octets) > self._limit:
            raise BadBlob("longer than it should be")
        return time.monotonic() - self._kept_s > _KEEP_S

    def keep(self) -> None:
        """Keep what has come, so that it goes on from there.

        Raises:
            Refused: it is not wanted any more.
            WrongOffset: another transfer brings the same blob.
            DiskFull: there is no room.
        """
        self._kept_s = time.monotonic()
        if self._total is None or not self._octets or self._offset + len(self._octets) >= self._total:
            return
        self._exchange.keep_part(self._blob, self._offset, bytes(self._octets), self._total)
        self._offset += len(self._octets)
        self._octets.clear()

    def finish(self) -> bool:
        """Keep the blob, or its last part, that came to its end; say whether it is whole and durable.

        Raises:
            As `Exchange.put_blob`.
        """
        data = bytes(self._octets)
        total = self._offset + len(data) if self._total is None else self._total
        return self._exchange.put_blob(self._blob, self._offset, data, total)
