"""The server's own database: backed up by the server, lost, and loaded into an empty one with nothing but the kit and the store."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.postgres import postgres_server
from tests.system.processes import Installation

PASSPHRASE = "twelve letters and more"
FILL = """
from pathlib import Path
from accounts.models import AuditEntry, User
from jobs.signing import public_key
from storage.models import Endpoint
from storage.tenants import add_tenant
from tests.factories import make_plan, make_record
User.objects.create_superuser("root", password="a long password")
Path(STORE).mkdir()
plan = make_plan(Path(STORE), backup_name="nightly")
for _ in range(100):
    make_record(plan)
AuditEntry.objects.create(actor="root", action="login", via="api", outcome="done")
print(public_key(), plan.repository.password, plan.tenant.username)
"""
LOOK = """
import json
from django.contrib.auth import authenticate
from accounts.models import AuditEntry
from jobs.signing import public_key
from jobs.models import BackupPlan
from records.models import BackupRecord
plan = BackupPlan.objects.get()
print(json.dumps([bool(authenticate(username="root", password="a long password")), plan.backup_name, plan.repository.password,
    BackupRecord.objects.count(), AuditEntry.objects.filter(actor="root", action="login").count(), public_key()]))
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str | None]]:
    """Return a function that makes an empty database of a name and returns its URL, None for the usual file."""
    if request.param == "sqlite":
        yield lambda name: f"sqlite://{tmp_path / name}.sqlite3"
        return
    with postgres_server() as first, postgres_server() as second:
        urls = {"old": first, "new": second}
        yield urls.__getitem__


def restic(location: str, password: str, *arguments: str) -> str:
    environment = {**os.environ, "RESTIC_PASSWORD": password, "RESTIC_REPOSITORY": location, "RESTIC_CACHE_DIR": "/tmp/none"}
    done = subprocess.run(["restic", "--no-cache", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.restic
def test_after_a_total_loss_all_is_as_it_was(tmp_path: Path, make_database: Callable[[str], str | None]) -> None:
    (tmp_path / "old").mkdir()
    old = Installation(tmp_path / "old", make_database("old"))
    old.migrate()
    key, password, tenant = old.run_python(f"STORE = {str(tmp_path / 'store')!r}\n{FILL}").split()
    told = old.manage("backupserver", "--tenant", tenant, "--bucket", "server")
    assert "snapshot" in told
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    kit = tmp_path / "kit.html"
    old.manage("recoverykit", "--output", str(kit), "--passphrase-file", str(secret))

    (tmp_path / "new").mkdir()
    keys = {"SECRET_KEY": old.environment["BACKUPCENTER_SECRET_KEY"]}
    empty = make_database("new")
    stranger = Installation(tmp_path / "new", empty)
    loading = ("restoreserver", "--kit", str(kit), "--passphrase-file", str(secret))
    with pytest.raises(AssertionError, match=r"server\.env"):
        stranger.manage(*loading)
    new = Installation(tmp_path / "new", empty, **keys)
    assert "Done" in new.manage(*loading)
    new.migrate()
    assert json.loads(new.run_python(LOOK)) == [True, "nightly", password, 100, 1, key]
    with pytest.raises(AssertionError, match="not empty"):
        new.manage(*loading)
    # What a server backs up of itself is no client's.
    new.manage("syncrecords")
    assert json.loads(new.run_python(LOOK))[3] == 100

    row = "from jobs.models import OwnBackup; r = OwnBackup.objects.get().repository; print(r.location, r.password)"
    location, own_password = new.run_python(row).split()
    restic(location, own_password, "check", "--read-data")
    assert json.loads(restic(location, own_password, "snapshots", "--json"))[0]["paths"] == ["/backupcenter/database.dump"]
