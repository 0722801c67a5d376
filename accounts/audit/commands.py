"""The audit log of management commands: which was run, by whom of the operating system, with what outcome."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

from accounts.audit.acts import Act, acting

# They change nothing that the log is about, and some run before there is a database.
QUIET = {"", "help", "version", "check", "makemigrations", "showmigrations", "sqlmigrate", "collectstatic", "compilemessages"}
QUIET |= {"diffsettings", "nextfires", "runserver", "test", "testserver", "findstatic", "makemessages", "spectacular"}


@contextmanager
def recorded(arguments: list[str]) -> Iterator[None]:
    """Record the command that runs within the block. `arguments`: as in `sys.argv`; values of options are not kept."""
    name = arguments[1] if len(arguments) > 1 else ""
    if name.startswith("-") or name in QUIET:
        yield
        return
    options = sorted({each.partition("=")[0] for each in arguments[2:] if each.startswith("-")})
    act = Act(via="command", actor=_who(), action=" ".join([name, *options]))
    outcome = "failed"
    try:
        with acting(act):
            yield
        outcome = "done"
    except SystemExit as end:
        outcome = "failed" if end.code else "done"
        raise
    finally:
        from django.apps import apps

        if apps.ready:
            act.record(outcome)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
