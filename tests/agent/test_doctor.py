"""`backupcenter-agent doctor` looks at all that the agent needs, and says what to do about what is not there."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

from agent import doctor
from agent.config import AgentConfig, save_config
from agent.doctor import Check, all_checks, check_broker, check_clock, check_packages, check_rights, check_space, check_store
from tests.agent.center import TOKEN, FakeCenter

TOP = Path(__file__).resolve().parent.parent.parent
BROKER_PASSWORD = "the broker's password"


@pytest.fixture
def state(center: FakeCenter, redis_url: str, tmp_path: Path) -> Path:
    """The state directory of an agent that has joined, to whom everything answers."""
    center.answers["stores"] = (200, {"time": time.time(), "stores": [{"address": str(tmp_path), "authorities": ""}]})
    save_config(tmp_path / "state", AgentConfig(center.url, 7, "here", "client.7", TOKEN, redis_url))
    return tmp_path / "state"


def run(state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "doctor", "--state", str(state), *options]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60)


def failed(checks: Any) -> dict[str, str]:
    return {check.name: check.found for check in checks if check.status == "failed"}


def test_a_host_where_all_is_well_has_a_line_for_each_check_and_the_server_is_told(center: FakeCenter, state: Path) -> None:
    done = run(state)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line[8:24].strip() for line in done.stdout.splitlines() if line[:1] != " "]
    assert names[:6] == ["python", "packages", "reading", "restoring", "state directory", "temporary files"]
    assert names[6:] == ["allowed commands", "state", "broker", "server", "clock", "store"]
    (told,) = center.bodies("checks")
    assert [check["name"] for check in told["checks"]] == names
    assert {check["status"] for check in told["checks"]} <= {"ok", "note"}


def test_what_is_missing_is_told_with_what_to_do_and_without_secrets(center: FakeCenter, state: Path, redis_url: str) -> None:
    broker = f"redis://agent:{BROKER_PASSWORD}@127.0.0.1:1/0"
    save_config(state, AgentConfig(center.url, 7, "here", "client.7", TOKEN, broker))
    (state / "agent.json").chmod(0o644)
    stores = [{"address": "http://127.0.0.1:1", "authorities": ""}, {"address": "/nowhere", "authorities": ""}]
    center.answers["stores"] = (200, {"time": time.time() - 3600, "stores": stores})
    done = run(state, "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    wrong = {f"{check['name']} {check['found']}": check["fix"] for check in said["checks"] if check["status"] == "failed"}
    assert [line.split()[0] for line in wrong] == ["state", "broker", "clock", "store", "store"]
    assert all(wrong.values())
    assert said["told"] is True
    for secret in (BROKER_PASSWORD, TOKEN):
        assert secret not in done.stdout + done.stderr + str(center.bodies("checks"))


def test_the_agent_but_for_its_engine_loads_where_nothing_of_unix_is() -> None:
    absent = "import os, sys; del os.geteuid, os.getloadavg, os.killpg;"
    # Celery knows by itself where it is; Windows says in the environment who somebody is.
    absent += "from celery import Celery, signals; sys.modules |= dict.fromkeys(('fcntl', 'grp', 'pwd')); os.environ['USER'] = 'u';"
    code = "import agent.__main__, agent.app, agent.config, agent.doctor, agent.host;"
    code += "assert agent.host.load_average() is None; assert agent.doctor._user() == 'u'; agent.config.default_state()"
    done = subprocess.run([sys.executable, "-c", absent + code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_host_that_has_not_joined_is_told_to(tmp_path: Path) -> None:
    done = run(tmp_path / "state")
    assert done.returncode == 1
    assert "backupcenter-agent join" in done.stdout
    assert "the server was not told" in done.stderr


def test_a_refusal_of_the_server_is_told_in_its_own_words(center: FakeCenter, state: Path) -> None:
    center.answers["stores"] = (426, {"error": "This agent is too old for the server: install version 9."})
    assert failed(all_checks(state))["server"] == "This agent is too old for the server: install version 9."


@pytest.mark.parametrize("answer", [{}, {"time": "x", "stores": []}, {"time": 1, "stores": [{}]}, b"<html>"])
def test_a_page_in_the_servers_place_is_told(center: FakeCenter, state: Path, answer: Any) -> None:
    center.answers["stores"] = (200, answer)
    assert "is not the server" in failed(all_checks(state))["server"]


def test_a_wrong_login_to_the_broker_is_told_without_it(redis_url: str) -> None:
    parts = urlsplit(redis_url)
    check = check_broker(f"redis://agent:{quote(BROKER_PASSWORD)}@{parts.hostname}:{parts.port}/0")
    assert check.status == "failed"
    assert BROKER_PASSWORD not in str(check)
    assert quote(BROKER_PASSWORD) not in str(check)


@pytest.mark.parametrize(("ahead_s", "status"), [(0.4, "ok"), (-29.0, "ok"), (31.0, "failed"), (-31.0, "failed")])
def test_clocks_may_differ_a_little(ahead_s: float, status: str) -> None:
    assert check_clock(ahead_s).status == status


def test_a_full_disk_and_a_foreign_directory_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: Usage(doctor.FREE_BYTES - 1))
    assert check_space("state directory", tmp_path / "not yet made").status == "failed"
    monkeypatch.setattr(doctor.os, "access", lambda place, mode: False)
    assert "cannot be written to" in check_space("state directory", tmp_path).found


def test_packages_of_other_versions_than_the_agent_asks_for_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["requests<2", "packaging", "nothing-like-this~=1.0", "absent>1; sys_platform == 'nowhere'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    check = check_packages()
    assert check.status == "failed"
    assert "requests is 2" in check.found
    assert "nothing-like-this is missing" in check.found
    assert "absent" not in check.found


@pytest.mark.parametrize(
    ("held", "statuses"),
    [(0, ["note", "note"]), (1 << doctor.DAC_READ_SEARCH, ["ok", "note"]), (-1, ["ok", "ok"])],
)
def test_rights_that_are_not_there_are_noted(monkeypatch: pytest.MonkeyPatch, held: int, statuses: list[str]) -> None:
    monkeypatch.setattr(doctor, "_capabilities", lambda: held)
    assert [check.status for check in check_rights()] == statuses


@pytest.mark.parametrize(("answer", "status"), [(200, "ok"), (403, "ok"), (301, "ok"), (503, "failed")])
def test_a_store_need_not_let_the_doctor_in_to_be_there(answer: int, status: str) -> None:
    class Store(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Store) as store:
        threading.Thread(target=store.handle_request).start()
        assert check_store(f"http://127.0.0.1:{store.server_port}", "").status == status


def test_a_directory_that_is_a_store_has_to_be_there(tmp_path: Path) -> None:
    assert check_store(str(tmp_path), "") == Check("store", "ok", f"{tmp_path} is there")
    assert check_store(os.fspath(tmp_path / "unmounted"), "").status == "failed"
