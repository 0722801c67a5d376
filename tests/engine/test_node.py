"""Nodes are the JSON that restic writes, to the byte."""

import json
import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataDamaged
from engine.gotime import format_ns, parse_ns
from engine.node import Node, go_mode, quote_name, unix_permissions, unquote_name
from engine.tree import encode_tree, iter_nodes


@pytest.fixture(autouse=True)
def _utc():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


# As `restic cat blob` shows them.
RESTIC_NODES = [
    '{"name":"a\\u0026b\\u003cc\\u003e","type":"file","mode":420,"mtime":"2026-11-23T21:47:09.001676736Z",'
    '"atime":"2026-11-23T21:47:09.001676736Z","ctime":"2026-11-23T21:47:09.001676736Z","uid":0,"gid":0,"user":"root",'
    '"group":"root","inode":2146433,"links":1,"content":[]}',
    '{"name":"bad\\\\xff\\\\xfe","type":"file","mode":8389101,"mtime":"1960-01-02T03:04:05.123456789Z",'
    '"atime":"1960-01-02T03:04:05.123456789Z","ctime":"2026-11-23T21:47:09.25Z","uid":0,"gid":0,"inode":5,"device_id":65024,'
    '"size":3,"links":2,"extended_attributes":[{"name":"user.foo","value":"YmFy"}],'
    '"content":["98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"]}',
    '{"name":"cdev","type":"chardev","mode":69206436,"mtime":"2026-11-23T21:47:08Z","atime":"2026-11-23T21:47:08Z",'
    '"ctime":"2026-11-23T21:47:08Z","uid":0,"gid":0,"inode":2146423,"links":1,"device":259,"content":null}',
    '{"name":"lt","type":"symlink","mode":134218239,"mtime":"2026-11-23T21:47:08.9Z","atime":"2026-11-23T21:47:08.9Z",'
    '"ctime":"2026-11-23T21:47:08.9Z","uid":0,"gid":0,"links":1,"linktarget":"a\\u003cb\\u003e\\u0026c","content":null}',
    '{"name":"sub","type":"dir","mode":2152727039,"mtime":"2026-11-23T21:47:08.9Z","atime":"2026-11-23T21:47:08.9Z",'
    '"ctime":"2026-11-23T21:47:08.9Z","uid":0,"gid":0,"content":null,'
    '"subtree":"ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8"}',
]


@pytest.mark.parametrize("text", RESTIC_NODES)
def test_a_node_that_restic_wrote_is_written_the_same(text):
    assert Node.from_json(text).to_json() == text


def test_a_tree_ends_with_a_newline_and_is_sorted_by_raw_bytes():
    nodes = [Node(name, "file", content=()) for name in (b"b", b"\xff", "é".encode(), b"B", b"a-b", b"a")]
    tree = encode_tree(nodes)
    assert tree.endswith(b"]}\n")
    assert [node.name for node in iter_nodes(tree)] == sorted(node.name for node in nodes)
    assert encode_tree([]) == b'{"nodes":[]}\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain", '"plain"'),
        ("uni é 中".encode(), '"uni é 中"'),
        (b'q"uo\\te', '"q\\\\\\"uo\\\\\\\\te"'),
        (b"nl\nname", '"nl\\\\nname"'),
        ("zw\u200b".encode(), '"zw\\\\u200b"'),
        ("nbsp\u00a0".encode(), '"nbsp\\\\u00a0"'),
        ("ls\u2028".encode(), '"ls\\\\u2028"'),
        (b"\x7f\x01", '"\\\\x7f\\\\x01"'),
        ("\U000e0001".encode(), '"\\\\U000e0001"'),
        (b"a<b>&", '"a\\u003cb\\u003e\\u0026"'),
    ],
)
def test_names_are_quoted_as_go_quotes_them(name, text):
    assert quote_name(name) == text


@given(st.binary(min_size=1).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_every_name_survives(name):
    assert unquote_name(json.loads(quote_name(name))) == name


@pytest.mark.parametrize("escape", [r"\U00110000", r"\U80000000", r"\ud800", r"\q"])
def test_an_escape_that_is_no_character_is_refused(escape):
    with pytest.raises(ValueError, match=r"."):
        unquote_name(escape)


@given(st.binary(min_size=1, max_size=300).filter(lambda target: b"\0" not in target))
def test_every_link_target_survives(target):
    node = Node(b"link", "symlink", linktarget=target)
    assert Node.from_json(node.to_json()) == node


def test_a_target_that_is_not_utf8_is_kept_raw_beside_what_go_shows():
    text = Node(b"l", "symlink", linktarget=b"bad\xfftarget").to_json()
    assert '"linktarget":"bad\\ufffdtarget","linktarget_raw":"YmFk/3RhcmdldA=="' in text


@given(st.integers(min_value=-62167219200 * 10**9, max_value=253402300799 * 10**9))
def test_every_nanosecond_of_the_years_0_to_9999_survives(time_ns):
    assert parse_ns(format_ns(time_ns)) == time_ns


def test_times_carry_the_local_offset_and_mean_the_same_moment(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    moment = 1_600_000_123 * 10**9 + 120
    assert format_ns(moment).endswith(".00000012+05:30")
    assert parse_ns(format_ns(moment)) == moment


@pytest.mark.parametrize("bits", [0o644, 0o4755, 0o2750, 0o1777, 0o7777, 0])
def test_permission_bits_survive_the_way_through_gos_mode(bits):
    assert unix_permissions(go_mode(stat.S_IFREG | bits)) == bits


def test_the_kind_of_an_entry_is_in_its_mode_as_go_has_it():
    assert go_mode(stat.S_IFDIR | 0o755) == 2147484141
    assert go_mode(stat.S_IFIFO | 0o644) == 33554852
    assert go_mode(stat.S_IFBLK | 0o644) == 67109284


@pytest.mark.parametrize("kind", ['a"b', "a\\b", "a\nb", "\0"])
def test_a_type_that_nobody_knows_stays_what_it_is(kind):
    assert json.loads(Node(b"odd", kind).to_json())["type"] == kind


@pytest.mark.parametrize(
    "damage",
    ["", "[]", '{"nodes":5}', '{"nodes":[{}]}', '{"nodes":[{"name":"a"}]}', '{"nodes":[{"name":"\\\\q","type":"file"}]}',
     '{"nodes":[{"name":"a","type":"file","content":["00"]}]}', '{"nodes":[{"name":"a","type":"file"}'],
)  # fmt: skip
def test_what_is_no_tree_is_reported_as_damage(damage):
    with pytest.raises(DataDamaged):
        list(iter_nodes(damage.encode()))
