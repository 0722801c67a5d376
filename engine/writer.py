"""Writing blobs: sealed into packs, uploaded in the background, listed in the index once their pack is stored.

    add_blob ── compress ── seal ── PackWriter (16 MiB a pack) ── store ── IndexWriter ── index file

The order is the format's promise: an index file names stored packs only, and a snapshot is written after `flush`. Worker
processes own a PackWriter each and hand their finished packs to the one process that owns the IndexWriter.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from engine.blob import BlobType
from engine.bounds import MOVED_BYTES
from engine.compression import compress, compress_pieces
from engine.crypto import SealingKey
from engine.errors import TooLarge
from engine.index import BLOBS_PER_FILE, Index, IndexedPack, encode_index
from engine.packer import PackWriter
from engine.store import Buffer, FileKind, Store

# A run that is killed loses the index of what it uploaded since the last index file, and so uploads that again.
INDEX_EVERY_S = 60.0

SaveFile = Callable[[FileKind, bytes], str]


class IndexWriter:
    """Teaches the index in memory each stored pack, and writes index files while a long backup goes on.

    It knows which blobs are on their way: who claims one stores it, and the claim is forgotten when the index has it.
    """

    def __init__(self, index: Index, save_file: SaveFile) -> None:
        self._index, self._save_file = index, save_file
        self._lock = threading.Lock()
        self._claimed: set[tuple[BlobType, bytes]] = set()
        self._packs: list[IndexedPack] = []
        self._blobs = 0
        self._begun = time.monotonic()
        self.bytes_stored = 0

    def claim(self, blob_type: BlobType, blob_id: bytes) -> bool:
        """Return whether the blob is new and nobody has claimed it yet."""
        claim = blob_type, blob_id
        with self._lock:
            if claim in self._claimed or self._index.has(blob_type, blob_id):
                return False
            self._claimed.add(claim)
            return True

    def add_pack(self, pack: IndexedPack, size: int) -> None:
        """Note a pack that the store has; `size` in bytes."""
        with self._lock:
            self._index.add_pack(pack)
            self._claimed.difference_update([(blob.type, blob.id) for blob in pack.blobs])
            self._packs.append(pack)
            self._blobs += len(pack.blobs)
            self.bytes_stored += size
            is_due = self._blobs >= BLOBS_PER_FILE or time.monotonic() - self._begun >= INDEX_EVERY_S
            packs = self._take() if is_due else []
        self._write(packs)

    def flush(self, supersedes: Iterable[str] = ()) -> None:
        """Write what no index file names yet; `supersedes`: names of the index files that this one and those before it replace."""
        with self._lock:
            packs = self._take()
        self._write(packs, supersedes)

    def _take(self) -> list[IndexedPack]:
        packs, self._packs, self._blobs, self._begun = self._packs, [], 0, time.monotonic()
        return packs

    def _write(self, packs: list[IndexedPack], supersedes: Iterable[str] = ()) -> None:
        if packs:
            self._save_file(FileKind.INDEX, encode_index(packs, supersedes))


def seal_blob(key: SealingKey, data: Buffer, version: int) -> tuple[bytearray, int]:
    """Return the sealed blob and its uncompressed length (0: stored raw), as a repository of `version` has it."""
    frame = compress(data) if version >= 2 else None
    if frame is None:
        return key.seal(data), 0
    return key.seal(frame), len(data)


class RepositoryWriter:
    """Adds blobs to a repository, each once. Safe for use from several threads; a context manager that flushes.

    Leaving the block by an exception gives up what is not stored yet: nothing names it, so nothing is broken.
    """

    def __init__(
        self, store: Store, key: SealingKey, version: int, index: Index, save_file: SaveFile
    ) -> None:
        self._key, self._version = key, version
        uploads = store.parallel_uploads
        self._executor = ThreadPoolExecutor(uploads, thread_name_prefix="upload")
        slots = threading.BoundedSemaphore(uploads)
        self.indexing = IndexWriter(index, save_file)
        self._packers = {
            blob_type: PackWriter(store, key, blob_type, self._executor, slots, self.indexing.add_pack)
            for blob_type in BlobType
        }

    def __enter__(self) -> "RepositoryWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._executor.shutdown(wait=True, cancel_futures=True)
            for packer in self._packers.values():
                packer.abandon()

    @property
    def bytes_stored(self) -> int:
        """The bytes of the packs that the store has taken."""
        return self.indexing.bytes_stored

    def claim(self, blob_type: BlobType, blob_id: bytes) -> bool:
        """Return whether the blob is new; who gets True must add it, everybody else need not."""
        return self.indexing.claim(blob_type, blob_id)

    def add_blob(self, blob_type: BlobType, blob_id: bytes, data: Buffer) -> bool:
        """Store the blob unless the repository has it; return whether it was new. `blob_id`: SHA-256 of `data`."""
        if not self.claim(blob_type, blob_id):
            return False
        self.add_claimed(blob_type, blob_id, data)
        return True

    def add_claimed(self, blob_type: BlobType, blob_id: bytes, data: Buffer) -> int:
        """Store a blob that `claim` answered True for; return its stored size in bytes."""
        sealed, uncompressed_length = seal_blob(self._key, data, self._version)
        self._packers[blob_type].add(blob_id, sealed, uncompressed_length)
        return len(sealed)

    def add_sealed(self, blob_type: BlobType, blob_id: bytes, sealed: Iterable[Buffer], uncompressed_length: int) -> None:
        """Store a blob as it lies in another pack, in pieces, whether the repository has it or not.

        The caller has checked its content.
        """
        self._packers[blob_type].add_pieces(blob_id, sealed, uncompressed_length)

    def add_pieces(self, blob_type: BlobType, blob_id: bytes, read: Callable[[], Iterable[Buffer]], size: int) -> None:
        """Store a blob of `size` bytes that `claim` answered True for, and that is too large to be held in memory.

        `read` yields its content in pieces, and is called twice. Raises TooLarge, before anything is stored, for what is so large
        as stored that it is not brought to another pack.
        """

        def stored() -> Iterable[Buffer]:
            return compress_pieces(read(), size) if self._version >= 2 else read()

        stored_size = sum(map(len, stored()))
        if stored_size > MOVED_BYTES:
            raise TooLarge(f"the {blob_type.label} blob {blob_id.hex()} of {stored_size} bytes is larger than is stored anew")
        self._packers[blob_type].add_pieces(blob_id, self._key.seal_pieces(stored()), size if self._version >= 2 else 0)

    def flush(self) -> None:
        """Return once every blob that was added is stored and named by an index file."""
        for packer in self._packers.values():
            packer.flush()
        self.indexing.flush()
