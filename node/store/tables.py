"""The rows of the node's database: how checked values lie in SQLite.

Rows are not values: a table model accepts anything, so rows are made from checked values by the modules
beside this one and turned back there; nothing above `node.store` sees a row. Columns hold `int`, `str`
and `bytes`; enumerations are stored by value; what belongs to a patient is stored sealed or not at all.
"""

from sqlmodel import Field, SQLModel


class Row(SQLModel):
    """Base of all rows; its metadata is what `node.store.database` creates on opening."""


class FactRow(Row, table=True):
    """A signed fact, as it came. `node.store.factlog` keeps them; the header is in the bytes."""

    __tablename__ = "fact"

    id: bytes = Field(primary_key=True)
    membership: bool = Field(index=True)  # read first, so that authors are known before what they say
    raw: bytes
    seen_ms: int  # this node's life clock when it came


class EntryRow(Row, table=True):
    """What this node has of an entry. `node.store.queue` keeps them.

    All times are of this node's life clock, in milliseconds.
    """

    __tablename__ = "entry"

    id: bytes = Field(primary_key=True)
    study: bytes  # the signed study fact: announced again should its tombstone lose its standing
    origin: bool  # this node took the study in
    seen_ms: int
    complete: bool = False  # every blob is here, verified
    ended_ms: int | None = None  # when its tombstone became durable here
    erasing: bool = False  # intent: set before the first blob goes
    erased: bool = False
    failures: int = 0
    setback: str | None = None
    try_at_ms: int = 0


class EntryBlobRow(Row, table=True):
    """A blob that an entry's manifest lists, in the order of the stream."""

    __tablename__ = "entry_blob"

    entry: bytes = Field(primary_key=True)
    position: int = Field(primary_key=True)
    blob: bytes = Field(index=True)
    size: int


class ProofRow(Row, table=True):
    """What the destination at `place` has shown of an instance, by its position in the sealed index."""

    __tablename__ = "proof"

    entry: bytes = Field(primary_key=True)
    position: int = Field(primary_key=True)
    place: str
    outcome: str
    evidence: str | None = None


class ReceiptRow(Row, table=True):
    """The per-instance receipt of a delivery: levels by SHA-256 of the original bytes, without UIDs."""

    __tablename__ = "receipt"

    entry: bytes = Field(primary_key=True)
    receipt: bytes


class RemarkRow(Row, table=True):
    """What else is known of an instance at a destination: why it was refused, how it was changed."""

    __tablename__ = "remark"

    entry: bytes = Field(primary_key=True)
    position: int = Field(primary_key=True)
    code: str = ""
    change: str = ""  # what the destination forced, such as "explicit-vr"
    sent: bytes | None = None  # SHA-256 of the bytes that were sent, if they are others


class ReceiptNamesRow(Row, table=True):
    """What belongs to a patient in a receipt: UIDs by digest, or who took a study back and why."""

    __tablename__ = "receipt_names"

    entry: bytes = Field(primary_key=True)
    box: bytes  # sealed to this node's intake key


class LookRow(Row, table=True):
    """When this node looks again whether a PACS still has what it delivered. Times: its life clock."""

    __tablename__ = "look"

    entry: bytes = Field(primary_key=True)
    due_ms: int | None  # None: done
    missed: int = 0  # images that were not there at the last look
    result: str = ""  # "there", "recalled", or "" while it is due


class NoteRow(Row, table=True):
    """A small thing that this node remembers, by name."""

    __tablename__ = "note"

    name: str = Field(primary_key=True)
    value: bytes


class PeerRow(Row, table=True):
    """An address at which another node was typed in or met."""

    __tablename__ = "peer"

    address: str = Field(primary_key=True)  # "host:port"
    node: bytes | None = None
    typed: bool = False
    given: bool = False  # by the settings of this run; gone with them
    met_ms: int | None = None  # life clock of the last completed meeting


class SubmissionRow(Row, table=True):
    """What a person handed in at once. `node.store.intake` keeps them."""

    __tablename__ = "submission"

    id: str = Field(primary_key=True)
    client_id: str
    device: str = Field(index=True)
    kind: str
    state: str
    made_ms: int  # life clock; the oldest is examined first
    length: int | None = None
    examination: bytes | None = None  # sealed to the intake key
    confirmation: bytes | None = None  # sealed to the intake key
    confirmation_hash: bytes | None = None
    entries: bytes  # CBOR: [place in the confirmation, entry id] of what is kept already
    problem_code: str | None = None
    problem_detail: str | None = None  # one of our own sentences, with counts


class UploadRow(Row, table=True):
    """A tus upload. `offset` octets of it lie durably, sealed, in the first `position` of its spool file."""

    __tablename__ = "upload"

    id: str = Field(primary_key=True)
    submission: str = Field(index=True)
    device: str
    length: int
    offset: int
    position: int
    keys: bytes  # CBOR: [first offset, key sealed to the intake key]; empty once erased
    metadata_box: bytes  # what the client called it, sealed with the first key
    touched_ms: int  # life clock of the last progress
    erased: bool  # intent: set before the file goes


class HistoryRow(Row, table=True):
    """A study that was kept here, as keyed digests. `node.store.history` keeps them."""

    __tablename__ = "history"

    id: int | None = Field(default=None, primary_key=True)
    study: bytes = Field(index=True)
    count: int
    images: bytes
