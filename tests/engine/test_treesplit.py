"""The entries of a large tree are those of the whole tree, wherever its pieces end, and nothing else is taken for a tree."""

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import DataDamaged, TooLarge
from engine.node import Node
from engine.tree import encode_tree, iter_nodes
from engine.treesplit import split_entries

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name)
XATTRS = st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.binary(max_size=20)), max_size=8)
NODES = st.builds(
    Node,
    NAMES,
    st.just("file"),
    user=st.text(max_size=5),
    linktarget=st.sampled_from([b"", b'},{"name":"x', b'"content":["']),
    xattrs=XATTRS.map(tuple),
    content=st.lists(st.binary(min_size=32, max_size=32), max_size=6).map(tuple),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr("engine.treesplit.WINDOW_BYTES", 400)
    monkeypatch.setattr("engine.treesplit.PACKED_FROM", 800)
    monkeypatch.setattr("engine.treesplit.ENTRY_BYTES", 4000)


def in_pieces(content, size):
    return [content[at : at + size] for at in range(0, len(content), size)]


def split(content, size=100):
    return list(split_entries(in_pieces(content, size)))


def node_of(entry):
    node = Node.from_json(entry.text)
    if entry.packed is None:
        return node
    assert node.content == ()
    ids = tuple(entry.packed[at : at + 32] for at in range(0, len(entry.packed), 32))
    return Node(node.name, node.type, user=node.user, linktarget=node.linktarget, xattrs=node.xattrs, content=ids)


@given(st.lists(NODES, max_size=20), st.integers(1, 3000))
@example([Node(b"a", "file", xattrs=tuple((f"user.{n}", b"") for n in range(100)))] * 3, 50)
def test_the_entries_are_those_of_the_tree(nodes, size):
    tree = encode_tree(nodes)
    assert list(map(node_of, split(tree, size))) == list(iter_nodes(tree))


@pytest.mark.parametrize("count", [1, 2, 12, 13, 500])
@pytest.mark.parametrize("size", [1, 67, 1000])
def test_the_ids_of_very_many_pieces_are_taken_out_of_the_text(count, size):
    large = Node(b"large", "file", user="u", content=tuple(os.urandom(32) for _ in range(count)))
    small = Node(b"small", "file", content=())
    tree = encode_tree([large, small, large])
    entries = split(tree, size)
    assert list(map(node_of, entries)) == [large, large, small]
    assert entries[0].packed is not None or count < 500
    assert max(len(entry.text) for entry in entries) < 2000


@pytest.mark.parametrize("content", [b'{"nodes":[]}\n', b'{"nodes":null}', b' { "nodes" : [ ] } '])
def test_a_tree_without_entries_has_none(content):
    assert split(content, 3) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"nodes":5}', b'{"nodes":[', b'{"nodes":[{"name":"a"}', b'{"nodes":[{"name":"a"}]',
     b'{"nodes":[{"name":"a"}}',
     b'{"nodes":[{"name":"a"},]}', b'{"nodes":[{"name":"a"}],"more":1}', b'{"nodes":null]}',
     b'{"nodes":[' + b"[" * 100_000, b'{"nodes":[' + b'{"a":' * 10_000, b'{"nodes":[' + b'{"name":"a"}' * 1000, b"\xff" * 5000,
     b'{"nodes":[' + b'{"name":"a"},' * 1000],
)  # fmt: skip
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_what_is_no_tree_is_damage(content, size):
    with pytest.raises(DataDamaged):
        split(content, size)


def test_a_tree_of_nothing_but_white_space_is_refused():
    with pytest.raises(DataDamaged):
        split(b'{"nodes":[' + b" " * 10_000 + b"]}")


ID = '"' + "ab" * 32 + '"'


@pytest.mark.parametrize(
    "ids",
    [[ID] * 50 + [ID[:-3] + '"'] + [ID] * 50, [ID] * 50 + [ID.replace("a", "x")],
     [ID] * 50 + ['"' + "a" * 63 + '"', '"' + "a" * 65 + '"'],
     [ID] * 50 + ["5"], [ID] * 50 + [""], [ID] * 50 + ["null"], [ID] * 50 + [f" {ID}"]],
)  # fmt: skip
def test_what_is_no_id_among_very_many_is_damage(ids):
    with pytest.raises(DataDamaged):
        split(f'{{"nodes":[{{"name":"a","type":"file","content":[{",".join(ids)}]}}]}}'.encode())


def test_a_tree_that_ends_among_very_many_ids_is_damage():
    with pytest.raises(DataDamaged):
        split(f'{{"nodes":[{{"name":"a","type":"file","content":[{",".join([ID] * 100)}'.encode())


def test_a_file_of_too_many_pieces_is_refused(monkeypatch):
    tree = encode_tree([Node(b"a", "file", content=(bytes(32),) * 100)])
    monkeypatch.setattr("engine.treesplit.CONTENT_BLOBS", 100)
    assert len(split(tree)[0].packed) == 3200
    monkeypatch.setattr("engine.treesplit.CONTENT_BLOBS", 99)
    with pytest.raises(TooLarge):
        split(tree)


def test_an_entry_that_is_large_without_having_many_pieces_is_refused():
    for xattrs in ((("user.a", bytes(10_000)),), tuple((f"user.{n}", bytes(10)) for n in range(500))):
        tree = encode_tree([Node(b"a", "file", xattrs=xattrs, content=())] * 3)
        assert len(json.loads(tree)["nodes"]) == 3
        with pytest.raises(TooLarge):
            split(tree)
