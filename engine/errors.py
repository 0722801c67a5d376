"""What can go wrong with a repository: one class per thing a caller can do something about.

Each message is the sentence that a person reads, and names no secret.
"""


class EngineError(Exception):
    """The root of everything the engine raises on purpose."""


class Cancelled(EngineError):
    """The caller asked the operation to end."""

    def __init__(self) -> None:
        super().__init__("the operation was cancelled")


class WrongPassword(EngineError):
    """No key of the repository opens with this password."""


class RepositoryNotFound(EngineError):
    """There is no repository at this place."""


class RepositoryExists(EngineError):
    """There is a repository at this place already."""


class RepositoryLocked(EngineError):
    """Another process holds a lock that excludes ours."""


class LockLost(EngineError):
    """Our lock could not be renewed for so long that others may have taken it for stale."""


class RepositoryChanged(EngineError):
    """Another process changed what this one had relied on; doing it again helps."""


class UnsupportedRepository(EngineError):
    """The repository has a format version that this engine does not know."""


class SnapshotNotFound(EngineError):
    """No snapshot, or more than one, answers to this name."""


class InvalidPolicy(EngineError):
    """The rules for keeping snapshots cannot be read, or would keep none."""


class InvalidLimit(EngineError):
    """A limit of what a prune may leave or rewrite cannot be read."""


class PathNotFound(EngineError):
    """The snapshot has nothing of the wanted kind at this path."""


class BlobMissing(EngineError):
    """The index does not know a blob that is needed."""


class DataDamaged(EngineError):
    """Something stored is not what was written: truncated, altered, or not what its name says."""


class TooLarge(DataDamaged):
    """Something stored is larger than any program writes it, and was not read."""


class IndexIncomplete(EngineError):
    """The index is not what the packs are, so that nobody can say what is lost; it can be repaired from them."""


class UnsafePath(EngineError):
    """A name in the repository would lead out of the place that is restored to."""


class StoreError(EngineError):
    """The store failed, after its own retries."""


class StoreUnreachable(StoreError):
    """Nothing answers at the store's address."""


class CertificateRefused(StoreUnreachable):
    """What answers cannot show that it is the store."""


class AddressRefused(StoreError):
    """A store at this address must not be spoken to."""


class StoreBusy(StoreError):
    """The store says that it cannot for the moment, or fails inside."""


class AnswerBroken(StoreError):
    """What the store answers breaks off, or is not what was asked for."""


class InvalidCredentials(StoreError):
    """The store knows no such keys, or they do not fit together."""


class AccessDenied(StoreError):
    """The store knows the keys and refuses what they asked for."""


class BucketMissing(StoreError):
    """The bucket (or the directory) does not exist."""


class FileMissing(StoreError):
    """The store has no such file."""


class QuotaExceeded(StoreError):
    """The store is full, or the tenant's share of it is."""


UNREADABLE = (BlobMissing, DataDamaged, StoreError)
"""What reading something stored may come to, for those who tell it and go on with the rest."""
