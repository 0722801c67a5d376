"""The engine's command line: `python -m engine -r REPO VERB …`, with restic's words, options and exit statuses.

0: done; 1: failed; 3: a backup is incomplete, since some files could not be read; 130: interrupted. With `--json` standard
output holds JSON in restic's shapes. Verbs live in `engine.commands`; here they are only called and shown.
"""

import argparse
import json
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from engine.errors import Cancelled, EngineError
from engine.repository import Repository
from engine.terminal import ProgressLine, size_text

DONE, FAILED, INCOMPLETE, INTERRUPTED = 0, 1, 3, 130


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    run = _Run(options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, run.interrupt)
    try:
        return run.verb()
    except Cancelled:
        run.fail("interrupted")
        return INTERRUPTED
    except EngineError as error:
        run.fail(str(error))
        return FAILED
    except BrokenPipeError:
        # Who reads our output has had enough; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        run.fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return FAILED


class _Run:
    """One call of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cancel = threading.Event()
        self.line = ProgressLine(is_json=options.json, is_quiet=options.quiet)

    def verb(self) -> int:
        act: Callable[[], int] = getattr(self, f"do_{self.options.verb}")
        return act()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        # A verb that has no use for the event, or is asked twice, ends where it stands.
        if self.cancel.is_set() or self.options.verb not in ("backup", "restore", "check"):
            raise Cancelled
        self.cancel.set()

    def fail(self, sentence: str) -> None:
        self.line.clear()
        if self.options.json:
            message = {"message_type": "exit_error", "code": FAILED, "message": sentence}
            print(json.dumps(message), file=sys.stderr)
        else:
            print(f"engine: {sentence}", file=sys.stderr)

    def open(self) -> Repository:
        return Repository.open(self._store(), self._password())

    def do_init(self) -> int:
        repository = Repository.init(self._store(), self._password(), version=self.options.repository_version)
        self._show(
            {"message_type": "initialized", "id": repository.config.id, "repository": repository.store.location},
            f"created repository {repository.config.id[:10]} at {repository.store.location}",
        )
        return DONE

    def do_backup(self) -> int:
        from engine.commands.backup import backup

        options = self.options
        summary = backup(
            self.open(),
            options.paths,
            excludes=[*options.exclude, *_patterns(options.exclude_file)],
            host=options.host,
            tags=[tag for tags in options.tag for tag in tags.split(",") if tag],
            time=options.time,
            parent=None if options.force else options.parent,
            on_progress=self.line.progress if self.line.is_shown else None,
            on_unreadable=self._unreadable,
            cancel=self.cancel,
        )
        self.line.clear()
        self._show(
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
            f"snapshot {(summary.snapshot_id or '')[:8]} saved",
        )
        return INCOMPLETE if summary.errors else DONE

    def do_restore(self) -> int:
        from engine.commands.restore import restore

        options = self.options
        name, _colon, folder = options.snapshot.partition(":")
        summary = restore(
            self.open(),
            name,
            os.fsencode(options.target),
            include=[*options.include, *([folder] if folder else [])],
            exclude=options.exclude,
            overwrite=options.overwrite,
            verify=options.verify,
            on_progress=self.line.progress if self.line.is_shown else None,
            on_error=self._unreadable,
            cancel=self.cancel,
        )
        self.line.clear()
        self._show(
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

    def do_snapshots(self) -> int:
        from engine.commands.snapshots import list_snapshots

        found = list_snapshots(self.open())
        if self.options.json:
            shown = [{**json.loads(one.encode()), "id": one.id, "short_id": one.short_id} for one in found]
            print(json.dumps(shown))
            return DONE
        for one in found:
            tags = f"  [{','.join(one.tags)}]" if one.tags else ""
            print(f"{one.short_id}  {one.time:%Y-%m-%d %H:%M:%S}  {one.hostname}  {' '.join(one.paths)}{tags}")
        print(f"{len(found)} snapshots")
        return DONE

    def do_ls(self) -> int:
        from engine.commands.ls import open_snapshot, walk

        repository = self.open()
        snapshot = open_snapshot(repository, self.options.snapshot)
        if self.options.json:
            head = json.loads(snapshot.encode())
            print(json.dumps({**head, "id": snapshot.id, "short_id": snapshot.short_id, "struct_type": "snapshot"}))
        for path, node in walk(repository, snapshot, os.fsencode(self.options.path)):
            if self.options.json:
                entry = {**json.loads(node.to_json()), "path": path.decode(errors="replace"), "struct_type": "node"}
                entry.pop("content", None)
                print(json.dumps(entry))
            else:
                sys.stdout.flush()
                sys.stdout.buffer.write(path + b"\n")
        sys.stdout.buffer.flush()
        return DONE

    def do_check(self) -> int:
        from engine.commands.check import check

        report = check(
            self.open(),
            read_data=self.options.read_data,
            on_progress=self.line.progress if self.line.is_shown else None,
            cancel=self.cancel,
        )
        self.line.clear()
        for problem in report.problems:
            self._tell({"message_type": "error", "message": problem}, problem)
        for note in report.notes:
            self._tell({"message_type": "note", "message": note}, f"note: {note}")
        found = f"{len(report.problems)} problems" if report.problems else "no problems"
        self._show(
            {"message_type": "summary", "num_errors": len(report.problems), **asdict(report)},
            f"{report.snapshots} snapshots, {report.packs} packs, {report.blobs} blobs: {found} found",
        )
        return FAILED if report.problems else DONE

    def do_stats(self) -> int:
        from engine.commands.stats import stats

        found = stats(self.open(), self.options.snapshot)
        self._show(
            {**asdict(found), "total_size": found.restore_size, "total_file_count": found.files},
            f"{found.snapshots} snapshots restore to {found.files} files, {size_text(found.restore_size)}\n"
            f"the repository holds {found.blobs} blobs in {found.packs} packs: {size_text(found.stored_size)}",
        )
        return DONE

    def do_cat(self) -> int:
        from engine.commands.cat import cat

        sys.stdout.buffer.write(cat(self.open(), self.options.kind, self.options.id))
        sys.stdout.buffer.flush()
        return DONE

    def do_dump(self) -> int:
        from engine.commands.dump import dump_file, dump_tar
        from engine.commands.ls import find_node, open_snapshot

        repository, path = self.open(), os.fsencode(self.options.path)
        snapshot = open_snapshot(repository, self.options.snapshot)
        dump = dump_tar if find_node(repository, snapshot, path).is_dir else dump_file
        for piece in dump(repository, snapshot, path):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return DONE

    def _store(self) -> Any:
        from engine.backends import open_store

        location = self.options.repo or os.environ.get("RESTIC_REPOSITORY")
        if not location:
            raise EngineError("which repository? name it with -r or RESTIC_REPOSITORY")
        return open_store(location)

    def _password(self) -> str:
        file = self.options.password_file or os.environ.get("RESTIC_PASSWORD_FILE")
        if file:
            try:
                with open(file, encoding="utf-8") as lines:
                    password = lines.read().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise EngineError(f"the password file {file} is not text in UTF-8") from error
        else:
            password = os.environ.get("RESTIC_PASSWORD", "")
        if not password:
            raise EngineError("a password is needed: give --password-file or RESTIC_PASSWORD")
        return password

    def _unreadable(self, path: bytes, reason: str) -> None:
        item = path.decode(errors="replace")
        message = {"message_type": "error", "error": {"message": reason}, "during": self.options.verb, "item": item}
        self._tell(message, f"{item}: {reason}")

    def _tell(self, message: dict[str, Any], text: str) -> None:
        self.line.clear()
        print(json.dumps(message) if self.options.json else text, file=sys.stderr)

    def _show(self, message: dict[str, Any], text: str) -> None:
        if self.options.json:
            print(json.dumps(message))
        elif not self.options.quiet:
            print(text)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    top = argparse.ArgumentParser(prog="engine", description=__doc__.split("\n")[0], parents=[_common()])
    top.set_defaults(repo=None, password_file=None, json=False, quiet=False)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=about, parents=[_common()])

    init = verb("init", "make a repository")
    init.add_argument("--repository-version", type=int, default=2, choices=(1, 2))
    saving = verb("backup", "take a snapshot of files and directories")
    saving.add_argument("paths", nargs="+", metavar="PATH")
    saving.add_argument("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    saving.add_argument("--exclude-file", action="append", default=[], metavar="FILE")
    saving.add_argument("--tag", action="append", default=[], metavar="TAG[,TAG…]")
    saving.add_argument("--host", "-H", default=platform.node())
    saving.add_argument("--parent", default="auto", metavar="SNAPSHOT")
    saving.add_argument("--force", "-f", action="store_true", help="read everything anew")
    saving.add_argument("--time", type=_moment, metavar="ISO")
    verb("snapshots", "list snapshots")
    listing = verb("ls", "list what a snapshot holds")
    listing.add_argument("snapshot")
    listing.add_argument("path", nargs="?", default="/")
    restoring = verb("restore", "restore a snapshot or a part of it")
    restoring.add_argument("snapshot", help="id, its beginning, or latest; :/folder after it restores that alone")
    restoring.add_argument("--target", "-t", required=True, metavar="DIR")
    restoring.add_argument("--include", "-i", action="append", default=[], metavar="PATH")
    restoring.add_argument("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    restoring.add_argument("--overwrite", default="always", choices=("always", "if-changed", "if-newer", "never"))
    restoring.add_argument("--verify", action="store_true", help="read everything back")
    checking = verb("check", "look for damage")
    checking.add_argument("--read-data", action="store_true", help="read every byte")
    verb("stats", "count").add_argument("snapshot", nargs="?")
    showing = verb("cat", "show a piece of the repository")
    showing.add_argument("kind", choices=("config", "snapshot", "index", "lock", "key", "blob", "tree", "pack"))
    showing.add_argument("id", nargs="?", default="")
    dumping = verb("dump", "write a file, or a directory as tar, to standard output")
    dumping.add_argument("snapshot")
    dumping.add_argument("path")
    return top.parse_args(arguments)


def _common() -> argparse.ArgumentParser:
    """Return the options that every verb takes, before its name and after it; each parser needs its own."""
    common = argparse.ArgumentParser(add_help=False)
    # Without defaults: those of the verb would undo what stood before it.
    common.add_argument("-r", "--repo", default=argparse.SUPPRESS, help="directory or s3:http://host:port/bucket[/prefix]")
    common.add_argument("--password-file", "-p", default=argparse.SUPPRESS, metavar="FILE")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for machines")
    common.add_argument("--quiet", "-q", action="store_true", default=argparse.SUPPRESS)
    return common


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
