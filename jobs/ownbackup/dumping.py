"""The database as one file that is of one moment, and back: by PostgreSQL's own programs, or SQLite's own copy of itself."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from engine.errors import EngineError

TIMEOUT_S = 6 * 3600
_SQLITE = "import sqlite3, sys; copy = sqlite3.connect(':memory:'); sqlite3.connect(sys.argv[1]).backup(copy); "
_SQLITE += "sys.stdout.buffer.write(copy.serialize())"


class CannotLoad(Exception):
    """The database cannot be loaded; the message is a sentence that says why."""


def dump_source(path: str) -> dict[str, Any]:
    """Return the stream that becomes the file `path` of a snapshot, as the agent's child takes it. Raises EngineError.

    A password is in the command's environment, which only the server's user can read.
    """
    place = settings.DATABASES["default"]
    if connection.vendor == "postgresql":
        # Not compressed: the repository does that, once it has seen what it has already.
        arguments = [_program("pg_dump"), "--format=custom", "--compress=0", "--no-password"]
    else:
        arguments = [sys.executable, "-I", "-c", _SQLITE, str(place["NAME"])]
    return {"path": path, "label": "dump", "arguments": arguments, "timeout_s": TIMEOUT_S, "environment": _environment()}


def require_empty() -> None:
    """Raise CannotLoad if there is anything in the database."""
    if tables := connection.introspection.table_names():
        sentence = _("The database is not empty: it has a table %(table)s. Only into an empty one can another be loaded.")
        raise CannotLoad(sentence % {"table": sorted(tables)[0]})


def load_dump(pieces: Iterable[bytes]) -> None:
    """Load a dump into the empty database. Raises CannotLoad, after which a database of SQLite is as it was."""
    require_empty()
    connection.close()
    if connection.vendor == "postgresql":
        _load_postgresql(pieces)
    else:
        _load_sqlite(pieces, Path(str(settings.DATABASES["default"]["NAME"])))


def _load_postgresql(pieces: Iterable[bytes]) -> None:
    try:
        program = _program("pg_restore")
    except EngineError as error:
        raise CannotLoad(str(error)) from error
    environment = _environment()
    # In one transaction, so that a dump that breaks off leaves nothing.
    options = ["--no-password", "--no-owner", "--single-transaction", "--exit-on-error"]
    command = [program, *options, "--dbname", environment["PGDATABASE"]]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        with process.stdin as pipe:
            for piece in pieces:
                pipe.write(piece)
    except BrokenPipeError:
        pass
    except BaseException:
        process.kill()
        raise
    finally:
        said = process.stderr.read().decode(errors="replace")
        process.stderr.close()
        process.wait()
    if process.returncode:
        raise CannotLoad(_("pg_restore failed: %(said)s") % {"said": said.strip()[-1000:]})


def _load_sqlite(pieces: Iterable[bytes], path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        # What an empty one had beside it is none of this one's.
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        part.replace(path)
    except OSError as error:
        raise CannotLoad(_("%(path)s cannot be written: %(reason)s") % {"path": path, "reason": error.strerror}) from error
    finally:
        part.unlink(missing_ok=True)


def _program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, the newest there is: an older one refuses a newer server."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: path.parts[4].zfill(4))
    found = str(debian[-1]) if debian else shutil.which(name)
    if not found:
        sentence = _("%(program)s is not installed on this machine; it comes with PostgreSQL's client programs.")
        raise EngineError(sentence % {"program": name})
    return found


def _environment() -> dict[str, str]:
    place = settings.DATABASES["default"]
    named = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    given = {variable: str(place[key]) for variable, key in named.items() if place.get(key)}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PGSSLMODE", "PGSSLROOTCERT") if name in os.environ}
    return kept | given if connection.vendor == "postgresql" else kept
