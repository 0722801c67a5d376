"""Trees without what is lost: each tree of a snapshot is looked at once, and rewritten if it, or one below it, is not whole.

What is decided of an entry is what restic's `repair snapshots` decides; what is whole keeps its bytes, so also fields that are
unknown here. Losses are kept by tree and name, and told by path for each snapshot that leads to them.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import msgspec

from engine.blob import BlobType, parse_id
from engine.errors import BlobMissing, Cancelled, DataDamaged, IndexIncomplete
from engine.index import Index
from engine.node import content_json
from engine.repository import Repository
from engine.store import FileKind
from engine.tree import iter_raw_nodes, join_nodes
from engine.writer import RepositoryWriter

EMPTY_TREE = join_nodes(())
EMPTY_TREE_ID = hashlib.sha256(EMPTY_TREE).digest()
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
        self._whole: set[bytes] = set()
        self._repaired: dict[bytes, _RepairedTree] = {}

    def repair(self, root: bytes) -> bytes | None:
        """Return the id of what is left of a tree: its own if it is whole, None if it cannot be read.

        Raises Cancelled, IndexIncomplete for what is lost to the index alone, and StoreError's family: a store that fails is no
        damage.
        """
        pending = [root]
        while pending:
            if self._cancel.is_set():
                raise Cancelled
            tree_id = pending[-1]
            if not self._is_known(tree_id):
                entries = self._read(tree_id)
                below = [entry.subtree for entry in entries or () if entry.subtree and not self._is_known(entry.subtree)]
                if below:
                    # It is read again once those are known, since all that waits on a deep path could fill the memory.
                    pending += below
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
        pending = [(b"", root)]
        while pending:
            path, tree_id = pending.pop()
            repaired = self._repaired.get(tree_id)
            if repaired is None:
                continue
            if repaired.unreadable:
                yield Loss(path or b"/", f"the directory cannot be read, what was in it is lost: {repaired.unreadable}")
            yield from (Loss(path + b"/" + name, what) for name, what in repaired.losses)
            pending += ((path + b"/" + name, below) for name, below in reversed(repaired.below))

    def _is_known(self, tree_id: bytes) -> bool:
        return tree_id in self._whole or tree_id in self._repaired

    def _read(self, tree_id: bytes) -> "list[Entry] | None":
        """Return the entries of a tree; None if it cannot be read, which is settled then."""
        try:
            return [Entry.of(node.name, node.text) for node in iter_raw_nodes(self._load(tree_id))]
        except (BlobMissing, DataDamaged) as error:
            if tree_id == EMPTY_TREE_ID:
                # Its content is known without reading it, so nothing is lost.
                self._save(EMPTY_TREE)
                self._whole.add(tree_id)
            else:
                self._require_lost(BlobType.TREE, (tree_id,))
                self._repaired[tree_id] = _RepairedTree(self._save(EMPTY_TREE), unreadable=str(error))
            return None

    def _load(self, tree_id: bytes) -> bytes:
        try:
            return self._repository.load_blob(BlobType.TREE, tree_id)
        except DataDamaged:
            # Before anything is given up: the damage may have been on the way here.
            found = self._repository.locate(BlobType.TREE, tree_id)
            sealed = self._repository.store.get_range(FileKind.DATA, found.pack_id.hex(), found.offset, found.length)
            return self._repository.open_blob(tree_id, sealed, found.uncompressed_length)

    def _judge(self, tree_id: bytes, entries: "Sequence[Entry]") -> None:
        """Settle a tree whose trees below are known."""
        kept: list[str] = []
        losses: list[tuple[bytes, str]] = []
        below: list[tuple[bytes, bytes]] = []
        for entry in entries:
            repaired = self._repaired.get(entry.subtree) if entry.subtree else None
            if repaired is not None and entry.subtree:
                below.append((entry.name, entry.subtree))
                kept.append(entry.with_subtree(repaired.id))
                continue
            text, loss = judge_entry(entry, self._repository.index)
            if loss:
                self._require_lost(BlobType.DATA, entry.content)
                losses.append((entry.name, loss))
            if text:
                kept.append(text)
        if losses or below:
            self._repaired[tree_id] = _RepairedTree(self._save(join_nodes(kept)), tuple(losses), tuple(below))
        else:
            self._whole.add(tree_id)

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


def judge_entry(entry: "Entry", index: Index) -> tuple[str, str]:
    """Return the JSON of what is left of an entry (empty: nothing) and what is lost of it (empty: nothing).

    Of a directory only that it names no tree is seen here.
    """
    if entry.type in _UNKNOWN_TYPES:
        return "", "the entry is of no known type and was removed"
    if entry.type == "dir" and entry.subtree is None:
        return entry.with_subtree(EMPTY_TREE_ID), "the directory names no content and is empty now"
    if entry.type != "file":
        return entry.text, ""
    lengths = [index.plain_length(BlobType.DATA, blob_id) for blob_id in entry.content]
    size = sum(length or 0 for length in lengths)
    missing = lengths.count(None)
    if not missing and size == entry.size:
        return entry.text, ""
    rest = tuple(blob_id for blob_id, length in zip(entry.content, lengths, strict=True) if length is not None)
    if missing:
        what = f"{missing} of {len(lengths)} pieces are lost, {size} of {entry.size} bytes are left"
    else:
        what = f"the size was {entry.size} where the content has {size} bytes"
    return entry.with_content(rest, size), what


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a tree: what is looked at, and `text`, its JSON as it stands."""

    name: bytes
    text: str
    type: str
    size: int
    content: tuple[bytes, ...]
    subtree: bytes | None

    @classmethod
    def of(cls, name: bytes, text: str) -> "Entry":
        """The entry of a raw name and its JSON. Raises DataDamaged."""
        try:
            fields = _decode_fields(text)
            subtree = None if fields.subtree is None else parse_id(fields.subtree)
            return cls(name, text, fields.type, fields.size, tuple(map(parse_id, fields.content or ())), subtree)
        except (msgspec.DecodeError, ValueError) as error:
            raise DataDamaged("a tree in the repository has an entry that cannot be read") from error

    def with_subtree(self, tree_id: bytes) -> str:
        return self._with({"subtree": f'"{tree_id.hex()}"'})

    def with_content(self, content: tuple[bytes, ...], size: int) -> str:
        # restic leaves out a size of 0.
        return self._with({"size": str(size) if size else None, "content": content_json(content)})

    def _with(self, changes: dict[str, str | None]) -> str:
        """Return the JSON with other values of some fields, None for without; all else keeps its bytes and place."""
        fields: dict[str, str | None] = {key: str(raw, "utf-8") for key, raw in _decode_any(self.text).items()}
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

    `unreadable`: why nothing of it is left, empty if something is.
    """

    id: bytes
    losses: tuple[tuple[bytes, str], ...] = ()
    below: tuple[tuple[bytes, bytes], ...] = ()
    unreadable: str = ""


class _Fields(msgspec.Struct, gc=False):
    type: str = ""
    size: int = 0
    content: list[str] | None = None
    subtree: str | None = None


_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_any = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
