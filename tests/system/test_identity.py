"""A real agent's login: used, replaced while it works, lost half-way in a crash, forgotten by Redis, ended."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from redis import Redis

from tests.services.ports import wait_until
from tests.system.operating import CANCELLED, LOOPBACK_IPV4, RUNNING, Operator, Record
from tests.system.processes import Installation, Process, engine_processes, installation, send

SOURCE_BYTES = 64 << 20
# An agent that says more often that it is there, so that no test waits for it; what else it is to do differently follows.
AGENT = "import os, signal, agent.app, agent.login; agent.app.HEARTBEAT_EVERY_S = 0.5; {}; from agent.__main__ import main; main()"
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
BEFORE_STORING = f"agent.login.save_config = lambda *login: {DIE}"
AFTER_STORING = f"save = agent.login.save_config; agent.login.save_config = lambda *login: (save(*login), {DIE})"


class Stage:
    """An installation at work, with an agent that has joined and runs."""

    def __init__(self, center: Installation, source: Path) -> None:
        self.center, self.source = center, source
        self.redis = center.redis()
        center.web()
        self.operator = Operator(center)
        self.operator.register()
        center.control()
        center.beat()
        self.agent = self.start_agent()
        (source / "file").write_text("content")
        self.plan = self.operator.plan("identity", source, "0 0 0 1 1 ? 2099")

    def start_agent(self, changed: str = "pass") -> Process:
        command = [sys.executable, "-c", AGENT.format(changed), "run", "--state", str(self.center.directory / "agent")]
        says = b"" if changed != "pass" else b"ready."
        return self.center.start("agent", *command, environment=self.center.agent_environment, says=says)

    @property
    def remembered(self) -> dict[str, Any]:
        return dict(json.loads((self.center.directory / "agent" / "agent.json").read_text()))

    def make_login_due(self) -> None:
        code = "from datetime import timedelta; from django.utils import timezone; from clients.models import AgentLogin;"
        self.center.run_python(code + "AgentLogin.objects.update(created_at=timezone.now() - timedelta(days=2))")

    def logins(self) -> int:
        return int(self.center.run_python("from clients.models import AgentLogin; print(AgentLogin.objects.count())").split()[-1])

    def back_up(self) -> Record:
        return self.operator.wait_for_end(self.operator.run(self.plan))

    def begin(self) -> tuple[Record, int]:
        """Start a backup and hold its engine; return its record and the engine's process id."""
        (self.source / "large").write_bytes(os.urandom(SOURCE_BYTES))
        record = self.operator.run(self.plan)
        wait_until(lambda: bool(engine_processes(self.agent)), "the engine to start", timeout_s=60)
        child = engine_processes(self.agent)[0]
        send(signal.SIGSTOP, child)
        return self.operator.wait(record, lambda now: now["state"] == RUNNING, "the backup to run"), child

    def users(self) -> list[str]:
        """Return the users of Redis who are connected."""
        with Redis.from_url(self.center.redis_url) as redis:
            return sorted({client["user"] for client in redis.client_list()})

    def delete(self, path: str) -> None:
        """Delete something of the server's, as an administrator."""
        headers = {"Authorization": f"Token {self.operator.token}"}
        requests.delete(self.center.url + path, headers=headers, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with installation(JOB_REPUBLISH="4", LOG_FORMAT="json") as center:
        center.agent_environment["BACKUPCENTER_LOG_FORMAT"] = "json"
        yield Stage(center, tmp_path_factory.mktemp("source"))


def test_an_agent_backs_up_with_a_login_of_its_own(stage: Stage) -> None:
    stage.back_up()
    client = f"client.{stage.remembered['client']}"
    assert stage.users() == [client, "default"]
    assert urlsplit(stage.remembered["broker"]).username == client
    assert stage.center.redis_password not in (stage.center.directory / "agent" / "agent.json").read_text()


def lines_of(stage: Stage, name: str) -> list[dict[str, Any]]:
    """Return a program's log lines. But for Celery's banner each is to be a JSON object."""
    lines = stage.center.log_path(name).read_text().splitlines()
    return [json.loads(line) for line in lines if name != "control" or line.startswith("{")]


def test_all_logs_name_the_job_that_a_line_belongs_to(stage: Stage) -> None:
    # Of its own accord, so that a control worker starts it.
    plan = stage.operator.plan("once", stage.source)
    wait_until(lambda: bool(stage.operator.records(plan)), "the plan to fire")
    (record,) = stage.operator.records(plan)
    stage.operator.wait_for_end(record)
    job = f"backup-{record['id']}"
    about = {name: [line for line in lines_of(stage, name) if line["job"] == job] for name in ("web", "control", "agent")}
    said = {name: {line["logger"] for line in lines} for name, lines in about.items()}
    assert "uvicorn.access" in said["web"]
    assert "jobs.dispatch" in said["control"]
    assert "agent.job" in said["agent"]
    requests_made = [line["message"] for line in about["web"] if line["logger"] == "uvicorn.access"]
    assert any(f"/api/agent/job/{job}/finish" in message for message in requests_made)
    for line in (line for lines in about.values() for line in lines):
        assert line.keys() - {"exc_info", "stack_info"} == {"time", "level", "logger", "job", "message"}
    # What belongs to no job says so.
    assert any(line["job"] is None for line in lines_of(stage, "agent"))
    stage.delete(f"/api/backup/{plan['uuid']}")


def test_a_login_is_replaced_while_a_backup_runs(stage: Stage) -> None:
    record, child = stage.begin()
    before = stage.remembered
    stage.make_login_due()
    wait_until(lambda: stage.remembered["token"] != before["token"], "the next login")
    wait_until(lambda: not stage.remembered["previous_token"], "the server to have seen it")
    assert stage.logins() == 1
    send(signal.SIGCONT, child)
    assert stage.operator.wait_for_end(record)["attempt"] == 1
    old = {"Authorization": f"Agent {before['token']}"}
    assert requests.post(f"{stage.center.url}/api/agent/heartbeat", json={}, headers=old, timeout=60).status_code == 401
    stage.back_up()


@pytest.mark.parametrize("instant", [BEFORE_STORING, AFTER_STORING], ids=["before", "after"])
def test_an_agent_that_is_killed_with_its_next_login_in_hand_is_not_locked_out(stage: Stage, instant: str) -> None:
    stage.agent.stop()
    before = stage.remembered
    stage.make_login_due()
    dying = stage.start_agent(instant)
    assert dying.popen.wait(60) == -signal.SIGKILL
    assert (stage.remembered["token"] == before["token"]) is (instant == BEFORE_STORING)
    assert stage.logins() == 2
    stage.agent = stage.start_agent()
    wait_until(lambda: stage.remembered["token"] != before["token"] and not stage.remembered["previous_token"], "the next login")
    stage.back_up()
    assert stage.logins() == 1


def test_a_redis_that_was_started_anew_lets_the_agent_in_again_and_nobody_else(stage: Stage) -> None:
    stage.redis.kill()
    stage.redis = stage.center.redis()
    stage.back_up()
    assert stage.users() == [f"client.{stage.remembered['client']}", "default"]


def test_a_deleted_client_is_cut_off_at_once_though_it_is_at_work(stage: Stage) -> None:
    record, child = stage.begin()
    for path in (f"/api/backup/{stage.plan['uuid']}", f"/api/client/{LOOPBACK_IPV4}"):
        stage.delete(path)
    now = stage.operator.record(record)
    assert (now["state"], now["error"]) == (CANCELLED, "The client was deleted.")
    wait_until(lambda: stage.users() == ["default"], "the broker to let go of it")
    wait_until(lambda: not engine_processes(stage.agent), "the engine to end")
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "its process to be gone")
    remembered = stage.remembered
    headers = {"Authorization": f"Agent {remembered['token']}"}
    assert requests.post(f"{stage.center.url}/api/agent/heartbeat", json={}, headers=headers, timeout=60).status_code == 401
    with Redis.from_url(stage.center.redis_url) as redis:
        assert redis.acl_users() == ["default"]
    assert "host was cut off" in stage.operator.events()
