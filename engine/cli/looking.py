"""Verbs that show what a repository holds."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC

from msgspec.structs import replace

from engine.cli.options import filter_arguments, snapshot_filter
from engine.cli.run import DONE, Run, Verb, snapshot_message
from engine.errors import DataDamaged
from engine.terminal import size_text


def snapshots(run: Run) -> int:
    from engine.commands.snapshots import list_snapshots

    def tell(name: str, error: DataDamaged) -> None:
        run.tell_unreadable(f"snapshots/{name}".encode(), str(error))

    found = list_snapshots(run.open(), snapshot_filter(run.options), on_damaged=tell)
    if run.options.json:
        print(json.dumps(list(map(snapshot_message, found))))
        return DONE
    for one in found:
        tags = f"  [{','.join(one.tags)}]" if one.tags else ""
        mark = "  incomplete" if one.is_incomplete else ""
        print(f"{one.short_id}  {one.time.astimezone(UTC):%Y-%m-%d %H:%M:%S}  {one.hostname}  {' '.join(one.paths)}{tags}{mark}")
    print(f"{len(found)} snapshots")
    return DONE


def _snapshots_arguments(parser: argparse.ArgumentParser) -> None:
    filter_arguments(parser, "--host", "-H")


def ls(run: Run) -> int:
    from engine.commands.ls import open_snapshot, walk

    repository = run.open()
    snapshot = open_snapshot(repository, run.options.snapshot)
    if run.options.json:
        print(json.dumps({**snapshot_message(snapshot), "struct_type": "snapshot"}))
    for path, node in walk(repository, snapshot, os.fsencode(run.options.path)):
        if run.options.json:
            # A large file's content would be printed, read and left out.
            fields = json.loads(replace(node, content=None).to_json())
            entry = {**fields, "path": path.decode(errors="replace"), "struct_type": "node"}
            del entry["content"]
            print(json.dumps(entry))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(path + b"\n")
    sys.stdout.buffer.flush()
    return DONE


def _ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshot")
    parser.add_argument("path", nargs="?", default="/")


def stats(run: Run) -> int:
    from engine.commands.stats import stats

    found = stats(run.open(), run.options.snapshot)
    run.show(
        {**asdict(found), "total_size": found.restore_size, "total_file_count": found.files},
        f"{found.snapshots} snapshots restore to {found.files} files, {size_text(found.restore_size)}\n"
        f"the repository holds {found.blobs} blobs in {found.packs} packs: {size_text(found.stored_size)}",
    )
    return DONE


def _stats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshot", nargs="?")


def cat(run: Run) -> int:
    from engine.commands.cat import cat

    sys.stdout.buffer.write(cat(run.open(), run.options.kind, run.options.id))
    sys.stdout.buffer.flush()
    return DONE


def _cat_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("config", "snapshot", "index", "lock", "key", "blob", "tree", "pack"))
    parser.add_argument("id", nargs="?", default="")


VERBS = (
    Verb("snapshots", "list snapshots", snapshots, _snapshots_arguments),
    Verb("ls", "list what a snapshot holds", ls, _ls_arguments),
    Verb("stats", "count", stats, _stats_arguments),
    Verb("cat", "show a piece of the repository", cat, _cat_arguments),
)
