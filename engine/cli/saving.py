"""Verbs that put something into a repository."""

import argparse
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.cli.options import filter_arguments, retry_lock_argument, snapshot_filter
from engine.cli.run import DONE, FAILED, INCOMPLETE, WRONG_USAGE, Run, Verb
from engine.repository import Repository
from engine.terminal import size_text

if TYPE_CHECKING:
    from engine.archiver.streams import Stream


def init(run: Run) -> int:
    repository = Repository.init(run.store(), run.password(), version=run.options.repository_version)
    run.show(
        {"message_type": "initialized", "id": repository.config.id, "repository": repository.store.location},
        f"created repository {repository.config.id[:10]} at {repository.store.location}",
    )
    return DONE


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository-version", type=int, default=2, choices=(1, 2))


def backup(run: Run) -> int:
    if problem := _wrong_words(run.options):
        return run.fail(problem, WRONG_USAGE)
    with run.opening() as repository:
        from engine.commands.backup import backup

    options = run.options
    streams = _streams(options)
    summary = backup(
        repository.result(),
        [] if streams else options.paths,
        streams=streams,
        excludes=[*options.exclude, *_patterns(options.exclude_file)],
        host=options.host,
        tags=[tag for tags in options.tag for tag in tags.split(",") if tag],
        time=options.time,
        parent=None if options.force else options.parent,
        chunker=options.chunker,
        on_progress=run.on_progress,
        on_unreadable=run.tell_unreadable,
        cancel=run.cancel,
        retry_lock_s=options.retry_lock,
    )
    run.show(
        {
            "message_type": "summary",
            **asdict(summary),
            "data_added": summary.bytes_added,
            "data_added_packed": summary.bytes_stored,
            "total_files_processed": summary.files_total,
            "total_bytes_processed": summary.bytes_total,
            "total_duration": summary.duration_s,
        },
        f"files: {summary.files_new} new, {summary.files_changed} changed, {summary.files_unmodified} unmodified\n"
        f"added: {size_text(summary.bytes_added)} ({size_text(summary.bytes_stored)} stored)\n"
        f"processed: {summary.files_total} files, {size_text(summary.bytes_total)} in {summary.duration_s:.1f} s\n"
        f"snapshot {summary.snapshot_id[:8]} saved"
        + (f", incomplete: {summary.errors} entries could not be read as they were" if summary.errors else ""),
    )
    return INCOMPLETE if summary.errors else DONE


def _backup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="or, after --, the command of --stdin-from-command")
    parser.add_argument("--stdin", action="store_true", help="back up what comes on standard input, as one file")
    parser.add_argument("--stdin-from-command", action="store_true", help="back up what a command writes, unless it fails")
    parser.add_argument("--stdin-filename", default="stdin", metavar="NAME", help="the path of that file in the snapshot")
    parser.add_argument("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--exclude-file", action="append", default=[], metavar="FILE")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG[,TAG…]")
    parser.add_argument("--host", "-H", default=platform.node())
    parser.add_argument("--parent", default="auto", metavar="SNAPSHOT")
    parser.add_argument("--force", "-f", action="store_true", help="read everything anew")
    parser.add_argument("--time", type=_moment, metavar="ISO")
    retry_lock_argument(parser, "a prune or a forget")
    parser.add_argument(
        "--chunker", choices=("fastcdc", "rabin"), default="fastcdc", help="rabin cuts where restic does, and needs numba"
    )


def _wrong_words(options: argparse.Namespace) -> str:
    """Return what is wrong with what a backup is told to read, nothing if it makes sense."""
    if options.stdin_from_command:
        if options.stdin:
            return "either --stdin or --stdin-from-command"
        return "" if options.paths else "which command? write it behind: --stdin-from-command --"
    if options.stdin:
        if options.paths:
            return "--stdin reads standard input, and no paths beside it"
        return "--stdin reads what another program writes, and this is a terminal" if sys.stdin.isatty() else ""
    return "" if options.paths else "what is to be backed up? name paths, --stdin or --stdin-from-command"


def _streams(options: argparse.Namespace) -> "list[Stream]":
    """Return what is backed up in place of paths."""
    from engine.archiver.streams import Stream
    from engine.archiver.targets import absolute_path

    path = absolute_path(f"/{options.stdin_filename}")
    if options.stdin_from_command:
        return [Stream(path, tuple(options.paths))]
    return [Stream(path, descriptor=sys.stdin.fileno())] if options.stdin else []


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no ISO 8601 time") from error
    return moment if moment.tzinfo else moment.astimezone(UTC)


def _patterns(files: list[str]) -> list[str]:
    """Return the patterns in files, one a line, without comments and blank lines."""
    patterns = []
    for name in files:
        with open(name, encoding="utf-8", errors="surrogateescape") as lines:
            patterns += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return patterns


def copy(run: Run) -> int:
    from engine.commands.copy import copy

    options = run.options
    summary = copy(
        run.open_from(),
        run.open(),
        options.snapshots,
        only=snapshot_filter(options),
        on_progress=run.on_progress,
        cancel=run.cancel,
    )
    for snapshot_id, reason in summary.failed:
        run.tell(
            {"message_type": "error", "error": {"message": reason}, "during": "copy", "item": snapshot_id},
            f"snapshot {snapshot_id[:8]} was not copied: {reason}",
        )
    run.show(
        {
            "message_type": "summary",
            "copied": [{"source": one.snapshot.id, "copy": one.copy_id} for one in summary.copied],
            "skipped": [{"source": one.snapshot.id, "copy": one.copy_id} for one in summary.skipped],
            "failed": [snapshot_id for snapshot_id, _ in summary.failed],
            "blobs_copied": summary.blobs_copied,
            "bytes_copied": summary.bytes_copied,
            "bytes_stored": summary.bytes_stored,
        },
        "\n".join(
            [
                *(f"snapshot {one.snapshot.short_id} is there already as {one.copy_id[:8]}" for one in summary.skipped),
                *(f"snapshot {one.copy_id[:8]} saved, a copy of {one.snapshot.short_id}" for one in summary.copied),
                f"{len(summary.copied)} snapshots copied, {len(summary.skipped)} skipped, {len(summary.failed)} failed: "
                f"{summary.blobs_copied} blobs, {size_text(summary.bytes_copied)} ({size_text(summary.bytes_stored)} stored)",
            ]
        ),
    )
    return FAILED if summary.failed else DONE


def _copy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshots", nargs="*", metavar="SNAPSHOT", help="copy these; without, all that the options mean")
    parser.add_argument("--from-repo", metavar="REPO", help="the repository that is copied from")
    parser.add_argument("--from-password-file", metavar="FILE")
    filter_arguments(parser, "--host", "-H")


VERBS = (
    Verb("init", "make a repository", init, _init_arguments),
    Verb("backup", "take a snapshot of files and directories", backup, _backup_arguments, can_cancel=True),
    Verb("copy", "copy snapshots from another repository", copy, _copy_arguments, can_cancel=True),
)
