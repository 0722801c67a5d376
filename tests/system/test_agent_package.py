"""The agent as a host has it: its wheel in an environment of its own, without the checkout and without Django."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import __version__
from engine.backends import open_store
from engine.repository import Repository
from tests.agent.center import FakeCenter, fake_center
from tests.system.checkout import clean_environment, copy_checkout

LIMIT_S = 600
SERVER_ONLY = ["django", "rest_framework", "accounts", "backupcenter", "clients", "jobs", "records", "storage"]


def run(*command: str | Path, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean_environment(), input=text, capture_output=True, text=True, timeout=LIMIT_S
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `bin/`, into which the wheel was installed and nothing else."""
    directory = tmp_path_factory.mktemp("host")
    checkout, wheels, environment = directory / "checkout", directory / "wheels", directory / "agent"
    copy_checkout(checkout)
    # The Python of this machine itself: what the tests' environment has must not help.
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    for command in (
        [python, "-m", "venv", environment],
        [environment / "bin" / "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, checkout],
    ):
        done = run(*command, cwd=directory)
        assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = wheels.iterdir()
    assert wheel.name == f"backupcenter_agent-{__version__}-py3-none-any.whl"
    done = run(environment / "bin" / "pip", "install", "--quiet", wheel, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return environment


@pytest.fixture
def center() -> Iterator[FakeCenter]:
    with fake_center() as running:
        yield running


def test_the_wheel_has_a_command_that_joins_and_nothing_of_the_server(host: Path, center: FakeCenter, tmp_path: Path) -> None:
    agent = host / "bin" / "backupcenter-agent"
    assert run(agent, "--version", cwd=tmp_path).stdout == f"backupcenter-agent {__version__}\n"
    joined = run(agent, "join", "--center", center.url, "--token", "-", "--state", tmp_path / "state", cwd=tmp_path, text="once\n")
    assert joined.returncode == 0, joined.stderr
    assert json.loads((tmp_path / "state" / "agent.json").read_text())["queue"] == "client.7"
    # The server that it has joined names a broker where none is.
    checked = run(agent, "doctor", "--json", "--state", tmp_path / "state", cwd=tmp_path)
    found = {check["name"]: (check["status"], check["found"]) for check in json.loads(checked.stdout)["checks"]}
    assert found["packages"] == ("ok", f"agent {__version__} and what it needs")
    assert (checked.returncode, found["broker"][0]) == (1, "failed")
    find = f"import importlib.util; print([name for name in {SERVER_ONLY} if importlib.util.find_spec(name)])"
    assert run(host / "bin" / "python", "-c", find, cwd=tmp_path).stdout == "[]\n"
    extras = "from importlib.metadata import metadata; print(metadata('backupcenter-agent').get_all('Provides-Extra'))"
    assert run(host / "bin" / "python", "-c", extras, cwd=tmp_path).stdout == "['tracing']\n"


def test_the_installed_agent_runs_the_engine_whatever_lies_where_it_was_started(
    host: Path, center: FakeCenter, tmp_path: Path
) -> None:
    for package in ("agent", "engine"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('not this one')")
    Repository.init(open_store(str(tmp_path / "repository")), "password").close()
    center.specification = {
        "job": "backup-12",
        "attempt": 1,
        "kind": "backup",
        "repository": {"location": str(tmp_path / "repository"), "password": "password"},
        "backup": {"include": [str(tmp_path / "agent")], "exclude": [], "host": "here", "tags": [], "time": 1_600_000_000},
    }
    code = "import sys; from pathlib import Path; from agent.center import Center; from agent.job import run_job;"
    code += "run_job(Center(sys.argv[1], 'token'), Path('state'), 'backup-12', 1)"
    (tmp_path / "state").mkdir()
    done = run(host / "bin" / "python", "-P", "-c", code, center.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [report["outcome"] for report in center.bodies("finish")] == ["success"], done.stderr
