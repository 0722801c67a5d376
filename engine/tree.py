"""Trees: the blobs that list a directory's entries, sorted by raw name.

Reading is node by node; writing takes nodes, or the JSON of nodes that are encoded already.

Format: ``Trees and Data`` in restic's ``doc/design.rst``: ``{"nodes":[...]}`` and a closing newline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from engine.blob import parse_id
from engine.errors import DataDamaged
from engine.node import Node, unquote_name
from engine.store import Buffer

_OPENING = '{"nodes":['


class RawNode(msgspec.Struct, gc=False):
    """What is needed of an entry to compare it without decoding every field. `text`: its JSON as it stands."""

    name: bytes
    text: str
    content: list[str] | None
    subtree: str | None


def iter_nodes(tree: bytes) -> Iterator[Node]:
    """The entries of a tree blob, one at a time. Raises DataDamaged when it is not a tree."""
    return map(Node.from_json, split_tree(tree))


def iter_raw_nodes(tree: bytes) -> Iterator[RawNode]:
    """The entries of a tree blob as they stand. Raises DataDamaged when it is not a tree."""
    return map(decode_raw_node, split_tree(tree))


def decode_raw_node(text: Buffer) -> RawNode:
    """The entry in a JSON object as it stands. Raises DataDamaged when it is not one."""
    try:
        key = _decode_key(text)
        return RawNode(unquote_name(key.name), str(text, "utf-8"), key.content, key.subtree)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataDamaged("A tree in the repository has an entry without a readable name.") from error


def named_id(text: str) -> bytes:
    """The id of a blob that an entry names. Raises DataDamaged when it is none."""
    try:
        return parse_id(text)
    except ValueError as error:
        raise DataDamaged("A tree in the repository names something that is no id.") from error


def encode_tree(nodes: Iterable[Node]) -> bytes:
    """The tree blob of nodes in any order."""
    return join_nodes(node.to_json() for node in sorted(nodes, key=lambda node: node.name))


def join_nodes(encoded: Iterable[str]) -> bytes:
    """The tree blob of nodes that are encoded already and sorted by raw name."""
    return f'{_OPENING}{",".join(encoded)}]}}\n'.encode()


def split_tree(tree: bytes) -> list[msgspec.Raw]:
    """The JSON of each entry of a tree blob. Raises DataDamaged when it is not a tree."""
    try:
        return _decode_tree(tree).nodes or []
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataDamaged("A tree in the repository is damaged.") from error


class _Tree(msgspec.Struct):
    nodes: list[msgspec.Raw] | None = None


class _Key(msgspec.Struct, gc=False):
    name: str
    content: list[str] | None = None
    subtree: str | None = None


_decode_tree = msgspec.json.Decoder(_Tree).decode
_decode_key = msgspec.json.Decoder(_Key).decode
