"""The agent's systemd unit: hardened as it says, and enough for the engine to do its work."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backends import open_store
from engine.commands.restore import restore
from engine.compare import compare_trees
from engine.repository import Repository
from tests.engine.trees import write_every_kind

TOP = Path(__file__).resolve().parents[2]
UNIT = TOP / "deploy" / "backupcenter-agent.service"
DROP_IN = TOP / "deploy" / "backupcenter-agent-restore.conf"
PASSWORD = "the repository's password"
# Nobody: who owns nothing.
USER = 65534
# In tenths, as systemd-analyze takes it; the network, foreign files and their being visible are what is left.
EXPOSURE = 20


def section(path: Path) -> dict[str, list[str]]:
    """Return the settings of `[Service]`, each with its lines."""
    found: dict[str, list[str]] = {}
    lines = path.read_text().split("[Service]")[1].split("[Install]")[0].splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            name, _equals, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def capabilities(*paths: Path) -> list[str]:
    """Return the names of what the units grant, as setpriv takes them."""
    named = " ".join(line for path in paths for line in section(path)["AmbientCapabilities"])
    return [name.removeprefix("CAP_").lower() for name in named.split()]


def run_child(specification: dict[str, Any], *units: Path) -> list[dict[str, Any]]:
    """Run the agent's child as nobody, with what the units grant, and return what it says."""
    granted = ",".join(["-all", *(f"+{name}" for name in capabilities(*units))])
    sets = ["--inh-caps", granted, "--ambient-caps", granted, "--bounding-set", granted]
    user = ["--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--no-new-privs"]
    done = subprocess.run(
        ["setpriv", *user, *sets, sys.executable, "-m", "agent.child", str(os.getpid())],
        cwd=TOP,
        input=json.dumps({**specification, "derived_keys": {}}),
        capture_output=True,
        text=True,
        timeout=120,
        umask=0o077,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def result_of(said: list[dict[str, Any]]) -> dict[str, Any]:
    assert said[-1]["event"] == "result", said[-1]
    return dict(said[-1]["result"])


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that everybody may pass through: pytest's own are closed to others."""
    directory = Path("/var/tmp") / f"unit-{os.getpid()}"
    directory.mkdir(mode=0o711)
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def backed_up(place: Path) -> tuple[Path, dict[str, Any]]:
    """A tree of root's that nobody else may read, and what the unit's agent says of its backup; with the repository's place."""
    source, repository = place / "source", place / "repository"
    write_every_kind(source)
    source.chmod(0o700)
    Repository.init(open_store(str(repository)), PASSWORD).close()
    for path in [repository, *repository.rglob("*")]:
        os.chown(path, USER, USER)
    repository_of = {"location": str(repository), "password": PASSWORD}
    backup = {"include": [str(source)], "exclude": [], "host": "here", "tags": [], "time": 1_600_000_000}
    said = run_child({"kind": "backup", "repository": repository_of, "backup": backup}, UNIT)
    assert [one for one in said if one["event"] == "unreadable"] == []
    return source, {"repository": repository_of, **result_of(said)}


def recover(target: Path, done: dict[str, Any], *units: Path) -> list[dict[str, Any]]:
    target.mkdir()
    os.chown(target, USER, USER)
    recovery = {"snapshot": done["snapshot_id"], "destination": str(target), "include": [], "overwrite": "always", "verify": True}
    return run_child({"kind": "recovery", "repository": done["repository"], "recovery": recovery}, *units)


@pytest.mark.root
def test_the_right_to_read_is_enough_to_back_up_everything(place: Path, backed_up: tuple[Path, dict[str, Any]]) -> None:
    source, done = backed_up
    assert done["errors"] == 0
    opened = Repository.open(open_store(str(place / "repository")), PASSWORD)
    restore(opened, done["snapshot_id"], str(place / "as root"))
    assert compare_trees(os.fsencode(source), os.fsencode(place / "as root" / source.relative_to("/"))) == []


@pytest.mark.root
def test_a_restore_without_further_rights_says_what_it_could_not_set(
    place: Path, backed_up: tuple[Path, dict[str, Any]]
) -> None:
    source, done = backed_up
    said = recover(place / "back", done, UNIT)
    told = {one["path"]: one["reason"] for one in said if one["event"] == "unreadable"}
    assert "CAP_CHOWN" in told[str(place / "back")]
    entries = sum(len(files) + len(directories) for _, directories, files in os.walk(source))
    (count,) = [int(word) for word in told[str(place / "back")].split() if word.isdigit()][:1]
    # The hard link is its file's, the devices could not be made, and what leads to the tree is root's too.
    assert count == entries - 1 - 2 + len(source.parts) - 1
    assert {Path(path).name for path in told} == {"back", "chardev", "blockdev"}
    back = place / "back" / source.relative_to("/")
    assert (back / "chunks").read_bytes() == (source / "chunks").read_bytes()
    assert result_of(said)["errors"] == len(told)
    # What ran as its owner does not run as whoever restored it.
    assert stat.S_IMODE((back / "setuid").stat().st_mode) == 0o755


@pytest.mark.root
def test_the_drop_in_is_enough_to_restore_all_but_devices(place: Path, backed_up: tuple[Path, dict[str, Any]]) -> None:
    source, done = backed_up
    said = recover(place / "with the drop-in", done, UNIT, DROP_IN)
    assert {Path(one["path"]).name for one in said if one["event"] == "unreadable"} == {"chardev", "blockdev"}
    different = compare_trees(os.fsencode(source), os.fsencode(place / "with the drop-in" / source.relative_to("/")))
    assert {line.split(":")[0] for line in different} == {"chardev", "blockdev"}, different


def test_the_rights_are_the_few_that_are_said() -> None:
    for path in (UNIT, DROP_IN):
        assert section(path)["AmbientCapabilities"] == section(path)["CapabilityBoundingSet"]
    assert capabilities(UNIT) == ["dac_read_search"]
    assert section(UNIT)["User"] != ["root"]
    # Whatever is left out of sight would be left out of the backups, silently.
    assert (section(UNIT)["PrivateTmp"], section(UNIT)["ProtectHome"]) == (["no"], ["read-only"])


@pytest.mark.systemd
def test_systemd_understands_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    there = UNIT.read_text().replace("/opt/backupcenter-agent/bin/backupcenter-agent", sys.executable)
    (tmp_path / UNIT.name).write_text(there)
    directory = tmp_path / f"{UNIT.name}.d"
    directory.mkdir()
    shutil.copy(DROP_IN, directory / "restore.conf")
    verified = subprocess.run(["systemd-analyze", "verify", tmp_path / UNIT.name], capture_output=True, text=True)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", UNIT], capture_output=True, text=True
    )
    assert judged.returncode == 0, judged.stdout
