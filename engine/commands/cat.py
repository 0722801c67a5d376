"""Show a piece of a repository as it is, decrypted: for people who want to see, and for tests."""

import json

from engine.blob import ID_SIZE, BlobType, parse_id
from engine.errors import DataDamaged, EngineError
from engine.repository import Repository
from engine.snapshot import find_snapshot
from engine.store import FileKind

KINDS = ("config", "snapshot", "index", "lock", "key", "blob", "tree", "pack")


def cat(repository: Repository, kind: str, name: str = "") -> bytes:
    """Return the content: JSON for the repository's own files, the raw content of blobs, packs as they are stored.

    `name`: the id, which may be shortened for snapshots; `tree` also takes `SNAPSHOT`, for its root.
    Raises EngineError for an unknown kind, and as reading does.
    """
    if kind == "config":
        return _pretty(repository.load_file(FileKind.CONFIG, ""))
    if kind == "snapshot":
        return _pretty(repository.load_file(FileKind.SNAPSHOTS, find_snapshot(repository, name).id))
    if kind == "index":
        return _pretty(repository.load_file(FileKind.INDEX, name))
    if kind == "lock":
        return _pretty(repository.load_file(FileKind.LOCKS, name))
    if kind == "key":
        return _pretty(repository.store.get(FileKind.KEYS, name))
    if kind == "pack":
        return repository.store.get(FileKind.DATA, name)
    if kind == "blob":
        repository.load_index()
        blob_id = _blob_id(name)
        known = BlobType.DATA if repository.index.has(BlobType.DATA, blob_id) else BlobType.TREE
        return repository.load_blob(known, blob_id)
    if kind == "tree":
        repository.load_index()
        is_id = len(name) == 2 * ID_SIZE and repository.index.has(BlobType.TREE, _blob_id(name))
        tree = _blob_id(name) if is_id else find_snapshot(repository, name).tree
        return repository.load_blob(BlobType.TREE, tree)
    raise EngineError(f"{kind!r} cannot be shown; choose from {', '.join(KINDS)}")


def _pretty(content: bytes) -> bytes:
    try:
        return json.dumps(json.loads(content), indent=2, ensure_ascii=False).encode() + b"\n"
    except (ValueError, RecursionError) as error:
        raise DataDamaged("the file is damaged: it is no JSON") from error


def _blob_id(name: str) -> bytes:
    try:
        return parse_id(name)
    except ValueError as error:
        raise EngineError(f"{name!r} is no id: 64 hexadecimal digits are needed") from error
