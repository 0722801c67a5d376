"""Filling packs: sealed blobs of one type go into the store as they come, until a pack is large enough.

A pack's name is the hash of its content, so that it is known last: the store takes the pieces of a pack without a name
(`Store.begin_pack`), and the pack appears when it is given one. What is held in memory is less than a piece.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from engine.blob import BlobType, PackedBlob
from engine.crypto import SealingKey
from engine.index import IndexedPack
from engine.pack import encode_header
from engine.store import Buffer, PackUpload, Store

PACK_SIZE = 16 << 20
# Beyond about 400,000 entries restic refuses a pack's header; blobs of a few bytes would get there before the pack is full.
BLOBS_PER_PACK = 200_000
# Small blobs are handed on together: each piece costs a system call and a call of the hash.
PIECE_SIZE = 256 << 10

Stored = Callable[[IndexedPack, int], None]


class PackWriter:
    """Collects sealed blobs of one type into packs. Safe for use from several threads.

    `stored` is called with each pack (and its size in bytes) once the store has it, from an uploading thread.
    """

    def __init__(
        self,
        store: Store,
        key: SealingKey,
        blob_type: BlobType,
        uploads: ThreadPoolExecutor,
        slots: threading.BoundedSemaphore,
        stored: Stored,
    ) -> None:
        self._store, self._key, self._type = store, key, blob_type
        self._uploads, self._slots, self._stored = uploads, slots, stored
        self._lock = threading.Lock()
        self._pack: _OpenPack | None = None
        self._pending: set[Future[None]] = set()
        self._failure: BaseException | None = None

    def add(self, blob_id: bytes, sealed: Buffer, uncompressed_length: int) -> None:
        """Append a sealed blob; `uncompressed_length` is 0 for a raw one. Raises what an earlier upload failed with."""
        self.add_pieces(blob_id, (sealed,), uncompressed_length)

    def add_pieces(self, blob_id: bytes, sealed: Iterable[Buffer], uncompressed_length: int) -> None:
        """Append a sealed blob that comes in pieces. Raises also what these fail with, and then can be used no more."""
        full: _OpenPack | None = None
        with self._lock:
            self._raise_failure()
            if self._pack is None:
                self._pack = _OpenPack(self._store.begin_pack())
            pack, offset = self._pack, self._pack.size
            try:
                for piece in sealed:
                    pack.append(piece)
            except BaseException as error:
                # Nobody may go on with a pack of which a part is missing.
                self._failure, self._pack = error, None
                pack.upload.abandon()
                raise
            pack.blobs.append(PackedBlob(self._type, blob_id, offset, pack.size - offset, uncompressed_length))
            if pack.size >= PACK_SIZE or len(pack.blobs) >= BLOBS_PER_PACK:
                full, self._pack = pack, None
        if full is not None:
            self._finish(full)

    def flush(self) -> None:
        """Give the store what is left and return once everything is stored. Raises what an upload failed with."""
        with self._lock:
            self._raise_failure()
            rest, self._pack = self._pack, None
        if rest is not None:
            self._finish(rest)
        while True:
            with self._lock:
                pending = list(self._pending)
            if not pending:
                break
            for upload in pending:
                upload.exception()
        self._raise_failure()

    def abandon(self) -> None:
        """Give up the pack that is not full yet."""
        with self._lock:
            rest, self._pack = self._pack, None
        if rest is not None:
            rest.upload.abandon()

    def _finish(self, pack: "_OpenPack") -> None:
        # Bounds memory, and what a crash loses: who fills packs faster than the store takes them waits here.
        self._slots.acquire()
        try:
            upload = self._uploads.submit(self._store_pack, pack)
        except BaseException:
            self._slots.release()
            raise
        with self._lock:
            self._pending.add(upload)
        upload.add_done_callback(self._finished)

    def _store_pack(self, pack: "_OpenPack") -> None:
        try:
            pack_id = pack.close(encode_header(pack.blobs, self._key))
        except BaseException:
            pack.upload.abandon()
            raise
        self._stored(IndexedPack(pack_id, pack.blobs), pack.size)

    def _finished(self, upload: Future[None]) -> None:
        self._slots.release()
        with self._lock:
            if upload.cancelled():
                self._pending.discard(upload)
                return
            self._failure = self._failure or upload.exception()
            self._pending.discard(upload)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class _OpenPack:
    """A pack that is being filled. `size`: bytes so far."""

    def __init__(self, upload: PackUpload) -> None:
        self.upload = upload
        self.blobs: list[PackedBlob] = []
        self.size = 0
        self._hash = hashlib.sha256()
        self._piece = bytearray()

    def append(self, content: Buffer) -> None:
        self.size += len(content)
        if len(content) < PIECE_SIZE:
            self._piece += content
            if len(self._piece) >= PIECE_SIZE:
                self._hand_over_piece()
            return
        self._hand_over_piece()
        self._hand_over(content)

    def close(self, header: bytes) -> bytes:
        """Write the pack's end and have the store show it; return its id."""
        self.append(header)
        self._hand_over_piece()
        pack_id = self._hash.digest()
        self.upload.finish(pack_id.hex())
        return pack_id

    def _hand_over_piece(self) -> None:
        if self._piece:
            self._hand_over(self._piece)
            self._piece = bytearray()

    def _hand_over(self, piece: Buffer) -> None:
        self._hash.update(piece)
        self.upload.write(piece)
