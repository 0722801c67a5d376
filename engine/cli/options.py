"""Options that several verbs take, and how what they say is read."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from engine.errors import EngineError
from engine.snapshot import SnapshotFilter

_Value = TypeVar("_Value")


def filter_arguments(parser: argparse.ArgumentParser, *names_of_host: str) -> None:
    """Add the options of which `snapshot_filter` makes a filter."""
    parser.add_argument(
        *names_of_host, dest="host", action="append", default=[], metavar="HOST", help="snapshots of this host alone"
    )
    parser.add_argument("--tag", type=tags, action="append", default=[], metavar="TAG[,TAG…]", help="with all these tags")
    parser.add_argument("--path", action="append", default=[], metavar="PATH", help="of this path, among others")


def snapshot_filter(options: argparse.Namespace) -> SnapshotFilter:
    return SnapshotFilter(tuple(options.host), tuple(options.tag), tuple(options.path))


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
