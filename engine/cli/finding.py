"""Verbs that search snapshots and compare them."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.cli.options import filter_arguments, said, snapshot_filter
from engine.cli.run import DONE, FAILED, Run, Verb
from engine.errors import EngineError
from engine.gotime import format_ns, format_time
from engine.node import Node, mode_text
from engine.snapshot import Snapshot, find_snapshots
from engine.terminal import size_text

if TYPE_CHECKING:
    from engine.commands.diff import Change
    from engine.commands.find import FoundObject, Match

# Those that restic takes, but for zones by their names, which mean another time to each reader.
_TIMES = [f"{date}{time}" for date in ("%Y-%m-%d", "%d.%m.%Y") for time in ("", " %H:%M", " %H:%M:%S", " %H:%M:%S %z")]


def find(run: Run) -> int:
    from engine.commands import find as command

    options, repository = run.options, run.open()
    if options.oldest and options.newest and options.oldest > options.newest:
        raise EngineError("--oldest must be a time before --newest")
    failed: list[bytes] = []

    def on_error(path: bytes, reason: str) -> None:
        failed.append(path)
        run.tell_unreadable(path, reason)

    snapshots = find_snapshots(repository, options.snapshot, snapshot_filter(options))
    if not options.reverse:
        snapshots.reverse()
    repository.load_index()
    if options.kind is None:
        matches = command.find(
            repository,
            snapshots,
            options.patterns,
            ignore_case=options.ignore_case,
            oldest=options.oldest,
            newest=options.newest,
            on_error=on_error,
        )
        _show_matches(run, matches)
    else:
        blobs = options.patterns if options.kind == "blob" else []
        trees = options.patterns if options.kind == "tree" else []
        if options.kind == "pack":
            blobs, trees = command.pack_contents(repository, options.patterns)
        _show_objects(run, command.find_objects(repository, snapshots, blobs=blobs, trees=trees, on_error=on_error))
    return FAILED if failed else DONE


def _find_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patterns", nargs="+", metavar="PATTERN", help="of paths; with --blob, --tree or --pack ids")
    kinds = parser.add_mutually_exclusive_group()
    for kind, about in (
        ("blob", "blobs of these ids"),
        ("tree", "trees of these ids"),
        ("pack", "what lies in packs of these ids"),
    ):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=f"find {about}")
    parser.add_argument("--snapshot", "-s", action="append", default=[], metavar="SNAPSHOT", help="search this one alone")
    filter_arguments(parser, "--host", "-H")
    parser.add_argument("--ignore-case", "-i", action="store_true")
    parser.add_argument("--oldest", "-O", type=said(_moment), metavar="TIME", help="leave out what was modified before")
    parser.add_argument("--newest", "-N", type=said(_moment), metavar="TIME", help="leave out what was modified after")
    parser.add_argument("--long", "-l", action="store_true", help="show mode, owner, size and time")
    parser.add_argument("--reverse", "-R", action="store_true", help="the oldest snapshot first")


def _moment(text: str) -> datetime:
    for form in _TIMES:
        try:
            moment = datetime.strptime(text, form)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.astimezone()
    raise ValueError(f"{text} is no time like 2026-01-31 or 2026-01-31 12:00:00")


def _show_matches(run: Run, matches: "Iterable[Match]") -> None:
    by_snapshot = groupby(matches, key=lambda match: match.snapshot)
    if run.options.json:
        sys.stdout.writelines(_matches_json(by_snapshot))
        return
    for number, (snapshot, found) in enumerate(by_snapshot):
        if not run.options.quiet:
            blank = "\n" if number else ""
            run.write(f"{blank}Found matching entries in snapshot {snapshot.short_id} from {_time_text(snapshot)}".encode())
        for match in found:
            run.write(_long_line(match.path, match.node) if run.options.long else match.path)


def _matches_json(by_snapshot: "Iterable[tuple[Snapshot, Iterator[Match]]]") -> Iterator[str]:
    """Yield one list in pieces, since it may be long."""
    yield "["
    for number, (snapshot, found) in enumerate(by_snapshot):
        yield ("," if number else "") + '{"matches":['
        hits = 0
        for match in found:
            yield ("," if hits else "") + json.dumps(_match_message(match.path, match.node))
            hits += 1
        yield f'],"hits":{hits},"snapshot":"{snapshot.id}"}}'
    yield "]\n"


def _match_message(path: bytes, node: Node) -> dict[str, object]:
    fields = json.loads(replace(node, content=None).to_json())
    for name in ("name", "extended_attributes", "device", "content", "subtree"):
        fields.pop(name, None)
    return {"path": path.decode(errors="replace"), "permissions": mode_text(node.mode), **fields}


def _long_line(path: bytes, node: Node) -> bytes:
    time = format_ns(node.mtime_ns)[:19].replace("T", " ")
    target = b" -> " + node.linktarget if node.type == "symlink" else b""
    return f"{mode_text(node.mode)} {node.uid:5} {node.gid:5} {node.size:6} {time} ".encode() + path + target


def _show_objects(run: Run, found: "Iterable[FoundObject]") -> None:
    if run.options.json:
        sys.stdout.writelines(_objects_json(found))
        return
    for one in found:
        is_blob = one.kind == "blob"
        run.write(f"Found {one.kind} {one.id}".encode())
        run.write((b" ... in file " if is_blob else b" ... path ") + one.path)
        if is_blob:
            run.write(f"     (tree {one.parent_tree})".encode())
        run.write(f" ... in snapshot {one.snapshot.short_id} ({_time_text(one.snapshot)})".encode())


def _objects_json(found: "Iterable[FoundObject]") -> Iterator[str]:
    yield "["
    for number, one in enumerate(found):
        message = {"object_type": one.kind, "id": one.id, "path": one.path.decode(errors="replace")}
        if one.parent_tree:
            message["parent_tree"] = one.parent_tree
        message |= {"snapshot": one.snapshot.id, "time": format_time(one.snapshot.time)}
        yield ("," if number else "") + json.dumps(message)
    yield "]\n"


def _time_text(snapshot: Snapshot) -> str:
    return f"{snapshot.time.astimezone():%Y-%m-%d %H:%M:%S}"


def diff(run: Run) -> int:
    from engine.commands.diff import diff
    from engine.commands.ls import open_directory

    options, repository = run.options, run.open()
    (source, before), (target, after) = (open_directory(repository, name) for name in options.snapshots)

    def show(change: "Change") -> None:
        if options.json:
            path = change.path.decode(errors="replace")
            run.write({"message_type": "change", "path": path, "modifier": change.modifier})
        else:
            run.write(change.modifier.encode().ljust(5) + change.path)

    if not options.json and not options.quiet:
        run.write(f"comparing snapshot {source.short_id} to {target.short_id}:\n".encode())
    found = diff(
        repository,
        before,
        after,
        metadata=options.metadata,
        on_change=None if options.quiet else show,
        on_error=run.tell_unreadable,
    )
    added, removed = found.added, found.removed
    if options.json:
        head = {"message_type": "statistics", "source_snapshot": options.snapshots[0], "target_snapshot": options.snapshots[1]}
        run.write(head | {"changed_files": found.changed_files, "added": asdict(added), "removed": asdict(removed)})
    else:
        lines = (
            "",
            f"Files:       {added.files:5} new, {removed.files:5} removed, {found.changed_files:5} changed",
            f"Dirs:        {added.dirs:5} new, {removed.dirs:5} removed",
            f"Others:      {added.others:5} new, {removed.others:5} removed",
            f"Data Blobs:  {added.data_blobs:5} new, {removed.data_blobs:5} removed",
            f"Tree Blobs:  {added.tree_blobs:5} new, {removed.tree_blobs:5} removed",
            f"  Added:   {size_text(added.bytes)}",
            f"  Removed: {size_text(removed.bytes)}",
        )
        run.write("\n".join(lines).encode())
    return FAILED if found.errors else DONE


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshots", nargs=2, metavar="SNAPSHOT[:/FOLDER]")
    parser.add_argument("--metadata", action="store_true", help="also show what has other metadata only")


VERBS = (
    Verb("find", "find entries of snapshots, or ids", find, _find_arguments),
    Verb("diff", "show what two snapshots differ in", diff, _diff_arguments),
)
