"""`backupserver` and `restoreserver` killed with SIGKILL wherever they are: the same command again does it, with nobody's help."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from engine.backends import open_store
from engine.commands.snapshots import list_snapshots
from engine.repository import Repository
from tests.services.ports import wait_until
from tests.services.postgres import postgres_server
from tests.system.processes import TOP, Installation, descendants

PASSPHRASE = "twelve letters and more"
EVENTS = 1500
# So much that a dump is several packs, and takes a moment to load.
FILL = f"""
import os
from pathlib import Path
from records.models import Event
from tests.factories import make_tenant
Path(STORE).mkdir()
make_tenant(Path(STORE), username="owner")
Event.objects.bulk_create(Event(level=1, topic=1, title="x", message=os.urandom(8000).hex()) for _ in range({EVENTS}))
"""


class Place:
    """Where a server is that only has what a person types: nothing of it runs. `empty`: the database of one that is to be."""

    def __init__(self, directory: Path, full: str, empty: str) -> None:
        self.store = directory / "store"
        self.center = Installation(directory, full)
        self.center.migrate()
        self.center.run_python(f"STORE = {str(self.store)!r}\n{FILL}")
        self.new = Installation(directory, empty, SECRET_KEY=self.center.environment["BACKUPCENTER_SECRET_KEY"])


POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture(scope="module", params=["sqlite", POSTGRES])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("center")
    if request.param == "sqlite":
        yield Place(directory, f"sqlite://{directory / 'full.sqlite3'}", f"sqlite://{directory / 'empty.sqlite3'}")
        return
    with postgres_server() as full, postgres_server() as empty:
        yield Place(directory, full, empty)


def ask(center: Installation, statement: str) -> list[tuple]:
    """Have the database do a statement, without the time that Django takes to start."""
    if center.database_url.startswith("sqlite"):
        with sqlite3.connect(center.database_url.removeprefix("sqlite://"), timeout=20) as connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(center.database_url, autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchall() if done.description else []


def let_time_pass(center: Installation) -> None:
    """Let all leases run out, and nobody be taken for making a repository any more."""
    ask(center, "UPDATE records_maintenancerun SET lease_until = '2020-01-01 00:00:00+00' WHERE lease_until IS NOT NULL")
    ask(center, "UPDATE storage_repository SET created_at = '2020-01-01 00:00:00+00'")


def is_loading(center: Installation) -> bool:
    """Whether rows are being written."""
    if center.database_url.startswith("sqlite"):
        return Path(center.database_url.removeprefix("sqlite://") + ".part").exists()
    return bool(ask(center, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY %' AND state = 'active'"))


def killed(center: Installation, arguments: tuple[str, ...], moment: Callable[[], bool]) -> None:
    """Start a command and kill it, and nothing else, at a moment; return once what it had started has ended too."""
    command = subprocess.Popen(
        [sys.executable, "manage.py", *arguments], cwd=TOP, env=center.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert command.stdout is not None
    while not moment():
        assert command.poll() is None, f"it ended before: {command.stdout.read().decode()}"
        time.sleep(0.0005)
    started = descendants(command.pid)[1:]
    command.kill()
    assert command.wait() == -signal.SIGKILL
    wait_until(lambda: not any(is_alive(process) for process in started), "the end of what it had started")


def is_alive(process: int) -> bool:
    try:
        # Who has ended and is yet to be fetched by init has no command.
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def one_more(directory: Path) -> Callable[[], bool]:
    """Return whether there is a file in the directory, or below it, that was not there at first."""
    before = set(files(directory))
    return lambda: not before.issuperset(files(directory))


def files(directory: Path) -> list[Path]:
    return [Path(place) / name for place, _directories, names in os.walk(directory) for name in names]


def restic(location: Path, password: str, *arguments: str) -> None:
    environment = {**os.environ, "RESTIC_PASSWORD": password, "RESTIC_REPOSITORY": str(location)}
    done = subprocess.run(["restic", "--no-cache", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.restic
@pytest.mark.parametrize("place", [POSTGRES], indirect=True)
def test_a_backup_that_is_killed_anywhere_harms_nothing_and_the_next_one_goes_on(place: Place) -> None:
    center, repository = place.center, place.store / "killed" / "backupcenter-server"
    choosing = ("backupserver", "--tenant", "owner", "--bucket", "killed")
    # While the repository is made: with a key, and nothing that says what it is.
    killed(center, choosing, lambda: bool(files(repository / "keys")))
    let_time_pass(center)
    killed(center, choosing, lambda: bool(ask(center, "SELECT 1 FROM records_maintenancerun")))
    password = center.run_python("from storage.models import Repository; print(Repository.objects.get(bucket='killed').password)")
    for directory in ("locks", "data", "index", "snapshots"):
        let_time_pass(center)
        killed(center, ("backupserver",), one_more(repository / directory))
        restic(repository, password.strip(), "check", "--no-lock", "--read-data")
    let_time_pass(center)
    assert "snapshot" in center.manage("backupserver")
    # If the last one was killed after its snapshot was there, that one is to be forgotten: of a day one is kept.
    assert ask(center, "SELECT count(*) FROM records_maintenancerun WHERE end_time IS NULL AND kind = 'own-backup'") == [(0,)]
    # With its lock: those of the dead are in nobody's way.
    restic(repository, password.strip(), "check", "--read-data")
    # Of the last that was killed there may be one already.
    assert len(list_snapshots(Repository.open(open_store(str(repository)), password.strip()))) in (1, 2)


def test_a_restore_that_is_killed_is_done_by_the_same_command_again(place: Place, tmp_path: Path) -> None:
    old, new, secret = place.center, place.new, tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    old.manage("backupserver", "--tenant", "owner", "--bucket", "server")
    old.manage("recoverykit", "--output", str(tmp_path / "kit.html"), "--passphrase-file", str(secret))
    loading = ("restoreserver", "--kit", str(tmp_path / "kit.html"), "--passphrase-file", str(secret))
    killed(new, loading, one_more(place.store / "server" / "backupcenter-server" / "locks"))
    killed(new, loading, lambda: is_loading(new))
    assert "Done" in new.manage(*loading)
    rows = "SELECT count(*), sum(length(message)) FROM records_event WHERE title = 'x'"
    assert ask(new, rows) == [(EVENTS, EVENTS * 16000)]
    new.migrate()
    # The backup that the dump was taken by was under way in it, and is done with by itself.
    let_time_pass(new)
    assert "snapshot" in new.manage("backupserver")
