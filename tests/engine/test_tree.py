"""Whatever its entries are, a tree is read as it was written, and written once more it is the same to the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataDamaged
from engine.node import Node
from engine.tree import encode_tree, iter_nodes, iter_raw_nodes, join_nodes

IDS = st.binary(min_size=32, max_size=32)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)
NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 47} & set(name))
# The years 0 to 9999 of every time zone.
TIMES = st.integers(-62167132800 * 10**9, 253402214400 * 10**9)
U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
NODES = st.builds(
    Node,
    name=NAMES,
    type=st.sampled_from(["file", "dir", "symlink", "dev", "chardev", "fifo", "socket"]) | TEXTS,
    mode=U32,
    mtime_ns=TIMES,
    atime_ns=TIMES,
    ctime_ns=TIMES,
    uid=U32,
    gid=U32,
    user=TEXTS,
    group=TEXTS,
    inode=U64,
    device_id=U64,
    size=U64,
    links=U64,
    linktarget=st.binary(max_size=20).map(lambda target: target.replace(b"\0", b"")),
    xattrs=st.lists(st.tuples(TEXTS, st.binary(max_size=10)), max_size=3).map(tuple),
    device=U64,
    content=st.none() | st.lists(IDS, max_size=3).map(tuple),
    subtree=st.none() | IDS,
)
TREES = st.lists(NODES, max_size=5, unique_by=lambda node: node.name)


@given(TREES)
def test_a_tree_round_trips(nodes):
    tree = encode_tree(nodes)
    read = list(iter_nodes(tree))
    assert read == sorted(nodes, key=lambda node: node.name)
    assert [node.device_id for node in read] == [node.device_id for node in sorted(nodes, key=lambda node: node.name)]
    assert encode_tree(read) == tree


@given(TREES)
def test_entries_that_are_not_decoded_keep_their_text(nodes):
    tree = encode_tree(nodes)
    raw = list(iter_raw_nodes(tree))
    assert join_nodes(one.text for one in raw) == tree
    assert [Node.from_json(one.text) for one in raw] == list(iter_nodes(tree))
    assert [(one.name, one.content, one.subtree) for one in raw] == [
        (node.name, None if node.content is None else [blob.hex() for blob in node.content], node.subtree and node.subtree.hex())
        for node in iter_nodes(tree)
    ]


@given(TREES, st.data())
def test_a_tree_that_ends_too_early_is_damage(nodes, data):
    tree = encode_tree(nodes)
    cut = tree[: data.draw(st.integers(0, len(tree) - 2))]  # the newline at the end says nothing
    for read in (iter_nodes, iter_raw_nodes):
        with pytest.raises(DataDamaged):
            list(read(cut))
