"""Errors of the protocol. They say whose fault it is: ours (LocalError) or the sender's (PeerError).

SyncError
  LocalError
    BadValue                 a value that this node made cannot be said in the protocol
    ReconcileMisuse          a set, a limit or an order of calls that reconciliation does not allow
  PeerError
    BadCbor                  not deterministic CBOR
    BadFact                  not a well-formed, well-signed fact of this mesh
    BadBlob                  a segment that is not what its name or key says
    BadManifest              a manifest that is malformed or too large
    CannotOpen               none of the sealed keys opens with this secret
    BadReconcileMessage      not a Negentropy version 1 message
    BadInvitation            an invitation code or its answer is wrong
"""


class SyncError(Exception):
    """Base of all errors that the protocol raises. `code` is stable."""

    code = "sync-error"


class LocalError(SyncError):
    """This node did wrong."""

    code = "local-error"


class BadValue(LocalError):
    """A value that this node made cannot be said in the protocol."""

    code = "bad-value"


class ReconcileMisuse(LocalError, ValueError):
    """A set, a limit or an order of calls that reconciliation does not allow."""

    code = "reconcile-misuse"


class PeerError(SyncError):
    """The sender did wrong; what was sent is dropped."""

    code = "peer-error"


class BadCbor(PeerError):
    """Not deterministic CBOR."""

    code = "bad-cbor"


class BadFact(PeerError):
    """Not a well-formed, well-signed fact of this mesh."""

    code = "bad-fact"


class BadBlob(PeerError):
    """A segment that is not what its name or key says."""

    code = "bad-blob"


class BadManifest(PeerError):
    """A manifest that is malformed or too large."""

    code = "bad-manifest"


class CannotOpen(PeerError):
    """None of the sealed keys opens with this secret."""

    code = "cannot-open"


class BadReconcileMessage(PeerError):
    """Not a Negentropy version 1 message."""

    code = "bad-reconcile-message"


class BadInvitation(PeerError):
    """An invitation code or its answer is wrong."""

    code = "bad-invitation"
