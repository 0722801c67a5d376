"""A database from a plan to the same rows: dumped by a stream, restored as a file, loaded into an empty database."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rest_framework.test import APIClient

from agent.allowed import ALLOWED_VARIABLE, allowed_names
from agent.center import ABOUT_US, Center
from agent.job import run_job
from jobs.planning import run_plan
from jobs.recovery import request_recovery
from records.models import JobRecord, State
from tests.agent.center import TOKEN, FakeCenter, fake_center
from tests.factories import agent_token, make_client, make_plan
from tests.services.postgres import postgres_programs


@pytest.fixture
def psql(postgres_url: str) -> Callable[..., bytes]:
    """Return a function that runs one of PostgreSQL's programs on the server and returns what it prints."""
    at, place = urlsplit(postgres_url), postgres_programs()
    assert place is not None

    def run(program: str, *arguments: str) -> bytes:
        login = ["-h", str(at.hostname), "-p", str(at.port), "-U", str(at.username)]
        return subprocess.run([place / program, *login, *arguments], capture_output=True, check=True).stdout

    return run


def do(agent: APIClient, center: FakeCenter, state: Path, record: JobRecord) -> None:
    """Let an agent do the job: claimed from the server, run as it is told, and reported as it went."""
    claimed = agent.post(f"/api/agent/job/{record.job}/claim", {"attempt": 1}, format="json", headers=ABOUT_US)
    assert claimed.status_code == 200, claimed.content
    center.specification = claimed.json()
    run_job(Center(center.url, TOKEN), state, record.job, 1)
    report = center.bodies("finish")[-1]
    assert agent.post(f"/api/agent/job/{record.job}/finish", report, format="json", headers=ABOUT_US).status_code == 200
    record.refresh_from_db()


@pytest.mark.postgres
@pytest.mark.django_db
def test_a_plan_dumps_a_database_whose_rows_come_back(
    tmp_path: Path, postgres_url: str, psql: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, programs = urlsplit(postgres_url), postgres_programs()
    for name in ("crm", "crm2"):
        psql("psql", "-d", "postgres", "-c", f"DROP DATABASE IF EXISTS {name}", "-c", f"CREATE DATABASE {name}")
    make_rows = "CREATE TABLE people AS SELECT id, md5(id::text) AS name FROM generate_series(1, 50000) id"
    psql("psql", "-d", "crm", "-c", make_rows)
    allowed = tmp_path / "allowed.toml"
    command = ["pg_dump", "-Fc", "-h", at.hostname, "-p", str(at.port), "-U", at.username, "{database}"]
    allowed.write_text(
        f'path = "{programs}:/usr/bin:/bin"\n[[command]]\nname = "dump"\nrun = {json.dumps(command)}\n'
        'parameters = { database = ["crm", "gone"] }\n'
    )
    monkeypatch.setenv(ALLOWED_VARIABLE, str(allowed))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_text("beside it")
    (tmp_path / "store").mkdir()
    client = make_client()
    agent = APIClient()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {agent_token(client)}")
    agent.post("/api/agent/heartbeat", {"allowed": allowed_names()}, format="json", headers=ABOUT_US)

    def plan_of(database: str) -> Any:
        stream = {"name": "/dumps/crm.dump", "command": ["dump", f"database={database}"], "timeout_s": 600}
        data = json.dumps({"include": [str(tmp_path / "files")], "streams": [stream]})
        return make_plan(tmp_path / "store", client=client, backup_data=data)

    with fake_center() as center:
        record = run_plan(plan_of("crm"))
        do(agent, center, tmp_path, record)
        assert (record.state, record.error, record.files_total) == (State.SUCCESS, "", 2)
        assert [(each["stage"], each["command"], each["status"]) for each in record.commands] == [("stream", "dump", 0)]
        data = {"destination": str(tmp_path / "back"), "include": ["/dumps"]}
        recovery = request_recovery(client, record, json.dumps(data))
        do(agent, center, tmp_path, recovery)
        assert recovery.state == State.SUCCESS
        psql("pg_restore", "-d", "crm2", str(tmp_path / "back" / "dumps" / "crm.dump"))
        rows = "SELECT count(*), md5(string_agg(id || name, ',' ORDER BY id)) FROM people"
        assert psql("psql", "-At", "-d", "crm2", "-c", rows) == psql("psql", "-At", "-d", "crm", "-c", rows)
        # A dump that fails is a run that failed, with the program's own reason and no snapshot.
        failed = run_plan(plan_of("gone"))
        do(agent, center, tmp_path, failed)
        assert (failed.state, failed.snapshot) == (State.FAILED, "")
        assert 'database "gone" does not exist' in failed.error
