"""Secrets that management commands are given: typed, or in a file; never as arguments, which process lists show."""

import getpass
import sys
from pathlib import Path

from django.core.management.base import CommandError


def read_secret(path: str | None, question: str, *, twice: bool = False) -> str:
    """Return the first line of the file (`-`: of standard input), or what is typed at the terminal. Raises CommandError."""
    if path is not None:
        try:
            text = sys.stdin.readline() if path == "-" else Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}") from error
        secret = text.split("\n", 1)[0].rstrip("\r")
    elif not sys.stdin.isatty():
        raise CommandError(f"{question}: give it in a file, since there is no terminal to type it at")
    else:
        secret = getpass.getpass(f"{question}: ")
        if twice and getpass.getpass("the same again: ") != secret:
            raise CommandError("they are not the same")
    if not secret:
        raise CommandError(f"{question}: it is empty")
    return secret
