"""Repositories that no honest program writes, though everything in them is sealed and named as it should be.

Whoever holds a host's keys can write them. `measured` runs a verb on one, and tells what memory all of its processes took.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import zstandard

from engine.backends import open_store
from engine.blob import BlobType, PackedBlob
from engine.crypto import KeyMaterial, SealingKey
from engine.index import IndexedPack
from engine.keys import add_key
from engine.pack import encode_header
from engine.repository import Repository
from engine.snapshot import Snapshot, save_snapshot
from engine.store import FileKind

PASSWORD = "secret"
CONTENT = b"hostile content"
TOP = Path(__file__).resolve().parents[2]


def node(name, kind, **more):
    times = dict.fromkeys(("mtime", "atime", "ctime"), "2024-01-01T00:00:00Z")
    return {"name": name, "type": kind, "mode": 0o644, **times, "uid": os.getuid(), "gid": os.getgid()} | more


def directory(name, tree, **more):
    return node(name, "dir", mode=1 << 31 | 0o755, subtree=tree.hex(), **more)


class Hostile:
    """Writes blobs, trees, packs and snapshots that no honest program would."""

    def __init__(self, repository):
        self.repository = repository

    @classmethod
    def new(cls, path, monkeypatch):
        """Make a repository whose key takes no time to derive."""
        monkeypatch.setattr("engine.keys.SCRYPT_N", 2)
        return cls(Repository.init(open_store(str(path)), PASSWORD))

    def blob(self, content, blob_type=BlobType.DATA):
        blob_id = hashlib.sha256(content).digest()
        with self.repository.writer() as writer:
            writer.add_blob(blob_type, blob_id, content)
        return blob_id

    def tree(self, *nodes):
        return self.blob(json.dumps({"nodes": nodes}, separators=(",", ":")).encode(), BlobType.TREE)

    def snapshot(self, *nodes):
        return self.snapshot_of(self.tree(*nodes))

    def snapshot_of(self, tree):
        return save_snapshot(self.repository, Snapshot(datetime.now(UTC), tree, ("/",), hostname="h"))

    def file(self, name, content=CONTENT, **more):
        return node(name, "file", content=[self.blob(content).hex()], size=len(content), **more)

    def directory(self, name, *nodes):
        return directory(name, self.tree(*nodes))

    def laughs(self, depth, width=2, leaf=None):
        """Return a tree of which each level names the next one so many times."""
        tree = leaf or self.tree(self.file("leaf"))
        for _ in range(depth):
            tree = self.tree(*(directory(f"{number:06}", tree) for number in range(width)))
        return tree

    def text(self, pieces: Iterable[bytes]):
        """Return the id of a tree of this text, which may be larger than memory."""
        digest, size = hashlib.sha256(), 0
        frame = zstandard.ZstdCompressor(level=1).compressobj()
        compressed = bytearray()
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            compressed += frame.compress(piece)
        compressed += frame.flush()
        self.plant(digest.digest(), bytes(compressed), size, BlobType.TREE)
        return digest.digest()

    def plant(self, blob_id, frame, claimed, blob_type=BlobType.DATA):
        """Store a frame in a pack of its own, with a size that need not be its own."""
        sealed = bytes(self.repository.key.seal(frame))
        blob = PackedBlob(blob_type, blob_id, 0, len(sealed), claimed)
        self.pack(sealed, [blob])

    def pack(self, content, blobs, header=None):
        pack = content + (header or encode_header(blobs, self.repository.key))
        pack_id = hashlib.sha256(pack).digest()
        self.repository.store.put(FileKind.DATA, pack_id.hex(), pack)
        with self.repository.writer() as writer:
            writer.indexing.add_pack(IndexedPack(pack_id, blobs), len(pack))
        return pack_id

    def sparse(self, kind, name, size):
        """Put a file of `size` bytes into the store, which takes no space."""
        path = Path(self.repository.store.path(kind, name))
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with path.open("wb") as file:
            file.truncate(size)


@dataclass(frozen=True)
class Outcome:
    status: int
    out: bytes
    err: bytes
    peak: int


def measured(location, *arguments, timeout=100):
    """Run a verb; return how it ended, and the most memory in bytes that its processes took together. It must end."""
    environment = os.environ | {
        "RESTIC_REPOSITORY": str(location), "RESTIC_PASSWORD": PASSWORD, "RESTIC_FROM_PASSWORD": PASSWORD, "PYTHONPATH": str(TOP),
    }  # fmt: skip
    peak = 0
    ended = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "engine", *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=TOP,
    ) as process:  # fmt: skip

        def watch():
            nonlocal peak
            while not ended.is_set():
                peak = max(peak, sum(map(proportional_size, family(process.pid))))
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            ended.set()
            watcher.join()
    assert b"Traceback" not in err, err.decode()[-3000:]
    return Outcome(process.returncode, out, err, peak)


def family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as children:
                for child in children.read().split():
                    yield from family(int(child))


def proportional_size(pid: int) -> int:
    """Return what a process takes of memory, its share of what it shares."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def fresh_key(store, password=PASSWORD):
    opened = add_key(store, password, KeyMaterial.generate())
    return SealingKey(opened.material)
