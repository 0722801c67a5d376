"""A restic repository: its configuration and keys, its index, and the reading and writing of blobs and files.

This is the layer that the verbs in `engine.commands` stand on. It knows nothing of trees or snapshots. The configuration and the
files beside packs are specified in restic's design document, "Repository Layout" and "Unpacked Data Format".
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from engine.blob import BlobLocation, BlobType, parse_id
from engine.bounds import FILE_BYTES, require_blob_size, unpacked_limit
from engine.compression import decompress, decompress_pieces, pack_file, unpack_file
from engine.crypto import KeyMaterial, SealingKey
from engine.errors import (
    BlobMissing,
    BucketMissing,
    DataDamaged,
    FileMissing,
    RepositoryExists,
    RepositoryNotFound,
    TooLarge,
    UnsupportedRepository,
    WrongPassword,
)
from engine.index import Index, decode_index
from engine.keys import DerivedKeys, OpenedKey, add_key, open_key
from engine.locks import Lock, hold_lock
from engine.pack import LENGTH_SIZE, sealed_header_length
from engine.polynomial import random_irreducible
from engine.readahead import ReadAhead, map_ahead
from engine.store import Buffer, FileKind, Store
from engine.writer import RepositoryWriter

VERSIONS = (1, 2)
READERS = 4
# What of index files waits to be decoded, as it is unpacked: four of the usual size.
AHEAD_BYTES = 64 << 20
# The least that a blob takes in an index file: half of an id's digits cannot be compressed away. What is expected too few costs a
# second table, half as large again; too many, a byte each.
INDEX_BYTES_PER_BLOB = {1: 120, 2: 41}
HEADER_GUESS = 16 << 10
# What is read at once of a blob that is streamed.
STREAMED = 4 << 20


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """What a repository says about itself. `id`: 64 hexadecimal digits."""

    version: int
    id: str
    chunker_polynomial: str

    def encode(self) -> bytes:
        fields = {"version": self.version, "id": self.id, "chunker_polynomial": self.chunker_polynomial}
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, content: bytes) -> "RepositoryConfig":
        try:
            fields = json.loads(content)
            config = cls(int(fields["version"]), str(fields["id"]), str(fields["chunker_polynomial"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataDamaged("a field is missing or unreadable") from error
        if config.version not in VERSIONS:
            raise UnsupportedRepository(f"the repository has format version {config.version}, which is not known here")
        return config


class Repository:
    """An opened repository. Safe for use from several threads."""

    def __init__(self, store: Store, key: SealingKey, key_name: str, config: RepositoryConfig) -> None:
        self.store = store
        self.key = key
        self.key_name = key_name
        self.config = config
        self.index = Index()
        self._index_files: set[str] = set()
        self._index_lock = threading.Lock()
        self._trees = ReadAhead(store)

    @classmethod
    def init(cls, store: Store, password: str, *, version: int = 2) -> "Repository":
        """Make a new repository, and the bucket or directory for it; one whose maker died is finished. Raises RepositoryExists."""
        if version not in VERSIONS:
            raise UnsupportedRepository(f"format version {version} is not known here")
        store.create()
        if store.exists(FileKind.CONFIG, ""):
            raise RepositoryExists(f"there is a repository at {store.location} already")
        opened = _key_of_unfinished(store, password) or add_key(store, password, KeyMaterial.generate())
        config = RepositoryConfig(version, os.urandom(32).hex(), f"{random_irreducible():x}")
        repository = cls(store, SealingKey(opened.material), opened.name, config)
        # Last: without it there is no repository, and whoever has the password can go on from a crash before.
        store.put(FileKind.CONFIG, "", bytes(repository.key.seal(config.encode())))
        return repository

    @classmethod
    def open(cls, store: Store, password: str, derived: DerivedKeys | None = None) -> "Repository":
        """Open a repository without reading its index.

        `derived`: keys that passwords were derived to before, which is slow on purpose; this one is added. Raises WrongPassword,
        RepositoryNotFound, UnsupportedRepository, DataDamaged, StoreError.
        """
        try:
            sealed = store.get(FileKind.CONFIG, "")
        except (FileMissing, BucketMissing) as error:
            raise RepositoryNotFound(f"there is no repository at {store.location}") from error
        opened = open_key(store, password, derived)
        key = SealingKey(opened.material)
        try:
            config = RepositoryConfig.decode(key.open(sealed))
        except DataDamaged as error:
            raise DataDamaged(f"the configuration of the repository at {store.location} is damaged: {error}") from error
        return cls(store, key, opened.name, config)

    def load_index(self) -> None:
        """Read the index files that were not read yet; blobs that are known already stay. Raises DataDamaged, StoreError.

        If some that were read are gone, all are read anew: a prune may have moved what they told of. Others who want the index at
        the same time wait.
        """
        with self._index_lock:
            files = dict(self.store.list(FileKind.INDEX))
            index, known = self.index, self._index_files
            if not known <= files.keys():
                index, known = Index(), set()
            self.reserve_index(files, index)
            new = {name: size for name, size in files.items() if name not in known}
            for name, content in self.load_files(FileKind.INDEX, new):
                for pack in decode_index(content, name):
                    index.add_pack(pack)
                known.add(name)
                del content  # while the next is read
            self.index, self._index_files = index, known

    def reserve_index(self, sizes: Mapping[str, int], index: Index | None = None) -> None:
        """Have an index (the repository's own, if none is given) that is empty make room for what files of these sizes tell."""
        index = self.index if index is None else index
        if not len(index):
            expected = sum(min(size, FILE_BYTES[FileKind.INDEX]) for size in sizes.values())
            index.reserve(BlobType.DATA, expected // INDEX_BYTES_PER_BLOB[self.config.version])

    def unload_index(self) -> None:
        """Know of no blob, until the index is read again.

        Whoever goes on to store what the index does not know does this first, under a lock: what an earlier run of this very
        object stored may be gone by a prune, or named by no index file, and `load_index` would keep it.
        """
        with self._index_lock:
            self.index, self._index_files = Index(), set()

    def load_file(self, kind: FileKind, name: str) -> bytes:
        """Return the plaintext of an index, snapshot or lock file. Raises FileMissing, DataDamaged."""
        sealed = self.store.get(kind, name)
        if kind is not FileKind.CONFIG and hashlib.sha256(sealed).hexdigest() != name:
            raise DataDamaged(f"{kind.value} file {name} was altered")
        limit = unpacked_limit(kind, len(sealed))
        plaintext = self.key.open(sealed)
        del sealed  # that of an index file may be as large as what follows
        if kind is FileKind.CONFIG:
            return plaintext
        try:
            return unpack_file(plaintext, limit)
        except TooLarge as error:
            raise TooLarge(f"{kind.value} file {name} unpacks to more than {limit} bytes, which no program writes") from error

    def load_files(self, kind: FileKind, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Yield name and plaintext of each of these files (names and sizes as stored), in their order. Raises as `load_file` does.

        Some are read ahead, as many as are small.
        """

        def load(name: str) -> tuple[str, bytes]:
            return name, self.load_file(kind, name)

        def weigh(name: str) -> int:
            return sizes[name] if self.config.version < 2 else unpacked_limit(kind, sizes[name])

        with ThreadPoolExecutor(READERS, thread_name_prefix=kind.value) as readers:
            yield from map_ahead(readers, load, sizes, AHEAD_BYTES, weigh)

    def save_file(self, kind: FileKind, payload: bytes) -> str:
        """Write an index, snapshot or lock file and return its name."""
        sealed = bytes(self.key.seal(pack_file(payload, self.config.version)))
        name = hashlib.sha256(sealed).hexdigest()
        self.store.put(kind, name, sealed)
        return name

    def locate(self, blob_type: BlobType, blob_id: bytes) -> BlobLocation:
        """Return where a blob lies. Raises BlobMissing."""
        location = self.index.find(blob_type, blob_id)
        if location is None:
            raise BlobMissing(f"the {blob_type.label} blob {blob_id.hex()} is not in the index")
        return location

    def load_blob(self, blob_type: BlobType, blob_id: bytes) -> bytes:
        """Return a blob's content, from another pack if it cannot be had from the first.

        Raises BlobMissing, DataDamaged, FileMissing; TooLarge for what is not held in memory as a whole.
        """
        try:
            return self._load_from(self.locate(blob_type, blob_id), blob_type, blob_id)
        except (DataDamaged, FileMissing):
            for other in self.index.other_places(blob_type, blob_id):
                with contextlib.suppress(DataDamaged, FileMissing):
                    return self._load_from(other, blob_type, blob_id)
            raise

    def stream_blob(self, blob_type: BlobType, blob_id: bytes) -> Iterator[bytes]:
        """Yield a blob's content in pieces: for one that is too large to be held in memory.

        It is read twice, since nothing of it can be believed before all of it was checked. Raises as `load_blob` does, all but
        StoreError's family before anything is yielded.
        """
        first = self.locate(blob_type, blob_id)
        for place in (first, *self.index.other_places(blob_type, blob_id)):
            try:
                for _ in self._opened(self._stored(place), place, blob_id):
                    pass
            except (DataDamaged, FileMissing) as error:
                failure = error
                continue
            yield from self._opened(self._stored(place), place, blob_id)
            return
        raise failure

    def stream_sealed(self, location: BlobLocation, blob_id: bytes) -> Iterator[bytes]:
        """Yield what lies at a place as it is stored, in pieces, after it was read once and found to be that blob.

        Raises DataDamaged and FileMissing, before anything is yielded; DataDamaged at the end if it is another thing by then.
        """
        checked, again = hashlib.sha256(), hashlib.sha256()
        pieces = self._stored(location, checked)
        for _ in self._opened(pieces, location, blob_id):
            pass
        for _ in pieces:  # what a frame is followed by
            pass
        yield from self._stored(location, again)
        if again.digest() != checked.digest():
            raise DataDamaged(f"pack {location.pack_id.hex()} changed while it was read")

    def _stored(self, location: BlobLocation, digest: "hashlib._Hash | None" = None) -> Iterator[bytes]:
        """Yield what lies at a place, and count it into a hash."""
        for at in range(0, location.length, STREAMED):
            length = min(STREAMED, location.length - at)
            piece = self.store.get_range(FileKind.DATA, location.pack_id.hex(), location.offset + at, length)
            if digest is not None:
                digest.update(piece)
            yield piece

    def _opened(self, stored: Iterator[bytes], location: BlobLocation, blob_id: bytes) -> Iterator[bytes]:
        """Yield the content of a blob that comes as it is stored. Raises DataDamaged, at the end, if it is not that blob's."""
        plain = self.key.open_pieces(stored)
        digest = hashlib.sha256()
        for piece in decompress_pieces(plain, location.uncompressed_length) if location.uncompressed_length else plain:
            digest.update(piece)
            yield piece
        if digest.digest() != blob_id:
            raise DataDamaged(f"the content of blob {blob_id.hex()} is not what its name says")

    def _load_from(self, location: BlobLocation, blob_type: BlobType, blob_id: bytes) -> bytes:
        require_blob_size(blob_type, location.length, location.uncompressed_length)
        sealed: Buffer
        if blob_type is BlobType.TREE:
            sealed = self._trees.read(location)
        else:
            sealed = self.store.get_range(FileKind.DATA, location.pack_id.hex(), location.offset, location.length)
        return self.open_blob(blob_id, sealed, location.uncompressed_length)

    def open_blob(self, blob_id: bytes, sealed: Buffer, uncompressed_length: int) -> bytes:
        """Return the content of a blob as it lies in a pack, after checking that it is the one of that id."""
        plaintext = self.key.open(sealed)
        if uncompressed_length:
            plaintext = decompress(plaintext, uncompressed_length)
        if hashlib.sha256(plaintext).digest() != blob_id:
            raise DataDamaged(f"the content of blob {blob_id.hex()} is not what its name says")
        return plaintext

    def stored_packs(self, on_foreign: Callable[[str], None] | None = None) -> dict[bytes, int]:
        """Return id and size in bytes of each pack in the store; what lies among them and is none is told to `on_foreign`."""
        packs: dict[bytes, int] = {}
        for name, size in self.store.list(FileKind.DATA):
            with contextlib.suppress(ValueError):
                pack_id = parse_id(name)
                # In capitals it would be another file.
                if pack_id.hex() == name:
                    packs[pack_id] = size
                    continue
            if on_foreign is not None:
                on_foreign(name)
        return packs

    def load_pack_header(self, pack_id: bytes, size: int) -> bytes:
        """Return the header of a pack of `size` bytes, opened, for `pack.iter_header`. Raises DataDamaged, FileMissing."""
        name = pack_id.hex()
        # Most headers lie in the end that is read first.
        read = min(size, HEADER_GUESS)
        end = self.store.get_range(FileKind.DATA, name, size - read, read)
        if len(end) != read:
            raise DataDamaged("a pack is shorter than the store lists it")
        length = sealed_header_length(end[-LENGTH_SIZE:], size)
        if length + LENGTH_SIZE > read:
            end = self.store.get_range(FileKind.DATA, name, size - length - LENGTH_SIZE, length + LENGTH_SIZE)
        return self.key.open(memoryview(end)[-LENGTH_SIZE - length : -LENGTH_SIZE])

    def lock(self, *, exclusive: bool = False) -> AbstractContextManager[Lock]:
        """Hold a lock for the length of a block. Raises RepositoryLocked."""
        return hold_lock(self, is_exclusive=exclusive)

    def reopened(self) -> "Repository":
        """Return the repository for another process: keys and index as they are here, and connections of its own."""
        again = Repository(self.store.reopened(), self.key, self.key_name, self.config)
        again.index = self.index
        return again

    def writer(self) -> RepositoryWriter:
        """Return a writer of blobs; the index must have been loaded, else everything looks new."""
        return RepositoryWriter(self.store, self.key, self.config.version, self.index, self.save_file)

    def close(self) -> None:
        self.store.close()


def _key_of_unfinished(store: Store, password: str) -> OpenedKey | None:
    """Return the key of whoever died before there was a configuration, None if nobody did. Raises RepositoryExists if not ours."""
    try:
        return open_key(store, password)
    except RepositoryNotFound:
        return None
    except (WrongPassword, DataDamaged) as error:
        raise RepositoryExists(f"there is a repository at {store.location} already") from error
