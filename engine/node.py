"""One entry of a directory, and its JSON exactly as restic (Go) writes it.

The format is ``node`` in restic's ``doc/design.rst``; field order, omitted empty fields, escapes and times are those of
Go's ``encoding/json``, ``strconv.Quote`` and ``time.RFC3339Nano``, so that equal entries give equal trees whichever tool
wrote them. Nothing here touches the file system: see ``metadata`` for that.
"""

from __future__ import annotations

import json
import re
import stat
import sys
from base64 import b64decode, b64encode
from functools import lru_cache

import msgspec

from engine.blob import parse_id
from engine.errors import DataDamaged
from engine.gotime import format_ns, parse_ns
from engine.store import Buffer

_quote_json = json.encoder.encode_basestring

# Go's os.FileMode keeps the permission bits and has bits of its own for everything else.
_GO_TYPE = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_SETUID, _GO_SETGID, _GO_STICKY = 1 << 23, 1 << 22, 1 << 20

TYPE_OF_FORMAT = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "dev",
    stat.S_IFCHR: "chardev",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def link_identity(type_: str, links: int, device_id: int, inode: int) -> tuple[int, int] | None:
    """What all names of one file share: its device and inode; None if it has no other name.

    restic counts no links of a fifo, but keeps its device, by which its names can be told all the same.
    """
    has_links = device_id > 0 if type_ == "fifo" else links > 1
    return (device_id, inode) if has_links else None


class Node(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A file, directory or other entry. Names and targets are raw bytes, times nanoseconds since 1970, ids 32 raw bytes.

    ``mode`` is Go's ``os.FileMode``; `unix_permissions` gives the twelve bits that ``chmod`` takes. ``content`` is None
    for everything but files; ``subtree`` is None for everything but directories.
    """

    name: bytes
    type: str
    mode: int = 0
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    # Only of interest where hard links are; restic before 0.17 wrote it always, which makes no node another.
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    device: int = 0
    content: tuple[bytes, ...] | None = None
    subtree: bytes | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and all(getattr(self, name) == getattr(other, name) for name in _COMPARED)

    def __hash__(self) -> int:
        return hash((self.name, self.type, self.inode, self.mtime_ns))

    @property
    def is_dir(self) -> bool:
        return self.type == "dir"

    @property
    def link_identity(self) -> tuple[int, int] | None:
        return link_identity(self.type, self.links, self.device_id, self.inode)

    def to_json(self) -> str:
        """The node as one JSON object, byte for byte as restic writes it."""
        subtree = "" if self.subtree is None else f',"subtree":"{self.subtree.hex()}"'
        return f"{self.head_json()}{content_json(self.content)}{subtree}}}"

    def head_json(self) -> str:
        """The JSON up to and including ``"content":`` - everything that can be said without reading the file."""
        start = self.stat_json()
        if not (self.linktarget or self.xattrs or self.device):
            return start + '"content":'
        parts = _linktarget_json(self.linktarget) if self.linktarget else []
        if self.xattrs:
            listed = ",".join(
                f'{{"name":{go_string(name)},"value":"{b64encode(value).decode()}"}}' for name, value in self.xattrs
            )
            parts.append(f'"extended_attributes":[{listed}]')
        if self.device:
            parts.append(f'"device":{self.device}')
        return f'{start}{",".join(parts)},"content":'

    def stat_json(self) -> str:
        """The beginning of the JSON, with its last comma: what ``stat`` alone can say."""
        mtime_ns, atime_ns, ctime_ns = self.mtime_ns, self.atime_ns, self.ctime_ns
        mtime = format_ns(mtime_ns)
        atime = mtime if atime_ns == mtime_ns else format_ns(atime_ns)
        ctime = mtime if ctime_ns == mtime_ns else format_ns(ctime_ns)
        text = (
            f'{{"name":{quote_name(self.name)},{_kind_json(self.type, self.mode)}'
            f'"mtime":"{mtime}","atime":"{atime}","ctime":"{ctime}",{_owner_json(self.uid, self.gid, self.user, self.group)}'
        )
        if self.inode:
            text += f'"inode":{self.inode},'
        if self.device_id:
            text += f'"device_id":{self.device_id},'
        if self.size:
            text += f'"size":{self.size},'
        if self.links:
            text += f'"links":{self.links},'
        return text

    @classmethod
    def from_json(cls, text: Buffer | str) -> Node:
        """The node in a JSON object. Raises DataDamaged when it is not one."""
        try:
            raw = _decode_raw(text)
            mtime_ns = parse_ns(raw.mtime) if raw.mtime is not None else 0
            node = cls(
                unquote_name(raw.name),
                raw.type,
                raw.mode,
                mtime_ns,
                # Most entries were never changed after they were written, and none has an access time of its own.
                mtime_ns if raw.atime == raw.mtime else parse_ns(raw.atime) if raw.atime is not None else 0,
                mtime_ns if raw.ctime == raw.mtime else parse_ns(raw.ctime) if raw.ctime is not None else 0,
                raw.uid,
                raw.gid,
                raw.user,
                raw.group,
                raw.inode,
                raw.device_id,
                raw.size,
                raw.links,
                b64decode(raw.linktarget_raw) if raw.linktarget_raw else raw.linktarget.encode(),
                tuple((found.name, b64decode(found.value or "")) for found in raw.extended_attributes or ()),
                raw.device,
                None if raw.content is None else tuple(map(parse_id, raw.content)),
                None if raw.subtree is None else parse_id(raw.subtree),
            )
            _check_values(node)
            return node
        except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
            raise DataDamaged(f"A directory entry in the repository cannot be read: {error}") from error


_COMPARED = tuple(name for name in Node.__struct_fields__ if name != "device_id")


class _RawAttribute(msgspec.Struct, gc=False):
    name: str
    value: str | None = None


class _RawNode(msgspec.Struct, gc=False):
    """A node as its JSON has it."""

    name: str
    type: str
    mode: int = 0
    mtime: str | None = None
    atime: str | None = None
    ctime: str | None = None
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: str = ""
    linktarget_raw: str | None = None
    extended_attributes: list[_RawAttribute] | None = None
    device: int = 0
    content: list[str] | None = None
    subtree: str | None = None


_decode_raw = msgspec.json.Decoder(_RawNode).decode


# Few modes and owners are those of nearly all entries.
@lru_cache(maxsize=1024)
def _kind_json(kind: str, mode: int) -> str:
    return f'"type":{go_string(kind)},' + (f'"mode":{mode},' if mode else "")


@lru_cache(maxsize=1024)
def _owner_json(uid: int, gid: int, user: str, group: str) -> str:
    names = (f'"user":{go_string(user)},' if user else "") + (f'"group":{go_string(group)},' if group else "")
    return f'"uid":{uid},"gid":{gid},{names}'


def _check_values(node: Node) -> None:
    """Raise TypeError or ValueError for values that the operating system's calls could not even be given."""
    # One operation for all: it fails for what is no integer, and is negative or too wide if one of them is.
    owner = node.mode | node.uid | node.gid
    if owner >> 32 or (node.inode | node.device_id | node.size | node.links | node.device) >> 64:
        raise ValueError("a number out of range")
    if b"\0" in node.linktarget or any("\0" in name for name, _ in node.xattrs):
        raise ValueError("a name with a zero byte")


def content_json(content: tuple[bytes, ...] | None) -> str:
    """The value of ``content``: a list of ids, empty for an empty file; null for what has none."""
    if content is None:
        return "null"
    return '["' + '","'.join(map(bytes.hex, content)) + '"]' if content else "[]"


@lru_cache(maxsize=1024)
def go_mode(st_mode: int) -> int:
    """``st_mode`` as Go's ``os.FileMode``."""
    mode = st_mode & 0o777 | _GO_TYPE.get(stat.S_IFMT(st_mode), 1 << 19)
    if st_mode & 0o7000:
        mode |= _GO_SETUID if st_mode & stat.S_ISUID else 0
        mode |= _GO_SETGID if st_mode & stat.S_ISGID else 0
        mode |= _GO_STICKY if st_mode & stat.S_ISVTX else 0
    return mode


def unix_permissions(mode: int) -> int:
    """The twelve permission bits, as ``chmod`` takes them, of a Go ``os.FileMode``."""
    bits = mode & 0o777
    bits |= stat.S_ISUID if mode & _GO_SETUID else 0
    bits |= stat.S_ISGID if mode & _GO_SETGID else 0
    bits |= stat.S_ISVTX if mode & _GO_STICKY else 0
    return bits


def mode_text(mode: int) -> str:
    """A Go ``os.FileMode`` as Go and ``ls -l`` show it: ``drwxr-xr-x``."""
    letters = "".join(letter for bit, letter in zip(range(31, 18, -1), "dalTLDpSugct?", strict=True) if mode >> bit & 1)
    return (letters or "-") + "".join(letter if mode >> 8 - at & 1 else "-" for at, letter in enumerate("rwxrwxrwx"))


# -- text -------------------------------------------------------------------------------------------------------------

_HTML_SPECIAL = re.compile("[<>&\u2028\u2029]")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_NAME_SPECIAL = re.compile(r'["\\]')
# Anything but the printable ASCII that stands in JSON as it is: most names have none of it.
_NAME_OTHER = re.compile(rb'[^ !#-%\'-;=?-\[\]-~]')
_SHORT_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
                  '"': r"\"", "\\": r"\\"}  # fmt: skip
_ESCAPED = re.compile(rb'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|([abfnrtv\\"\']))')
_UNESCAPE = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
             b"\\": b"\\", b'"': b'"', b"'": b"'"}  # fmt: skip


def go_string(text: str) -> str:
    """A JSON string as Go's ``encoding/json`` writes it: with HTML's special characters and line separators escaped."""
    quoted = _quote_json(text)
    if _HTML_SPECIAL.search(quoted) is None:
        return quoted
    return _HTML_SPECIAL.sub(lambda found: f"\\u{ord(found.group()):04x}", quoted)


def replace_undecodable(text: str) -> str:
    """Text as Go keeps it where only UTF-8 may stand: with the replacement character for each byte that is none."""
    return _NOT_UTF8.sub("\ufffd", text)


def quote_name(name: bytes) -> str:
    """A name as JSON string: Go-quoted first (so that any bytes survive), then JSON-escaped."""
    if _NAME_OTHER.search(name) is None:
        return f'"{name.decode()}"'
    return go_string(_go_quote(name))


def _go_quote(name: bytes) -> str:
    """``strconv.Quote`` without the surrounding quotation marks."""
    text = name.decode("utf-8", "surrogateescape")
    # Go calls printable what Python does: letters, marks, numbers, punctuation, symbols and the ASCII space.
    if text.isprintable() and _NAME_SPECIAL.search(text) is None:
        return text
    return "".join(map(_quote_character, text))


def _quote_character(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote_name(text: str) -> bytes:
    """The raw bytes of a name as it stands in a decoded JSON object. Raises ValueError for an unknown escape."""
    raw = text.encode()
    if b"\\" not in raw:
        return raw
    # What is left of each backslash pair must be a known escape, or the name would silently become another.
    if b"\\" in _ESCAPED.sub(b"", raw):
        raise ValueError(f"unknown escape in the name {text!r}")
    return _ESCAPED.sub(_unescape, raw)


def _unescape(found: re.Match[bytes]) -> bytes:
    byte, short, long, octal, letter = found.groups()
    if byte is not None:
        return bytes((int(byte, 16),))
    if letter is not None:
        return _UNESCAPE[letter]
    if octal is not None:
        return bytes((int(octal, 8),))
    # Also a number that is too large for any character must end in a ValueError.
    return chr(min(int(short or long, 16), sys.maxunicode + 1)).encode()


def _linktarget_json(target: bytes) -> list[str]:
    try:
        return [f'"linktarget":{go_string(target.decode())}']
    except UnicodeDecodeError:
        # Go shows an escaped replacement character for each byte that is not UTF-8; the raw field has the truth.
        pieces = _NOT_UTF8.split(target.decode("utf-8", "surrogateescape"))
        shown = "\\ufffd".join(go_string(piece)[1:-1] for piece in pieces)
        return [f'"linktarget":"{shown}"', f'"linktarget_raw":"{b64encode(target).decode()}"']
