"""Verbs that bring content back."""

import argparse
import os
import sys
from dataclasses import asdict
from typing import Any

from engine.cli.options import retry_lock_argument
from engine.cli.run import DONE, FAILED, Run, Verb
from engine.terminal import size_text


def restore(run: Run) -> int:
    if run.options.dry_run:
        return _preview(run)
    with run.opening() as repository:
        from engine.commands.restore import restore

    options = run.options
    summary = restore(repository.result(), verify=options.verify, on_progress=run.on_progress, **_wanted(run))
    run.show(
        {
            "message_type": "summary",
            **asdict(summary),
            "total_bytes": summary.bytes_restored,
            "seconds_elapsed": summary.duration_s,
        },
        f"restored {summary.files_restored} files, {size_text(summary.bytes_restored)} in {summary.duration_s:.1f} s"
        + (f"; verified {summary.files_verified}" if options.verify else ""),
    )
    return FAILED if summary.errors else DONE


def _wanted(run: Run) -> dict[str, Any]:
    """Return what is to be restored, where to and how, as restore and its preview take it alike."""
    options = run.options
    name, _colon, folder = options.snapshot.partition(":")
    return {
        "snapshot": name,
        "target": os.fsencode(options.target),
        "include": [folder] if folder else [],
        "include_patterns": options.include,
        "exclude": options.exclude,
        "overwrite": options.overwrite,
        "on_error": run.tell_unreadable,
        "cancel": run.cancel,
        "retry_lock_s": options.retry_lock,
    }


def _preview(run: Run) -> int:
    from engine.commands.restore_preview import PlannedChange, preview_restore

    def tell(change: PlannedChange) -> None:
        item = os.fsdecode(change.path)
        status = {"message_type": "verbose_status", "action": change.action, "item": item, "size": change.size}
        run.show(status, f"{change.action:11} {size_text(change.size):>10}  {item}")

    told = preview_restore(run.open(), on_change=tell, **_wanted(run))
    run.show(
        {"message_type": "summary", "dry_run": True, **told.counts()},
        f"would create {told.created} ({size_text(told.bytes_created)}) and overwrite {told.overwritten} files "
        f"({size_text(told.bytes_overwritten)}), keep {told.kept} and remove {told.removed}; nothing was written",
    )
    return FAILED if told.errors else DONE


def _restore_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshot", help="id, its beginning, or latest; :/folder after it restores that alone")
    parser.add_argument("--target", "-t", required=True, metavar="DIR")
    parser.add_argument("--include", "-i", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--overwrite", default="always", choices=("always", "if-changed", "if-newer", "never"))
    parser.add_argument("--verify", action="store_true", help="read everything back")
    parser.add_argument("--dry-run", "-n", action="store_true", help="only tell what would be made, overwritten, kept and removed")
    retry_lock_argument(parser, "a prune or a forget")


def dump(run: Run) -> int:
    from engine.commands.dump import dump_file, dump_tar
    from engine.commands.ls import find_node, open_snapshot

    repository, path = run.open(), os.fsencode(run.options.path)
    snapshot = open_snapshot(repository, run.options.snapshot)
    pieces = dump_tar if find_node(repository, snapshot, path).is_dir else dump_file
    for piece in pieces(repository, snapshot, path):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return DONE


def _dump_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshot")
    parser.add_argument("path")


VERBS = (
    Verb("restore", "restore a snapshot or a part of it", restore, _restore_arguments, can_cancel=True),
    Verb("dump", "write a file, or a directory as tar, to standard output", dump, _dump_arguments),
)
