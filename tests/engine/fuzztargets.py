"""What the engine decodes, given bytes that nobody wrote: every decoder refuses them in its own words, or makes something of them.

A target is a function that takes bytes, and a few inputs from which mutations start, what was found once among them. It raises only
if something is wrong; what a decoder is documented to raise is expected. `test_fuzzing.py` gives each target a few inputs in every
run of the tests, and `test_fuzz_soak.py` ten minutes.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from engine.blob import BlobType, PackedBlob
from engine.cli.finding import _moment
from engine.cli.keeping import _count
from engine.cli.main import _rate
from engine.cli.options import _wait
from engine.commands.cat import _pretty
from engine.commands.key import _moment as key_moment
from engine.compression import decompress, decompress_pieces, pack_file, unpack_file
from engine.crypto import KeyMaterial, SealingKey
from engine.errors import DataDamaged, EngineError, UnsafePath
from engine.filter import InvalidPattern, compile_patterns
from engine.gotime import format_ns, format_time, parse_ns, parse_time, parse_zoned_time
from engine.index import Index, IndexedPack, decode_index, encode_index
from engine.keys import KeyFile, _material
from engine.locks import Holder
from engine.node import Node, quote_name, unquote_name
from engine.pack import LENGTH_SIZE, decode_header, encode_header, iter_header, sealed_header_length
from engine.pruning import UnusedLimit, parse_size
from engine.repository import RepositoryConfig
from engine.restorer.target import check_name
from engine.retention import Duration, GroupBy, KeepPolicy, apply_policy, group_snapshots
from engine.snapshot import Snapshot, change_snapshot
from engine.store import Buffer, FileKind, is_file_name, relative_path
from engine.subset import parse_subset
from engine.tree import encode_tree, iter_nodes, iter_raw_nodes
from engine.treerepair import Entry, judge_entry
from engine.treesplit import split_entries

LIMIT = 1 << 20
KEY = SealingKey(KeyMaterial(bytes(32), bytes(16), bytes(16)))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = b"\x11" * 32
YEAR_0_NS, YEAR_10000_NS = -62167219200 * 10**9, 253402300800 * 10**9


@dataclass(frozen=True)
class Target:
    """`check` raises if the decoder does what it should not; `seeds` are inputs from which mutations start."""

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


# -- repository files -------------------------------------------------------------------------------------------------


def check_pack_header(data: bytes) -> None:
    size = int.from_bytes(data[:4], "little")
    with contextlib.suppress(DataDamaged):
        assert sealed_header_length(data[:4], len(data)) <= len(data)
    for pack_size in (size, len(data) + 36):
        with contextlib.suppress(DataDamaged):
            blobs = list(iter_header(data[4:], pack_size))
            assert decode_header(KEY.seal(data[4:]), KEY, pack_size) == blobs
            again = KEY.open(encode_header(blobs, KEY)[:-LENGTH_SIZE])
            # What is compressed to nothing is not compressed, and gets an entry of that.
            assert again == data[4:] or len(again) < len(data[4:])


def check_sealed(data: bytes) -> None:
    for message in (data, bytes(KEY.seal(data)), bytes(KEY.seal(data))[: len(data)]):
        pieces = [message[at : at + 7] for at in range(0, len(message), 7)]
        opened = None
        with contextlib.suppress(DataDamaged):
            opened = KEY.open(message)
        try:
            assert b"".join(KEY.open_pieces(pieces)) == opened
        except DataDamaged:
            assert opened is None


def check_frame(data: bytes) -> None:
    size = int.from_bytes(data[:2], "little")
    whole = pieces = None
    with contextlib.suppress(DataDamaged):
        whole = decompress(data[2:], size)
        assert len(whole) == size
    with contextlib.suppress(DataDamaged):
        pieces = b"".join(decompress_pieces((data[at : at + 5] for at in range(2, len(data), 5)), size))
        assert len(pieces) == size
    # A frame that ends too early may have all of its content, and what follows one is seen in pieces only.
    assert whole is None or pieces is None or whole == pieces


def check_file(data: bytes) -> None:
    with contextlib.suppress(DataDamaged):
        content = unpack_file(data, LIMIT)
        assert len(content) <= LIMIT or content == data
        assert unpack_file(pack_file(b"{" + content[:1000], 2), LIMIT)


def check_index(data: bytes) -> None:
    packs = None
    with contextlib.suppress(DataDamaged):
        packs = list(decode_index(data))
        index = Index()
        for pack in packs:
            index.add_pack(pack)
        assert list(decode_index(encode_index(packs))) == packs
    with replaced("engine.index", "DECODED_AT_ONCE", 0):
        try:
            large = list(decode_index(data))
        except DataDamaged:
            assert packs is None
    # Of two values of a field the last one counts, so that in pieces the first one may be anything.
    assert packs is None or large == packs


def check_snapshot(data: bytes) -> None:
    with contextlib.suppress(DataDamaged):
        snapshot = Snapshot.decode(data, "f" * 64)
        again = Snapshot.decode(snapshot.encode(), "f" * 64)
        assert (again.time, again.tree, again.uid) == (snapshot.time, snapshot.tree, snapshot.uid)
        assert json.loads(snapshot.encode())["tree"] == snapshot.tree.hex()
        changed = Snapshot.decode(change_snapshot(data, original="o", tree=ID, tags=["t"], has_parent=False), "f" * 64)
        assert (changed.original, changed.tree, changed.tags, changed.paths) == ("o", ID, ("t",), snapshot.paths)
        assert f"{snapshot.time.astimezone(UTC):%Y} {snapshot.time.astimezone():%Y}"
        apply_policy([snapshot, snapshot], KeepPolicy(daily=1, within_weekly=Duration(days=9)), now=NOW)
        group_snapshots([snapshot], GroupBy(True, True, True))
        assert snapshot.has_tags(snapshot.tags) or "" in snapshot.tags


def check_lock(data: bytes) -> None:
    with contextlib.suppress(DataDamaged):
        holder = Holder.parse(data)
        assert str(holder)
        holder.is_stale(datetime.now(UTC))


def check_key(data: bytes) -> None:
    with contextlib.suppress(DataDamaged):
        key = KeyFile.parse(data)
        assert 128 * key.r * key.n <= 256 << 20
        assert key.work <= 64
        key_moment(key.created)
    with contextlib.suppress(DataDamaged):
        assert _material(data).encrypt


def check_config(data: bytes) -> None:
    with contextlib.suppress(EngineError):
        config = RepositoryConfig.decode(data)
        assert RepositoryConfig.decode(config.encode()) == config


def check_shown(data: bytes) -> None:
    with contextlib.suppress(DataDamaged):
        assert json.loads(_pretty(data)) == json.loads(data)


# -- trees ------------------------------------------------------------------------------------------------------------


def check_tree(data: bytes) -> None:
    nodes = raw = None
    with contextlib.suppress(DataDamaged):
        raw = list(iter_raw_nodes(data))
        for one in raw:
            with contextlib.suppress(DataDamaged):
                entry = Entry.of(one)
                judge_entry(entry, Index())
                assert Node.from_json("".join(entry.with_subtree(ID).pieces())).subtree == ID
    with contextlib.suppress(DataDamaged):
        nodes = list(iter_nodes(data))
        assert sorted(map(Node.to_json, iter_nodes(encode_tree(nodes)))) == sorted(map(Node.to_json, nodes))
        # Where it is of no interest, bytes that are no text pass for one.
        assert raw is not None or not is_text(data)
    size = 1 + (data[0] if data else 0)
    with replaced("engine.treesplit", "WINDOW_BYTES", 64), replaced("engine.treesplit", "PACKED_FROM", 200):
        try:
            split = list(split_entries(data[at : at + size] for at in range(0, len(data), size)))
        except DataDamaged:
            return
        for entry in split:
            if not is_json(entry.text):
                return
    # What can be split into JSON is a tree, and its entries are the same.
    with contextlib.suppress(RecursionError):
        assert len(split) == len(msgspec.json.decode(data, type=dict[str, list[msgspec.Raw] | None])["nodes"] or ())
    if nodes is not None:
        for entry, node in zip(split, nodes, strict=True):
            found = Node.from_json(entry.text)
            ids = None if entry.packed is None else tuple(entry.packed[at : at + 32] for at in range(0, len(entry.packed), 32))
            assert (found.name, found.content if ids is None else ids) == (node.name, node.content)


def check_node(data: bytes) -> None:
    try:
        node = Node.from_json(data)
    except DataDamaged:
        return
    assert Node.from_json(node.to_json()) == node
    assert json.loads(node.to_json())["type"] == node.type
    with contextlib.suppress(UnsafePath):
        check_name(node.name)
        assert b"/" not in node.name
        assert b"\0" not in node.name


def check_name_of_node(data: bytes) -> None:
    assert unquote_name(json.loads(quote_name(data))) == data
    with contextlib.suppress(ValueError):
        name = unquote_name(data.decode("utf-8", "surrogatepass"))
        assert unquote_name(json.loads(quote_name(name))) == name
    with contextlib.suppress(UnsafePath):
        check_name(data)
        assert data not in (b"", b".", b"..")
        assert not {0, 47} & set(data)


# -- what a store lists, and what people write ------------------------------------------------------------------------


def check_name_of_file(data: bytes) -> None:
    name = data.decode("utf-8", "surrogateescape")
    for kind in FileKind:
        path = relative_path(kind, name)
        assert path.split("/")[0] == kind.value
        if is_file_name(name):
            assert path.split("/")[-1] in (name, kind.value)
            assert bytes.fromhex(name).hex() == name


def check_time(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        time_ns = parse_ns(text)
        # What an offset brings beyond these years is written as their end.
        assert not YEAR_0_NS <= time_ns < YEAR_10000_NS or parse_ns(format_ns(time_ns)) == time_ns
    with contextlib.suppress(ValueError):
        assert parse_time(format_time(parse_time(text))) == parse_time(text)
    with contextlib.suppress(ValueError):
        assert parse_zoned_time(format_time(parse_zoned_time(text))) == parse_zoned_time(text)
    with contextlib.suppress(ValueError):
        _moment(text)


def check_pattern(data: bytes) -> None:
    pattern, _, path = data.partition(b"\n")
    with contextlib.suppress(InvalidPattern):
        chosen = compile_patterns([pattern, b"!" + pattern, b"*"][: 1 + len(path) % 3])
        if path and len(data) < 200:
            matched = chosen.matches(b"/" + path)
            assert not matched or len(path) % 3 or chosen.may_match_below(b"/")


def check_policy(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    snapshot = Snapshot(datetime(2024, 3, 31, 12, tzinfo=UTC), ID, ())
    with contextlib.suppress(EngineError):
        span = Duration.parse(text)
        assert Duration.parse(str(span) or "0d") == span
        apply_policy([snapshot], KeepPolicy(within=span, within_daily=span), now=NOW)
    with contextlib.suppress(EngineError):
        GroupBy.parse(text)


def check_sizes(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(EngineError):
        assert parse_size(text) >= 0
    with contextlib.suppress(EngineError):
        limit = UnusedLimit.parse(text)
        assert (limit.allowed(1000) or 0) >= 0
    with contextlib.suppress(ValueError):
        chosen = parse_subset(text)({bytes([number]) * 32: number for number in range(20)})
        assert len(chosen) <= 20
    for parse in (_rate, _count, _wait):
        # What argparse takes for a wrong word.
        with contextlib.suppress(argparse.ArgumentTypeError, ValueError):
            assert parse(text) >= -1


def is_json(text: Buffer) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return True


def is_text(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


@contextlib.contextmanager
def replaced(module: str, name: str, value: object) -> Iterator[None]:
    """Have a module go by another value for the length of the block."""
    before = getattr(sys.modules[module], name)
    setattr(sys.modules[module], name, value)
    try:
        yield
    finally:
        setattr(sys.modules[module], name, before)


def _target(check: Callable[[bytes], None], *seeds: bytes | str) -> Target:
    return Target(check, tuple(seed.encode() if isinstance(seed, str) else seed for seed in seeds))


_BLOBS = [PackedBlob(BlobType.DATA, ID, 0, 50, 0), PackedBlob(BlobType.TREE, ID, 50, 60, 100)]
_HEADER = KEY.open(encode_header(_BLOBS, KEY)[:-LENGTH_SIZE])
_XATTRS = ("user.a", b"b"), ("user.c", b"")
_NODE = Node(b'a\n"\xff', "file", 0o644, 1, 2, 3, 4, 5, "u", "g", 6, 7, 8, 9, b"x\xff", _XATTRS, 1, (ID, ID), None)
_TREE = encode_tree([_NODE, Node(b"d", "dir", subtree=ID), Node(b"l", "symlink", linktarget=b"t")])
_LARGE = encode_tree([Node(b"large", "file", content=(ID,) * 20), Node(b"x", "file", content=())])
_SNAPSHOT = Snapshot(NOW, ID, ("/a",), "h", "u", 1, 2, ("*.o",), ("t",), "p", "o", "v").encode()
_SUMMARY = (
    b'{"time":"2024-01-01T00:00:00.5+01:00","tree":"%s","paths":null,"summary":{"backup_start":"2024-01-01T00:00:00Z",'
    b'"backup_end":"2024-01-01T00:00:00Z","files_new":1,"total_bytes_processed":5}}' % ID.hex().encode()
)
_KEY = (
    b'{"created":"2024-01-01T00:00:00Z","username":"u","hostname":"h","kdf":"scrypt","N":32768,"r":8,"p":1,'
    b'"salt":"AAAA","data":"AAAA"}'
)
_MASTER = b'{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAA==","r":"AAAAAAAAAAAAAAAAAAAAAA=="},"encrypt":"%s"}' % (b"A" * 43 + b"=")
_LOCK = b'{"time":"2024-01-01T00:00:00Z","exclusive":true,"hostname":"h","username":"u","pid":7,"uid":1,"gid":1}'

TARGETS = {
    "pack-header": _target(
        check_pack_header,
        bytes([77, 0, 0, 0, 2, *bytes(40)]),
        len(_HEADER).to_bytes(4, "little") + _HEADER,
        (256).to_bytes(4, "little") + _HEADER[:40],
    ),
    "sealed": _target(check_sealed, bytes(KEY.seal(b"message")), b"plain", bytes(40)),
    "frame": _target(
        check_frame,
        (6000).to_bytes(2, "little") + pack_file(bytes(6000), 2)[1:],
        b"\x05\0" + pack_file(b"abcde", 2)[1:],
        b"\x05\0" + pack_file(b"abcde", 2)[1:] + b"and more",
    ),
    "file": _target(check_file, pack_file(_SNAPSHOT, 2), _SNAPSHOT, b"[]", pack_file(bytes(LIMIT + 1), 2)),
    "index": _target(
        check_index,
        encode_index([IndexedPack(ID, _BLOBS), IndexedPack(ID)], ["ab"]),
        '{"packs":[]}',
        b'{"packs":[{"blobs":[{"id":"\xff","type":"data","offset":0,"length":1}],"id":"%s","blobs":[]}]}' % ID.hex().encode(),
    ),
    "snapshot": _target(
        check_snapshot,
        _SNAPSHOT,
        _SUMMARY,
        _SNAPSHOT.replace(b'"parent"', b'"p\xff"'),
        _SNAPSHOT.replace(b'"parent":"', b'"b":"\xff'),
    ),
    "lock": _target(check_lock, _LOCK),
    "key": _target(check_key, _KEY, _MASTER),
    "config": _target(check_config, RepositoryConfig(2, ID.hex(), "25b468838dcb75").encode()),
    "shown": _target(check_shown, _KEY, '{"packs":null,"a":["\\u0041",1e5]}', "[" * 5000, "1" * 5000, r'"\ud800"', b'"\xff"'),
    "tree": _target(
        check_tree,
        _TREE,
        _LARGE,
        '{"nodes":null}',
        '{"nodes":[]}\n',
        _TREE.replace(b'"user"', b'"\xff"'),
        _TREE.replace(b'11",', b"11\0,"),
        '{"nodes":[' + "[" * 4000,
    ),
    "node": _target(check_node, _NODE.to_json(), Node(b"d", "dir", subtree=ID).to_json(), r'{"name":"a","type":"a\"b\\c"}'),
    "name": _target(check_name_of_node, rb"a\x00\u2028\U0001f600\n\"\\\377", "é\u200b", b"\xff/..", "..", r"\U80002f60"),
    "file-name": _target(check_name_of_file, ID.hex(), "locks", "../" + ID.hex(), "AB" * 32, "ab" * 32 + "\n"),
    "time": _target(
        check_time, "2024-02-29T23:59:60.123456789+05:30", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-31 12:00:00",
        "9999-12-31T23:60:59Z",
    ),
    "pattern": _target(check_pattern, "/a/**/[^b-d]?*\na/x/e1", "!*.o\nb.o", r"a\*[\]]" + "\na*]", "**\na"),
    "policy": _target(check_policy, "1y5m7d2h", "host,paths,tags", "999999999y"),
    "sizes": _target(check_sizes, "1/5", "2.5%", "500M", "unlimited", "1h30m20s", "10G", "-1"),
}
