"""Errors of the node: what went wrong, whose fault it is, and whether to try again.

Messages hold ids and counts, never what a file or a person said. `code` is stable: it goes to
logs, the API (RFC 9457) and the app. HTTP statuses are decided in `node.api.problems`.

NodeError
  BadSettings              the operator must change a setting
  NotRunning               the command needs a running node
  Locked                   the keystore is locked; a passphrase is needed
  DiskFull                 the disk reserve is reached; nothing was taken
  StoreDamaged             a file of the store is not what its name says
    BlobMissing            a blob is not in this store
    UploadDamaged          the node's copy of an upload is damaged; it must be sent again
  CodecUnknown             a newer version of the program coded this study; update this one
  ContentDiffers           an instance is not what was confirmed
  StoreTooNew              a newer version of the program wrote the database; update this one
  PeerUnreachable          nobody answers at a peer's address, or the line was cut; the schedule comes back
  PeerRefused              a peer answered with an error
  WorkerFailed             the process that reads image headers does not start
  WrongOffset              a part does not go on where the last one ended; ask for the offset
  Refused                  a request that is wrong; the sender must change it
  DestinationUnreachable   no answer of a PACS came: no network, or something else answers there
  DestinationBusy          the PACS asks to come back later
  DestinationLocked        the PACS refuses the credentials; a person must renew them
"""


class NodeError(Exception):
    """Base of all errors that the node raises on purpose."""

    code = "node-error"
    retry = False


class BadSettings(NodeError):
    """A setting is missing, unknown or impossible."""

    code = "bad-settings"


class NotRunning(NodeError):
    """The command talks to the running node, and none runs on this data folder."""

    code = "node-not-running"


class Locked(NodeError):
    """The keystore is locked."""

    code = "keystore-locked"


class DiskFull(NodeError):
    """The disk reserve is reached."""

    code = "disk-full"
    retry = True


class StoreDamaged(NodeError):
    """A file of the store is not what its name says."""

    code = "store-damaged"


class BlobMissing(StoreDamaged):
    """A blob is not in this store."""

    code = "blob-missing"


class UploadDamaged(StoreDamaged):
    """The node's copy of an upload is damaged."""

    code = "upload-damaged"


class CodecUnknown(NodeError):
    """A newer version of the program coded this study."""

    code = "codec-unknown"


class ContentDiffers(NodeError):
    """An instance is not what was confirmed."""

    code = "content-differs"


class StoreTooNew(NodeError):
    """A newer version of the program wrote the database."""

    code = "store-too-new"


class PeerUnreachable(NodeError):
    """Nobody answers at a peer's address, or the line was cut."""

    code = "peer-unreachable"
    retry = True


class PeerRefused(NodeError):
    """A peer answered with an error; `peer_code` is its stable code."""

    code = "peer-refused"

    def __init__(self, detail: str, peer_code: str = "") -> None:
        super().__init__(detail)
        self.peer_code = peer_code


class WorkerFailed(NodeError):
    """The process that reads image headers does not start."""

    code = "worker-failed"
    retry = True


class WrongOffset(NodeError):
    """A part does not go on where the last one ended."""

    code = "wrong-offset"
    retry = True

    def __init__(self, offset: int) -> None:
        super().__init__(f"expected offset {offset}")
        self.offset = offset


class Refused(NodeError):
    """A request that is wrong. `code` says how; the text is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class DestinationUnreachable(NodeError):
    """No answer of a PACS came: no network, a broken line, or something else answers there."""

    code = "destination-unreachable"
    retry = True


class DestinationBusy(NodeError):
    """The PACS, or what stands before it, asks to come back later."""

    code = "destination-busy"
    retry = True

    def __init__(self, retry_after_s: float | None = None) -> None:
        super().__init__("the destination is busy")
        self.retry_after_s = retry_after_s


class DestinationLocked(NodeError):
    """The PACS refuses the credentials."""

    code = "destination-locked"
