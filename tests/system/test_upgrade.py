"""A database that an earlier version has filled is migrated and goes on: plans fire, records are read, tokens and secrets hold.

`data/upgrade-*.sql` were dumped from databases which the code of 25 November 2026 (commit f7dc7e8) had made and filled.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.postgres import postgres_programs, postgres_server
from tests.system.processes import TOP

DATA = Path(__file__).parent / "data"
# What the dumps hold hashed or encrypted, under this key.
SECRET_KEY = "only-for-tests"
KNOWN = json.loads((DATA / "upgrade-secrets.json").read_text())

CHECK = """
import json
from django.utils import timezone
from django.test import Client as Browser
from clients.models import Client
from jobs.models import BackupPlan
from jobs.offering import offer_jobs
from jobs.scheduling import fire_due_plans
from records.models import BackupRecord, Event, RecoveryRecord
from storage.models import Repository, Tenant
browser = Browser(headers={"host": "localhost"})
def ask(scheme, token, method, path, **said):
    answer = getattr(browser, method)(
        path, json.dumps(said) if said else None, content_type="application/json", headers={"Authorization": f"{scheme} {token}"}
    )
    return [answer.status_code, answer.json()]
known = json.loads(KNOWN)
token, agent = known["token"], known["agent"]
found = {
    "password": Repository.objects.get().password == known["password"],
    "secret": Tenant.objects.get().secret_key == "the store's secret",
    "records": ask("Token", token, "get", "/api/record/backup")[1]["total"],
    "recoveries": ask("Token", token, "get", "/api/record/recovery")[1]["total"],
    "plans": sorted(plan["backup_name"] for plan in ask("Token", token, "get", "/api/backup")[1]["Data"]),
    "events": Event.objects.filter(title="hello from before").count(),
    "heartbeat": ask("Agent", agent, "post", "/api/agent/heartbeat", version="0.1.0", os="Debian", load=0.5, running=[])[0],
}
offer_jobs()
waiting = RecoveryRecord.objects.get()
found["recovery"] = ask("Agent", agent, "post", f"/api/agent/job/{waiting.job}/claim", attempt=1)[0]
BackupRecord.objects.filter(state=1).update(state=4)
BackupPlan.objects.filter(backup_name="daily").update(next_fire_at=timezone.now())
found["fires"] = fire_due_plans()
print(json.dumps(found))
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request, tmp_path: Path) -> Iterator[str]:
    """The URL of a database as the earlier version has left it."""
    dump = DATA / f"upgrade-{request.param}.sql"
    if request.param == "sqlite":
        connection = sqlite3.connect(tmp_path / "center.sqlite3")
        connection.executescript(dump.read_text())
        connection.close()
        yield f"sqlite://{tmp_path / 'center.sqlite3'}"
        return
    with postgres_server() as url:
        programs = postgres_programs()
        assert programs is not None
        psql = [programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, url.replace("postgres://", "postgresql://")]
        subprocess.run(psql, check=True, stdout=subprocess.DEVNULL)
        yield url


def manage(database_url: str, *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKUPCENTER_", "DJANGO_"))}
    named = {"SECRET_KEY": SECRET_KEY, "DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1/0"}
    environment = {**kept, **{f"BACKUPCENTER_{name}": value for name, value in named.items()}}
    done = subprocess.run([sys.executable, "manage.py", *arguments], cwd=TOP, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_what_an_earlier_version_has_stored_goes_on_after_an_upgrade(database_url) -> None:
    known = json.dumps(KNOWN[database_url.partition(":")[0]])
    manage(database_url, "migrate", "-v", "0")
    printed = manage(database_url, "shell", "--no-imports", "-v", "0", "-c", f"KNOWN = {known!r}\n{CHECK}")
    assert json.loads(printed.splitlines()[-1]) == {
        "password": True,
        "secret": True,
        "records": 3,
        "recoveries": 1,
        "plans": ["daily", "once", "paused"],
        "events": 1,
        "heartbeat": 200,
        "recovery": 200,
        # The daily plan, and the one that was to run once and has missed it.
        "fires": 2,
    }
