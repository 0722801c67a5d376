"""A repository of millions of blobs that takes little space: index files and trees are real, of packs only the size is true."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from engine.backends import open_store
from engine.blob import BlobType, PackedBlob
from engine.index import BLOBS_PER_FILE, IndexedPack, encode_index
from engine.node import Node
from engine.pack import header_size
from engine.repository import Repository
from engine.snapshot import Snapshot
from engine.store import FileKind, relative_path
from engine.tree import encode_tree
from engine.writer import RepositoryWriter

PACK_SIZE = 16 << 20
BLOBS_PER_TREE_FILE = 100
FILES_PER_TREE = 50


def synthesise(location: Path, password: str, blobs: int, blobs_per_pack: int, *, seed: int = 4) -> bytes:
    """Make a repository with a snapshot that needs so many data blobs; return the id of its root tree.

    Index files list 50,000 blobs each and are sealed and compressed as all are. Trees list files of 100 blobs, 50 in a directory.
    Every fourth blob is raw.
    """
    rng = random.Random(seed)
    repository = Repository.init(open_store(str(location)), password)
    folders: list[Node] = []
    with repository.writer() as writer:
        for ids in _index_files(repository, location, rng, blobs, blobs_per_pack):
            for at in range(0, len(ids), BLOBS_PER_TREE_FILE * FILES_PER_TREE):
                tree = encode_tree(_files(ids[at : at + BLOBS_PER_TREE_FILE * FILES_PER_TREE]))
                folders.append(Node(f"{len(folders):06d}".encode(), "dir", 1 << 31 | 0o755, subtree=_add_tree(writer, tree)))
        root = _add_tree(writer, encode_tree(folders))
    snapshot = Snapshot(datetime.now(UTC), root, ("/synthesised",), "benchmark")
    repository.save_file(FileKind.SNAPSHOTS, snapshot.encode())
    repository.close()
    return root


def _index_files(
    repository: Repository, location: Path, rng: random.Random, blobs: int, blobs_per_pack: int
) -> Iterator[list[bytes]]:
    """Write index files and their packs; yield the ids of the blobs of each file."""
    for begin in range(0, blobs, BLOBS_PER_FILE):
        end = min(begin + BLOBS_PER_FILE, blobs)
        packs = [_pack(rng, min(blobs_per_pack, end - at), blobs_per_pack) for at in range(begin, end, blobs_per_pack)]
        for pack in packs:
            raw = sum(not blob.uncompressed_length for blob in pack.blobs)
            last = pack.blobs[-1]
            # A hole: it has a size and takes no space.
            with (location / relative_path(FileKind.DATA, pack.id.hex())).open("wb") as file:
                file.truncate(last.offset + last.length + header_size(raw, len(pack.blobs) - raw))
        repository.save_file(FileKind.INDEX, encode_index(packs))
        yield [blob.id for pack in packs for blob in pack.blobs]


def _pack(rng: random.Random, blobs: int, usually: int) -> IndexedPack:
    pack = IndexedPack(rng.randbytes(32))
    offset = 0
    for number in range(blobs):
        length = rng.randrange(PACK_SIZE // usually // 2, PACK_SIZE // usually * 3 // 2)
        pack.blobs.append(PackedBlob(BlobType.DATA, rng.randbytes(32), offset, length, 0 if number % 4 == 0 else length * 2))
        offset += length
    return pack


def _files(ids: list[bytes]) -> Iterator[Node]:
    for at in range(0, len(ids), BLOBS_PER_TREE_FILE):
        some = tuple(ids[at : at + BLOBS_PER_TREE_FILE])
        yield Node(f"file-{at:06d}".encode(), "file", 0o644, inode=at + 1, size=len(some), links=1, content=some)


def _add_tree(writer: RepositoryWriter, tree: bytes) -> bytes:
    tree_id = hashlib.sha256(tree).digest()
    writer.add_blob(BlobType.TREE, tree_id, tree)
    return tree_id
