"""`backupcenter-agent join` and what it leaves behind."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

from tests.agent.center import TOKEN, FakeCenter

TOP = Path(__file__).resolve().parent.parent.parent


def agent(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *arguments]
    return subprocess.run(command, cwd=TOP, input=text, capture_output=True, text=True, timeout=60)


def test_joining_keeps_the_agents_token_where_only_it_can_read(center: FakeCenter, tmp_path: Path) -> None:
    state = tmp_path / "state"
    finished = agent("join", "--center", center.url, "--token", "-", "--hostname", "here", "--state", str(state), text="once\n")
    assert finished.returncode == 0, finished.stderr
    assert center.bodies("join")[0]["token"] == "once"
    assert len(center.bodies("join")[0]["nonce"]) == 32
    kept = json.loads((state / "agent.json").read_text())
    assert (kept["token"], kept["queue"], kept["hostname"]) == (TOKEN, "client.7", "here")
    assert stat.S_IMODE(os.stat(state / "agent.json").st_mode) == 0o600
    assert TOKEN not in finished.stdout + finished.stderr


def test_a_refused_token_is_one_clear_sentence(center: FakeCenter, tmp_path: Path) -> None:
    center.answers["join"] = (401, {"error": "The join token was used before."})
    finished = agent("join", "--center", center.url, "--token", "used", "--state", str(tmp_path / "state"))
    assert finished.returncode == 1
    assert finished.stderr == "agent: The join token was used before.\n"
    assert not (tmp_path / "state").exists()


def test_a_server_that_is_away_is_one_clear_sentence(tmp_path: Path) -> None:
    finished = agent("join", "--center", "http://127.0.0.1:1", "--token", "t", "--state", str(tmp_path / "state"))
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1
    assert "does not answer" in finished.stderr


def test_running_before_joining_says_what_to_do(tmp_path: Path) -> None:
    finished = agent("run", "--state", str(tmp_path))
    assert finished.returncode == 1
    assert "backupcenter-agent join" in finished.stderr


def test_a_token_is_not_spent_where_it_cannot_be_kept(center: FakeCenter, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    finished = agent("join", "--center", center.url, "--token", "t", "--state", str(tmp_path / "file" / "state"))
    assert finished.returncode == 1
    assert finished.stderr == f"agent: {tmp_path}/file: Not a directory\n"
    assert center.requests == []


def test_a_page_in_the_servers_place_is_one_clear_sentence(center: FakeCenter, tmp_path: Path) -> None:
    center.answers["join"] = (200, b"<html></html>")
    finished = agent("join", "--center", center.url, "--token", "t", "--state", str(tmp_path / "state"))
    assert finished.returncode == 1
    assert finished.stderr == f"agent: what answers at {center.url} is not the server\n"
