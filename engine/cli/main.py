"""Reading the words of a command line, and turning what a verb comes to into an exit status."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from engine import cli, errors
from engine.cli.run import FAILED, INTERRUPTED, LOCKED, NO_REPOSITORY, WRONG_PASSWORD, Run, Verb
from engine.errors import Cancelled, EngineError

# A module is imported only if one of its words is there: all of them would take as long as a small backup.
WORDS_OF_MODULES = {
    "saving": {"init", "backup", "copy"},
    "looking": {"snapshots", "ls", "stats", "cat"},
    "finding": {"find", "diff"},
    "restoring": {"restore", "dump"},
    "keeping": {"check", "forget", "prune"},
    "repairing": {"repair"},
    "access": {"key", "unlock"},
}
STATUSES: dict[type[EngineError], int] = {
    errors.RepositoryNotFound: NO_REPOSITORY,
    errors.RepositoryLocked: LOCKED,
    errors.WrongPassword: WRONG_PASSWORD,
}


def main(arguments: list[str] | None = None) -> int:
    """Do what the words say; return the exit status."""
    options = parse_arguments(arguments)
    run = Run(options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, run.interrupt)
    try:
        status: int = options.verb.act(run)
        sys.stdout.flush()
        return status
    except Cancelled:
        return run.fail("interrupted", INTERRUPTED)
    except EngineError as error:
        return run.fail(str(error), STATUSES.get(type(error), FAILED))
    except BrokenPipeError:
        # Who reads our output has had enough; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return run.fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options, with the Verb itself as `verb`. Ends the process with status 2 when the words are wrong."""
    top = argparse.ArgumentParser(prog="engine", description=(cli.__doc__ or "").split("\n")[0], parents=[_common()])
    top.set_defaults(repo=None, password_file=None, cacert=None, json=False, quiet=False, limit_upload=0, limit_download=0)
    words = top.add_subparsers(required=True, metavar="VERB")
    families: dict[str, Any] = {}
    for verb in _verbs(sys.argv[1:] if arguments is None else arguments):
        family, _, name = verb.name.rpartition(" ")
        if family and family not in families:
            parser = words.add_parser(family, help=f"{verb.about}, and more", parents=[_common()])
            families[family] = parser.add_subparsers(required=True, metavar="WHAT")
        parser = families.get(family, words).add_parser(name, help=verb.about, parents=[_common()])
        parser.set_defaults(verb=verb)
        verb.arguments(parser)
    return top.parse_args(arguments)


def _verbs(arguments: list[str]) -> Iterator[Verb]:
    """Yield the verbs that the arguments may mean; all, if they have the word of none."""
    modules = [name for name, words in WORDS_OF_MODULES.items() if not words.isdisjoint(arguments)]
    for name in modules or WORDS_OF_MODULES:
        yield from importlib.import_module(f"engine.cli.{name}").VERBS


def _common() -> argparse.ArgumentParser:
    """Return the options that every verb takes, before its name and after it; each parser needs its own."""
    common = argparse.ArgumentParser(add_help=False)
    # Without defaults: those of the verb would undo what stood before it.
    common.add_argument("-r", "--repo", default=argparse.SUPPRESS, help="directory or s3:http://host:port/bucket[/prefix]")
    common.add_argument("--password-file", "-p", default=argparse.SUPPRESS, metavar="FILE")
    common.add_argument("--cacert", default=argparse.SUPPRESS, metavar="FILE", help="certificates that the stores' are signed by")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for machines")
    common.add_argument("--quiet", "-q", action="store_true", default=argparse.SUPPRESS)
    for name in ("--limit-upload", "--limit-download"):
        common.add_argument(name, type=_rate, default=argparse.SUPPRESS, metavar="KIB/S", help="0: no limit")
    return common


def _rate(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of KiB per second")
    return int(text)
