"""How large the pieces of a repository are taken to be: what is larger is no program's work, and is refused before it is read.

Whoever holds a host's keys can write whatever they like into its repository, and have it decrypt. Each number is what restic can
write at most, times a factor, or the format's own end, so that every repository of restic stays readable; below it, no verb takes
512 MiB of memory for what is in a file, a tree or an entry. Trees are read whole up to `TREE_BYTES`, and entry by entry beyond, so
that a directory of a million entries costs no more memory than one of ten thousand.
"""

from engine.blob import BlobType
from engine.errors import TooLarge
from engine.store import FileKind

_MIB = 1 << 20
# What is so small may grow as it likes.
_SMALL = 64 << 10

FILE_BYTES = {
    # These take a few hundred bytes.
    FileKind.CONFIG: _MIB,
    FileKind.KEYS: _MIB,
    FileKind.LOCKS: _MIB,
    # Paths and patterns are listed in each: a hundred thousand of them fit.
    FileKind.SNAPSHOTS: 8 * _MIB,
    # restic closes an index file at 50,000 blobs (8 MiB), or behind the pack that brings it to 460,000 (75 MiB).
    FileKind.INDEX: 128 * _MIB,
    # A pack that is asked for as a whole; restic fills them up to 128 MiB, and what only reads blobs has no use for this.
    FileKind.DATA: 256 * _MIB,
}
"""The most bytes of a file, as it is stored and as it is unpacked."""

GROWTH = {
    # Half of an id's 64 digits cannot be compressed away, so that 5 is honest; what an index takes is what somebody had to store.
    FileKind.INDEX: 8,
    FileKind.SNAPSHOTS: 256,
}
"""How many times its size a file may unpack to."""

SNAPSHOTS_BYTES = 160 * _MIB
"""The most memory for the snapshots of a repository: eighty thousand of them, if paths and patterns are the same in most."""

BLOB_BYTES = {
    # The format's chunks of files end at 8 MiB.
    BlobType.DATA: 16 * _MIB,
    BlobType.TREE: 512 * _MIB,
}
"""The most bytes of a blob that is held in memory as a whole, stored or unpacked."""

HEADER_BYTES = 16 * _MIB
"""The most bytes of a pack's header: restic's limit."""

BLOBS_IN_PACK = HEADER_BYTES // 37
"""The most blobs of a pack: as many of the shortest entries as a header holds."""

WINDOW_BYTES = 32 * _MIB
"""The most bytes that a frame may look back over, and that whoever unpacks it piece by piece must keep: restic's most."""

TREE_BYTES = 8 * _MIB
"""The most bytes of a tree that is held in memory as a whole: twenty thousand entries."""

MOVED_BYTES = 384 * _MIB
"""The most bytes, as stored, of a tree that is brought to another pack: a store of objects takes a pack as a whole."""

ENTRY_BYTES = 16 * _MIB
"""The most bytes of an entry of a tree, without the ids of a file's pieces: the rest are names and extended attributes."""

CONTENT_BLOBS = 1 << 23
"""The most pieces of a file: eight tebibytes of it, or twelve as restic cuts it; 256 MiB of ids."""


def require_size(kind: FileKind, name: str, size: int) -> None:
    """Raise TooLarge for a file of `size` bytes that no program writes."""
    if size > FILE_BYTES[kind]:
        raise TooLarge(f"{kind.value} file {name} has {size} bytes, where no program writes more than {FILE_BYTES[kind]}")


def require_blob_size(blob_type: BlobType, length: int, uncompressed_length: int) -> None:
    """Raise TooLarge for a blob that is not held in memory as a whole."""
    size = max(length, uncompressed_length)
    if size > BLOB_BYTES[blob_type]:
        raise TooLarge(f"a {blob_type.label} blob of {size} bytes is larger than any that is read at once")


def unpacked_limit(kind: FileKind, stored: int) -> int:
    """Return how many bytes a file of which `stored` are stored may unpack to."""
    return min(FILE_BYTES[kind], GROWTH[kind] * stored + _SMALL) if kind in GROWTH else FILE_BYTES[kind]
