"""Trees: the blobs that list a directory's entries, sorted by raw name.

Reading is node by node; writing takes nodes, or the JSON of nodes that are encoded already.

Format: ``Trees and Data`` in restic's ``doc/design.rst``: ``{"nodes":[...]}`` and a closing newline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from engine.errors import DataDamaged
from engine.node import Node, unquote_name

_decode = json.JSONDecoder().raw_decode
_OPENING = '{"nodes":['


def iter_nodes(tree: bytes) -> Iterator[Node]:
    """The entries of a tree blob, one at a time. Raises DataDamaged when it is not a tree."""
    for raw, _ in _iter_objects(tree):
        yield Node.from_json(raw)


def iter_raw_nodes(tree: bytes) -> Iterator[tuple[bytes, dict[str, Any], str]]:
    """Each entry's raw name, decoded JSON and JSON text as it stands: for comparing without decoding every field.

    The text is empty where the tree's writer spaced its JSON otherwise. Raises DataDamaged.
    """
    for raw, text in _iter_objects(tree):
        try:
            yield unquote_name(raw["name"]), raw, text
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataDamaged("A tree in the repository has an entry without a readable name.") from error


def encode_tree(nodes: Iterable[Node]) -> bytes:
    """The tree blob of nodes in any order."""
    return join_nodes(node.to_json() for node in sorted(nodes, key=lambda node: node.name))


def join_nodes(encoded: Iterable[str]) -> bytes:
    """The tree blob of nodes that are encoded already and sorted by raw name."""
    return f'{_OPENING}{",".join(encoded)}]}}\n'.encode()


def _iter_objects(tree: bytes) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        text = tree.decode()
        if not text.startswith(_OPENING):
            yield from _iter_reformatted(text)
            return
        position = len(_OPENING)
        if text[position] == "]":
            return
        while True:
            raw, end = _decode(text, position)
            yield raw, text[position:end]
            if text[end] == "]":
                return
            if text[end] != ",":
                raise ValueError("entries are not separated")
            position = end + 1
    except (ValueError, IndexError, RecursionError) as error:
        raise DataDamaged("A tree in the repository is damaged.") from error


def _iter_reformatted(text: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Trees of writers that space or order their JSON otherwise."""
    tree = json.loads(text)
    nodes = tree.get("nodes") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not (nodes is None or isinstance(nodes, list)):
        raise ValueError("not a tree")
    for raw in nodes or ():
        yield raw, ""
