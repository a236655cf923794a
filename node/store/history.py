"""What this node has taken in before, as keyed digests: it recognises images and keeps nothing of them.

A row for each study that was kept, with sixteen octets for each image: eight of a keyed digest of its number
(SOP Instance UID), and eight of one of its content. Without the node's key they say nothing; they are no
patient data, and outlive the study. Read by the examination, written with the entry.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from node.store.database import Database
from node.store.tables import HistoryRow

IMAGE_LIMIT = 2_000_000
"""So many images are remembered, 32 MB; the oldest studies are forgotten first."""

_TAG_BYTES = 8


@dataclass(frozen=True, slots=True)
class Had:
    """How many of some images were here before: the same ones, and other content under the same number."""

    same: int = 0
    other: int = 0


class History:
    """Recognises what was kept here. `key` gives the key of the digests, or raises Locked."""

    def __init__(self, database: Database, key: Callable[[], bytes]) -> None:
        self._database = database
        self._key = key

    def had(self, study_uid: str, images: Iterable[tuple[str, str]]) -> Had:
        """Say what of a study was here before; `images` are their UIDs and the hex SHA-256 of their bytes.

        Raises:
            Locked: the passphrase is needed.
        """
        key = self._key()
        with self._database.read() as session:
            rows = session.exec(
                select(HistoryRow.images).where(col(HistoryRow.study) == _tag(key, b"study", study_uid))
            ).all()
        before: dict[bytes, set[bytes]] = {}
        for row in rows:
            for at in range(0, len(row), 2 * _TAG_BYTES):
                number, content = row[at : at + _TAG_BYTES], row[at + _TAG_BYTES : at + 2 * _TAG_BYTES]
                before.setdefault(number, set()).add(content)
        same = other = 0
        for uid, sha256 in images:
            contents = before.get(_tag(key, b"image", uid))
            if contents is not None:
                known = _tag(key, b"bytes", sha256) in contents
                same, other = same + known, other + (not known)
        return Had(same, other)

    def noting(self, study_uid: str, images: Iterable[tuple[str, str]]) -> Callable[[Session], None]:
        """Return what notes a study as kept, within the transaction that keeps it.

        Raises:
            Locked: the passphrase is needed.
        """
        key = self._key()
        told = [_tag(key, b"image", uid) + _tag(key, b"bytes", sha256) for uid, sha256 in images]
        study = _tag(key, b"study", study_uid)

        def note(session: Session) -> None:
            session.add(HistoryRow(study=study, count=len(told), images=b"".join(told)))
            session.flush()
            _forget_oldest(session)

        return note


def _forget_oldest(session: Session) -> None:
    total = session.exec(select(func.sum(HistoryRow.count))).one() or 0
    while total > IMAGE_LIMIT:
        oldest = session.exec(select(HistoryRow).order_by(col(HistoryRow.id)).limit(2)).all()
        if len(oldest) < 2:
            return
        total -= oldest[0].count
        session.delete(oldest[0])
        session.flush()


def _tag(key: bytes, purpose: bytes, value: str) -> bytes:
    return hashlib.blake2b(value.encode(), digest_size=_TAG_BYTES, key=key, person=purpose).digest()
