"""Trees without what is lost: each tree of a snapshot is looked at once, and rewritten if it, or one below it, is not whole.

What is decided of an entry is what restic's `repair snapshots` decides; what is whole keeps its bytes, so also fields that are
unknown here. Losses are kept by tree and name, and told by path for each snapshot that leads to them.
"""

import hashlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

import msgspec

from engine.blob import BlobType, parse_id
from engine.blobids import BlobIds
from engine.errors import BlobMissing, Cancelled, DataDamaged, IndexIncomplete, TooLarge
from engine.index import Index
from engine.node import content_json
from engine.repository import Repository
from engine.store import FileKind
from engine.tree import RawNode, iter_raw_nodes, join_nodes
from engine.treereader import is_large, read_raw_nodes
from engine.walking import WalkGuard
from engine.writer import RepositoryWriter

EMPTY_TREE = join_nodes(())
EMPTY_TREE_ID = hashlib.sha256(EMPTY_TREE).digest()
# How many trees may wait for those below them, and how many entries are remembered to be told.
PENDING_LIMIT = 1_000_000
TOLD_LIMIT = 300_000
IDS_AT_ONCE = 10_000
# What restic names an entry that it could not make sense of.
_UNKNOWN_TYPES = ("", "irregular")


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost at an absolute path inside a snapshot; `what` is the sentence that a person reads."""

    path: bytes
    what: str


class TreeRepair:
    """Repairs trees of one repository, whose index must have been read. Without `writer` it only finds out.

    `unindexed`: blobs that are there though the index does not know them, so that they must not be given up.
    """

    def __init__(
        self,
        repository: Repository,
        writer: RepositoryWriter | None,
        unindexed: Set[tuple[BlobType, bytes]],
        cancel: threading.Event,
    ) -> None:
        self._repository, self._writer, self._unindexed, self._cancel = repository, writer, unindexed, cancel
        self._guard = WalkGuard(repository.index)
        self._whole: set[bytes] = set()
        self._repaired: dict[bytes, _RepairedTree] = {}
        self._told = 0

    def repair(self, root: bytes) -> bytes | None:
        """Return the id of what is left of a tree: its own if it is whole, None if it cannot be read.

        Raises Cancelled, IndexIncomplete for what is lost to the index alone, TooLarge for what may be whole, and StoreError's
        family: a store that fails is no damage.
        """
        pending = [(root, 0)]
        while pending:
            if self._cancel.is_set():
                raise Cancelled
            tree_id, reads = pending[-1]
            if not self._is_known(tree_id):
                if reads > 1:
                    self._guard.read_again(tree_id)
                entries = self._read(tree_id)
                below = self._unknown_below(entries or (), max(1, (PENDING_LIMIT - len(pending)) // 2))
                if below:
                    # It is read again once those are known, since all that waits on a deep path could fill the memory.
                    pending[-1] = tree_id, reads + 1
                    pending += ((subtree, 0) for subtree in below)
                    continue
                if entries is not None:
                    self._judge(tree_id, entries)
            pending.pop()
        repaired = self._repaired.get(root)
        if repaired is None:
            return root
        return None if repaired.unreadable else repaired.id

    def losses(self, root: bytes) -> Iterator[Loss]:
        """Yield what is lost of a tree that was given to `repair`."""
        guard = WalkGuard(self._repository.index)
        opened = [iter([(b"", root)])]
        paths: list[bytes] = []
        while opened:
            found = next(opened[-1], None)
            if found is None:
                opened.pop()
                del paths[-1:]
                continue
            name, tree_id = found
            path = b"/".join([*paths, name])
            repaired = self._repaired.get(tree_id)
            if repaired is None:
                continue
            if repaired.unreadable:
                yield Loss(path or b"/", f"the directory cannot be read, what was in it is lost: {repaired.unreadable}")
            yield from (Loss(path + b"/" + name, what) for name, what in repaired.losses)
            if repaired.untold:
                yield Loss(path or b"/", f"{repaired.untold} more of its entries are not whole")
            if repaired.below:
                try:
                    guard.require_path(len(paths), len(path))
                    guard.count(tree_id, len(repaired.below), leads_on=True)
                except DataDamaged as error:
                    yield Loss(path or b"/", f"what else is lost is not told: {error}")
                    return
                opened.append(iter(repaired.below))
                paths.append(name)

    def _is_known(self, tree_id: bytes) -> bool:
        return tree_id in self._whole or tree_id in self._repaired

    def _read(self, tree_id: bytes) -> "Collection[Entry] | _LargeTree | None":
        """Return the entries of a tree; None if it cannot be read, which is settled then."""
        try:
            if not is_large(self._repository, tree_id):
                return list(map(Entry.of, iter_raw_nodes(self._load(tree_id))))
            entries = _LargeTree(self._repository, tree_id)
            for _ in entries:
                pass
            return entries
        except TooLarge:
            # It may be whole, and what can read it may read it.
            raise
        except (BlobMissing, DataDamaged) as error:
            if tree_id == EMPTY_TREE_ID:
                # Its content is known without reading it, so nothing is lost.
                self._save(EMPTY_TREE)
                self._whole.add(tree_id)
            else:
                self._require_lost(BlobType.TREE, (tree_id,))
                self._repaired[tree_id] = _RepairedTree(self._save(EMPTY_TREE), unreadable=str(error))
            return None

    def _unknown_below(self, entries: "Iterable[Entry]", limit: int) -> list[bytes]:
        unknown: dict[bytes, None] = {}
        for entry in entries:
            if entry.subtree and not self._is_known(entry.subtree):
                unknown[entry.subtree] = None
                if len(unknown) == limit:
                    break
        return list(unknown)

    def _load(self, tree_id: bytes) -> bytes:
        try:
            return self._repository.load_blob(BlobType.TREE, tree_id)
        except DataDamaged:
            # Before anything is given up: the damage may have been on the way here.
            found = self._repository.locate(BlobType.TREE, tree_id)
            sealed = self._repository.store.get_range(FileKind.DATA, found.pack_id.hex(), found.offset, found.length)
            return self._repository.open_blob(tree_id, sealed, found.uncompressed_length)

    def _judge(self, tree_id: bytes, entries: "Iterable[Entry]") -> None:
        """Settle a tree whose trees below are known."""
        losses: list[tuple[bytes, str]] = []
        below: list[tuple[bytes, bytes]] = []
        untold = 0
        is_whole = True
        for entry in entries:
            _, loss, is_below = self._left_of(entry)
            if not loss and not is_below:
                continue
            is_whole = False
            if loss:
                self._require_lost(BlobType.DATA, entry.content)
            if self._told >= TOLD_LIMIT:
                untold += 1
                continue
            self._told += 1
            if entry.subtree and is_below:
                below.append((entry.name, entry.subtree))
            else:
                losses.append((entry.name, loss))
        if is_whole:
            self._whole.add(tree_id)
            return
        if isinstance(entries, _LargeTree):
            repaired = self._save_large(entries)
        else:
            repaired = self._save("".join(self._rewritten(entries)).encode())
        self._repaired[tree_id] = _RepairedTree(repaired, tuple(losses), tuple(below), untold)

    def _left_of(self, entry: "Entry") -> "tuple[Entry | None, str, bool]":
        """Return what is left of an entry, what is lost of it itself, and whether something is of what is below it."""
        repaired = self._repaired.get(entry.subtree) if entry.subtree else None
        if repaired is not None:
            return entry.with_subtree(repaired.id), "", True
        return *judge_entry(entry, self._repository.index), False

    def _rewritten(self, entries: "Iterable[Entry]") -> Iterator[str]:
        """Yield the JSON of a tree of what is left of the entries, in pieces."""
        yield '{"nodes":['
        separator = ""
        for entry in entries:
            left, _, _ = self._left_of(entry)
            if left is not None:
                yield separator
                yield from left.pieces()
                separator = ","
        yield "]}\n"

    def _require_lost(self, blob_type: BlobType, blob_ids: Sequence[bytes]) -> None:
        if any((blob_type, blob_id) in self._unindexed for blob_id in blob_ids):
            raise IndexIncomplete("something that seems lost lies in a pack that the index does not name; repair the index first")

    def _save(self, tree: bytes) -> bytes:
        """Store a tree, once more if what the repository has of it is damaged; return its id."""
        tree_id = hashlib.sha256(tree).digest()
        if self._writer is None or self._writer.add_blob(BlobType.TREE, tree_id, tree):
            return tree_id
        if self._repository.index.has(BlobType.TREE, tree_id):
            try:
                self._load(tree_id)
            except DataDamaged:
                self._writer.add_claimed(BlobType.TREE, tree_id, tree)
        return tree_id

    def _save_large(self, entries: "_LargeTree") -> bytes:
        """Store what is left of a large tree, which is put together a few times; return its id."""

        def pieces() -> Iterator[bytes]:
            return (piece.encode() for piece in self._rewritten(entries))

        digest, size = hashlib.sha256(), 0
        for piece in pieces():
            digest.update(piece)
            size += len(piece)
        tree_id = digest.digest()
        if self._writer is not None and self._writer.claim(BlobType.TREE, tree_id):
            self._writer.add_pieces(BlobType.TREE, tree_id, pieces, size)
        return tree_id


def judge_entry(entry: "Entry", index: Index) -> "tuple[Entry | None, str]":
    """Return what is left of an entry (None: nothing) and what is lost of it (empty: nothing).

    Of a directory only that it names no tree is seen here.
    """
    if entry.type in _UNKNOWN_TYPES:
        return None, "the entry is of no known type and was removed"
    if entry.type == "dir" and entry.subtree is None:
        return entry.with_subtree(EMPTY_TREE_ID), "the directory names no content and is empty now"
    if entry.type != "file":
        return entry, ""
    missing = size = 0
    for blob_id in entry.content:
        length = index.plain_length(BlobType.DATA, blob_id)
        missing += length is None
        size += length or 0
    if not missing and size == entry.size:
        return entry, ""
    if missing:
        what = f"{missing} of {len(entry.content)} pieces are lost, {size} of {entry.size} bytes are left"
    else:
        what = f"the size was {entry.size} where the content has {size} bytes"
    rest = bytearray()
    for blob_id in entry.content:
        if index.has(BlobType.DATA, blob_id):
            rest += blob_id
    return entry.with_content(rest, size), what


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a tree: what is looked at, and `text`, its JSON as it stands.

    The ids of a file of hundreds of gigabytes are packed, and its `text` is without them (`engine.treereader`).
    """

    name: bytes
    text: str
    type: str
    size: int
    content: Sequence[bytes]
    subtree: bytes | None

    @classmethod
    def of(cls, raw: RawNode) -> "Entry":
        """The entry as it was read. Raises DataDamaged."""
        try:
            fields = _decode_fields(raw.text)
            subtree = None if raw.subtree is None else parse_id(raw.subtree)
            packed = BlobIds(raw.content.packed, bytes) if isinstance(raw.content, BlobIds) else None
            return cls(raw.name, raw.text, fields.type, fields.size, packed or tuple(map(parse_id, raw.content or ())), subtree)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise DataDamaged("a tree in the repository has an entry that cannot be read") from error

    def pieces(self) -> Iterator[str]:
        """Yield the JSON."""
        if not isinstance(self.content, BlobIds):
            yield self.text
            return
        before, content, after = self.text.partition('"content":[')
        yield before + content
        for at in range(0, len(self.content), IDS_AT_ONCE):
            yield "," * (at > 0) + ",".join(f'"{blob_id.hex()}"' for blob_id in self.content[at : at + IDS_AT_ONCE])
        yield after

    def with_subtree(self, tree_id: bytes) -> "Entry":
        return replace(self, text=self._with({"subtree": f'"{tree_id.hex()}"'}))

    def with_content(self, packed: bytearray, size: int) -> "Entry":
        content = BlobIds(packed, bytes)
        is_packed = isinstance(self.content, BlobIds)
        # restic leaves out a size of 0.
        changes = {"size": str(size) if size else None, "content": "[]" if is_packed else content_json(tuple(content))}
        return replace(self, text=self._with(changes), content=content if is_packed else tuple(content))

    def _with(self, changes: dict[str, str | None]) -> str:
        """Return the JSON with other values of some fields, None for without; all else keeps its bytes and place."""
        fields: dict[str, str | None]
        try:
            fields = {key: str(raw, "utf-8") for key, raw in _decode_any(self.text).items()}
        except RecursionError as error:
            # How deep a text may nest is told by the interpreter, and less from within these calls than where it was read.
            raise DataDamaged("a tree in the repository has an entry that cannot be read") from error
        if changes.get("size") and "size" not in fields:
            fields = _put_size(fields)
        fields |= changes
        return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in fields.items() if value is not None) + "}"


def _put_size(fields: dict[str, str | None]) -> dict[str, str | None]:
    """Return the fields with a place for the size where restic has it: behind what every entry has."""
    before = ("name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "user", "group", "inode", "device_id")
    first = {key: value for key, value in fields.items() if key in before}
    return {**first, "size": None, **fields}


@dataclass(frozen=True, slots=True)
class _RepairedTree:
    """What stands for a tree that is not whole; by name what is lost in it, and the trees below it that are not whole.

    `untold`: how many entries more are not whole. `unreadable`: why nothing of it is left, empty if something is.
    """

    id: bytes
    losses: tuple[tuple[bytes, str], ...] = ()
    below: tuple[tuple[bytes, bytes], ...] = ()
    untold: int = 0
    unreadable: str = ""


class _LargeTree:
    """The entries of a large tree, which is read anew each time that they are asked for. Raises DataDamaged."""

    def __init__(self, repository: Repository, tree_id: bytes) -> None:
        self._repository, self._tree_id = repository, tree_id

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry.of, read_raw_nodes(self._repository, self._tree_id))


class _Fields(msgspec.Struct, gc=False):
    type: str = ""
    size: int = 0


_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_any = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
