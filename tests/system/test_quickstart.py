"""The README's first command, on a clone of the checkout, as a new user runs it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.compare import compare_trees
from tests.services.ports import free_port, wait_until

TOP = Path(__file__).resolve().parent.parent.parent
LIMIT_S = 180


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small directory with a little of everything."""
    directory = tmp_path / "source"
    (directory / "sub" / "empty").mkdir(parents=True)
    (directory / "text").write_text("hello\n" * 1000)
    (directory / "sub" / "random").write_bytes(os.urandom(3 << 20))
    (directory / "sub" / "übung \n").write_text("a name with a line break")
    (directory / "link").symlink_to("sub/random")
    os.link(directory / "text", directory / "hard link")
    return directory


def run_quickstart(state: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backupcenter.quickstart", "--state", str(state), "--port", "0", *arguments],
        cwd=TOP,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def evidence(output: str) -> dict[str, str]:
    return dict(re.findall(r"^  ([a-z ]+): +(.*)$", output, re.MULTILINE))


def restic(repository: str, password: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run(
        ["restic", "--no-cache", "-r", repository, *arguments],
        env={**os.environ, **(environment or {}), "RESTIC_PASSWORD": password},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def repository_password(state: Path) -> str:
    """Ask the installation for the password, as an administrator who leaves would."""
    secrets = json.loads((state / "installation.json").read_text())
    script = "from storage.models import Repository; print(Repository.objects.get().password)"
    return subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", script],
        cwd=TOP,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "backupcenter.settings",
            "BACKUPCENTER_SECRET_KEY": secrets["secret_key"],
            "BACKUPCENTER_ENCRYPTION_KEYS": secrets["encryption_key"],
            "BACKUPCENTER_DATABASE_URL": f"sqlite://{state / 'backupcenter.sqlite3'}",
        },
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()


def processes_of(state: Path) -> list[str]:
    """Return the command lines of the processes that mention the state directory, or run in it or in its environment.

    Redis writes its title over its command line and its environment, so that only its working directory tells.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
            directory = os.readlink(process / "cwd").encode()
        except OSError:
            continue
        if str(state).encode() in b"\0".join((environment, command, directory)) and int(process.name) != os.getpid():
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.restic
def test_it_backs_up_restores_and_proves_both_alike(tmp_path: Path, source: Path) -> None:
    state = tmp_path / "state"
    finished = run_quickstart(state, "--once", "--source", str(source))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    facts = evidence(finished.stdout)
    assert facts["identical"] == "yes"
    assert int(facts["files"]) == 4
    assert processes_of(state) == []

    password = repository_password(state)
    restic(facts["repository"], password, "check", "--no-lock", "--read-data")
    restic(facts["repository"], password, "restore", facts["snapshot"], "--target", str(tmp_path / "by restic"))
    assert compare_trees(os.fsencode(source), os.fsencode(f"{tmp_path}/by restic{source}")) == []

    again = run_quickstart(state, "--once", "--source", str(source))
    assert again.returncode == 0, again.stdout + again.stderr
    assert evidence(again.stdout)["snapshot"] != facts["snapshot"]
    assert evidence(again.stdout)["repository"] == facts["repository"]


def test_odd_paths_and_a_proxy_do_not_matter(tmp_path: Path) -> None:
    odd = tmp_path / "a [b] * \\ ?"
    odd.mkdir()
    (odd / "file").write_text("content")
    proxy = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    finished = run_quickstart(odd / "state", "--once", "--source", str(odd), environment=proxy)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    facts = evidence(finished.stdout)
    assert (facts["identical"], facts["files"]) == ("yes", "1")
    assert processes_of(odd / "state") == []


@pytest.mark.ceph
@pytest.mark.restic
def test_it_keeps_backups_in_an_s3_store(tmp_path: Path, source: Path, ceph_endpoint) -> None:
    access_key, secret_key = ceph_endpoint.make_user("quickstart", quota=1 << 30)
    keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    state = tmp_path / "state"
    finished = run_quickstart(state, "--once", "--source", str(source), "--s3", ceph_endpoint.url, environment=keys)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    facts = evidence(finished.stdout)
    assert facts["identical"] == "yes"
    assert facts["repository"].startswith(f"s3:{ceph_endpoint.url}/")
    restic(facts["repository"], repository_password(state), "check", "--no-lock", "--read-data", environment=keys)
    for log in (state / "log").iterdir():
        assert secret_key not in log.read_text(errors="replace")


@pytest.mark.ceph
def test_wrong_keys_are_one_clear_sentence(tmp_path: Path, source: Path, ceph_endpoint) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    finished = run_quickstart(tmp_path / "state", "--once", "--source", str(source), "--s3", ceph_endpoint.url, environment=keys)
    assert finished.returncode == 1
    assert len(finished.stderr.strip().splitlines()) == 1
    assert "InvalidAccessKeyId" in finished.stderr
    assert processes_of(tmp_path / "state") == []


def test_a_missing_source_is_one_clear_sentence(tmp_path: Path) -> None:
    finished = run_quickstart(tmp_path / "state", "--once", "--source", str(tmp_path / "nowhere"))
    assert finished.returncode == 1
    assert finished.stderr.strip() == f"quickstart: the source directory {tmp_path / 'nowhere'} does not exist"


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path, source: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finished = run_quickstart(tmp_path / "state", "--once", "--source", str(source), "--port", str(port))
    assert finished.returncode == 1
    assert len(finished.stderr.strip().splitlines()) == 1
    assert str(port) in finished.stderr


def _heed_ctrl_c() -> None:
    """Undo what a shell does to whatever it starts in the background, as it may have started these tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def running(tmp_path: Path, source: Path) -> Iterator[subprocess.Popen[str]]:
    """A quick start that goes on after the proof."""
    port = free_port()
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "backupcenter.quickstart", "--state", str(tmp_path / "state"), "--port", str(port),
             "--source", str(source)],
            cwd=TOP, stdout=output, stderr=subprocess.STDOUT, text=True, preexec_fn=_heed_ctrl_c,
        )  # fmt: skip
    try:
        wait_until(
            lambda: "Ctrl-C" in (tmp_path / "output").read_text() or process.poll() is not None, "the proof", timeout_s=LIMIT_S
        )
        assert process.poll() is None, (tmp_path / "output").read_text()
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def test_ctrl_c_stops_everything(running: subprocess.Popen[str], tmp_path: Path) -> None:
    assert len(processes_of(tmp_path / "state")) >= 6
    running.send_signal(signal.SIGINT)
    running.wait(60)
    wait_until(lambda: not processes_of(tmp_path / "state"), "all processes to end")


def test_nothing_outlives_a_killed_quickstart(running: subprocess.Popen[str], tmp_path: Path) -> None:
    running.kill()
    running.wait()
    wait_until(lambda: not processes_of(tmp_path / "state"), "all processes to end")


def test_the_script_hands_over_to_the_installed_command() -> None:
    finished = subprocess.run([sys.executable, str(TOP / "quickstart"), "--help"], stdout=subprocess.PIPE, text=True)
    assert finished.returncode == 0
    assert "--once" in finished.stdout
