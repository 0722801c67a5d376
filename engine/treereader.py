"""The entries of a repository's trees: of a tree of usual size at once, of a large one a few at a time.

A directory of a million entries is a tree of 400 MB. It is read twice, once to be checked and once to be used, and memory holds a
window of it.
"""

from collections.abc import Iterator
from typing import cast

from msgspec.structs import replace

from engine.blob import BlobType
from engine.blobids import BlobIds
from engine.bounds import TREE_BYTES
from engine.node import Node
from engine.repository import Repository
from engine.tree import RawNode, decode_raw_node, iter_nodes, iter_raw_nodes, split_tree
from engine.treesplit import SplitEntry, split_entries


def is_large(repository: Repository, tree_id: bytes) -> bool:
    """Whether the tree is too large to be held in memory as a whole."""
    return (repository.index.plain_length(BlobType.TREE, tree_id) or 0) > TREE_BYTES


def read_nodes(repository: Repository, tree_id: bytes) -> Iterator[Node]:
    """Yield the entries of a tree. Raises, when asked for the first, BlobMissing, DataDamaged, StoreError's family.

    The `content` of a file of hundreds of gigabytes is a sequence, but no tuple.
    """
    if not is_large(repository, tree_id):
        yield from iter_nodes(repository.load_blob(BlobType.TREE, tree_id))
        return
    for entry in _split(repository, tree_id):
        node = Node.from_json(entry.text)
        if entry.packed is not None:
            node = replace(node, content=cast(tuple[bytes, ...], BlobIds(entry.packed, bytes)))
        yield node


def read_raw_nodes(repository: Repository, tree_id: bytes) -> Iterator[RawNode]:
    """Yield the entries of a tree as they stand. Raises as `read_nodes` does.

    The `text` of a file of hundreds of gigabytes is without the ids that are in its `content`: see `decode`.
    """
    if not is_large(repository, tree_id):
        yield from iter_raw_nodes(repository.load_blob(BlobType.TREE, tree_id))
        return
    for entry in _split(repository, tree_id):
        raw = decode_raw_node(entry.text)
        if entry.packed is not None:
            raw.content = cast(list[str], BlobIds(entry.packed, bytes.hex))
        yield raw


def read_texts(repository: Repository, tree_id: bytes) -> Iterator[SplitEntry]:
    """Yield the JSON of the entries of a tree. Raises as `read_nodes` does."""
    if is_large(repository, tree_id):
        yield from _split(repository, tree_id)
        return
    yield from map(SplitEntry, split_tree(repository.load_blob(BlobType.TREE, tree_id)))


def decode(raw: RawNode) -> Node:
    """Return the node of an entry that `read_raw_nodes` yielded. Raises DataDamaged."""
    node = Node.from_json(raw.text)
    if isinstance(raw.content, BlobIds):
        node = replace(node, content=cast(tuple[bytes, ...], BlobIds(raw.content.packed, bytes)))
    return node


def _split(repository: Repository, tree_id: bytes) -> Iterator[SplitEntry]:
    return split_entries(repository.stream_blob(BlobType.TREE, tree_id))
