"""Options that several verbs take, and how what they say is read."""

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

from engine.errors import EngineError
from engine.snapshot import SnapshotFilter

_Value = TypeVar("_Value")
_WAIT = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


def filter_arguments(parser: argparse.ArgumentParser, *names_of_host: str) -> None:
    """Add the options of which `snapshot_filter` makes a filter."""
    parser.add_argument(
        *names_of_host, dest="host", action="append", default=[], metavar="HOST", help="snapshots of this host alone"
    )
    parser.add_argument("--tag", type=tags, action="append", default=[], metavar="TAG[,TAG…]", help="with all these tags")
    parser.add_argument("--path", action="append", default=[], metavar="PATH", help="of this path, among others")


def snapshot_filter(options: argparse.Namespace) -> SnapshotFilter:
    return SnapshotFilter(tuple(options.host), tuple(options.tag), tuple(options.path))


def retry_lock_argument(parser: argparse.ArgumentParser, who: str) -> None:
    """Add the option that says for how long to wait for `who`, whose lock is in the way."""
    parser.add_argument("--retry-lock", type=_wait, default=0, metavar="DURATION", help=f"wait for {who}, like 30m")


def tags(text: str) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in text.split(","))


def said(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Return a parser whose refusal is a usage error in its own words."""

    def parse_option(text: str) -> _Value:
        try:
            return parse(text)
        except (EngineError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_option


def _wait(text: str) -> int:
    """Return the seconds of a time as restic takes it."""
    match = _WAIT.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text or 'nothing'} is no duration like 90s, 30m, 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
