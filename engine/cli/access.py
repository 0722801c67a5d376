"""Verbs about who gets at a repository: its keys, and the locks on it."""

import argparse
import getpass
import json
import sys

from engine.cli.run import DONE, Run, Verb, read_password
from engine.errors import EngineError


def key(run: Run) -> int:
    options = run.options
    if (options.action == "remove") != (options.id is not None):
        raise EngineError("key remove takes the id of a key; list, add and passwd take none")
    if options.action in ("list", "remove") and (options.new_password_file or options.user or options.host):
        raise EngineError("--new-password-file, --user and --host are of key add and key passwd")
    return {"list": _list, "add": _add, "remove": _remove, "passwd": _change_password}[options.action](run)


def _key_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "add", "remove", "passwd"))
    parser.add_argument("id", nargs="?", help="of the key to remove")
    parser.add_argument("--new-password-file", metavar="FILE", help="the new password; without it, it is asked for")
    parser.add_argument("--user", default="", help="whose the new key is said to be")
    parser.add_argument("--host", default="", help="of which host the new key is said to be")


def _list(run: Run) -> int:
    from engine.commands.key import list_keys

    keys = list_keys(run.open(), lambda sentence: run.tell({"message_type": "error", "message": sentence}, sentence))
    rows = [
        (one.is_current, one.id, one.username, one.hostname, f"{one.created.astimezone():%Y-%m-%d %H:%M:%S}" if one.created else "")
        for one in keys
    ]
    if run.options.json:
        names = ("current", "id", "userName", "hostName", "created")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
        return DONE
    table: list[tuple[str, ...]] = [(" ID", "User", "Host", "Created")]
    table += [(("*" if current else " ") + key_id[:8], *others) for current, key_id, *others in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    return DONE


def _add(run: Run) -> int:
    from engine.commands.key import add_key

    key_id = add_key(run.open(), _new_password(run), username=run.options.user, hostname=run.options.host)
    return _show_key(run, key_id, f"saved new key with ID {key_id}")


def _remove(run: Run) -> int:
    from engine.commands.key import remove_key

    key_id = remove_key(run.open(), run.options.id)
    return _show_key(run, key_id, f"removed key {key_id}")


def _change_password(run: Run) -> int:
    from engine.commands.key import change_password

    key_id = change_password(run.open(), _new_password(run), username=run.options.user, hostname=run.options.host)
    return _show_key(run, key_id, f"saved new key as {key_id}")


def _show_key(run: Run, key_id: str, text: str) -> int:
    run.show({"message_type": "summary", "action": run.options.action, "id": key_id}, text)
    return DONE


def _new_password(run: Run) -> str:
    if run.options.new_password_file:
        return read_password(run.options.new_password_file)
    if not sys.stdin.isatty():
        raise EngineError("a new password is needed: give --new-password-file")
    password = getpass.getpass("new password: ")
    if getpass.getpass("the same again: ") != password:
        raise EngineError("the passwords are not the same")
    return password


def unlock(run: Run) -> int:
    from engine.commands.unlock import unlock

    found = unlock(run.open(), remove_all=run.options.remove_all)
    lines = [f"removed {found.removed} locks", *(f"left {holder}" for holder in found.left)]
    left = [str(holder) for holder in found.left]
    run.show({"message_type": "summary", "locks_removed": found.removed, "locks_left": left}, "\n".join(lines))
    return DONE


def _unlock_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remove-all", action="store_true", help="even those of processes that may be at work")


VERBS = (
    Verb("key", "list, add and remove keys, change a password", key, _key_arguments),
    Verb("unlock", "remove locks that were left behind", unlock, _unlock_arguments),
)
