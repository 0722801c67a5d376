"""Presets: the exact commands, in their order, cleared up after failures; PostgreSQL and Redis with real servers.

Programs that need rights or machines of their own (LVM, ZFS, Btrfs, Docker, MySQL) are stood in for by scripts that note how they
were called.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent.allowed import USUAL_PATH
from agent.center import Center
from agent.job import run_job
from engine.backends import open_store
from engine.commands.dump import dump_file
from engine.commands.snapshots import list_snapshots
from engine.repository import Repository
from tests.agent.center import TOKEN, FakeCenter
from tests.agent.conftest import PASSWORD
from tests.services.ports import accepts, free_port, wait_until
from tests.services.postgres import postgres_programs, postgres_server
from tests.services.redis import redis_program, redis_server

Allow = Callable[[str], Path]

# Notes its name and arguments, does what a mount does to a directory, and fails where the file beside it says so.
FAKE = """#!{python}
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
called = [os.path.basename(__file__), *sys.argv[1:]]
with open(os.path.join(here, "calls"), "a") as calls:
    calls.write(json.dumps(called) + "\\n")
failing = os.path.join(here, "failing")
if os.path.exists(failing) and open(failing).read() in " ".join(called):
    sys.exit("it was to fail")
if called[0] == "mount":
    open(os.path.join(called[-1], "content"), "w").close()
if called[0].startswith("m") and "dump" in called[0]:
    print("a dump")
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory of programs that note how they are called."""
    directory = tmp_path / "programs"
    directory.mkdir()
    for name in ("lvcreate", "lvremove", "mount", "umount", "zfs", "btrfs", "docker", "mysqldump", "mariadb-dump"):
        (directory / name).write_text(FAKE.format(python=sys.executable))
        (directory / name).chmod(0o755)
    return directory


def calls(programs: Path) -> list[str]:
    file = programs / "calls"
    found = [" ".join(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def run(center: FakeCenter, state: Path, specification: dict[str, Any], preset: str) -> dict[str, Any]:
    backup = {**specification["backup"], "include": [], "presets": [preset]}
    center.specification = {**specification, "backup": backup}
    run_job(Center(center.url, TOKEN), state, "backup-12", 1)
    report: dict[str, Any] = center.bodies("finish")[-1]
    return report


def dumped(repository: Path, path: str) -> bytes:
    opened = Repository.open(open_store(str(repository)), PASSWORD)
    return b"".join(dump_file(opened, "latest", path.encode()))


def paths_of(repository: Path) -> set[tuple[str, ...]]:
    """What each of the snapshots is of; their times are all the same."""
    return {snapshot.paths for snapshot in list_snapshots(Repository.open(open_store(str(repository)), PASSWORD))}


PRESETS = {
    "lvm": (
        'kind = "lvm"\nvolume = "vg0/srv"\nsize = "2G"\noptions = "ro,nouuid"\nmount = "MOUNT"\npaths = ["content"]',
        ["umount MOUNT", "lvremove --yes vg0/backupcenter-lvm"],
        [
            "lvcreate --yes --snapshot --size 2G --name backupcenter-lvm vg0/srv",
            "mount -o ro,nouuid /dev/vg0/backupcenter-lvm MOUNT",
        ],
        ["umount MOUNT", "lvremove --yes vg0/backupcenter-lvm"],
    ),
    "zfs": (
        'kind = "zfs"\ndataset = "tank/data"\nmount = "MOUNT"',
        ["umount MOUNT", "zfs destroy tank/data@backupcenter-zfs"],
        ["zfs snapshot tank/data@backupcenter-zfs", "mount -t zfs -o ro tank/data@backupcenter-zfs MOUNT"],
        ["umount MOUNT", "zfs destroy tank/data@backupcenter-zfs"],
    ),
    "btrfs": (
        'kind = "btrfs"\nsubvolume = "/srv"\nsnapshot = "MOUNT"',
        ["btrfs subvolume delete MOUNT"],
        ["btrfs subvolume snapshot -r /srv MOUNT"],
        ["btrfs subvolume delete MOUNT"],
    ),
    "docker": (
        'kind = "docker"\nvolumes = ["shop"]\ncontainers = ["app", "db"]\nroot = "MOUNT"',
        [],
        ["docker pause app", "docker pause db"],
        ["docker unpause db", "docker unpause app"],
    ),
}
PLACES = {"lvm": "MOUNT/content", "zfs": "MOUNT", "btrfs": "MOUNT", "docker": "MOUNT/volumes/shop/_data"}


@pytest.mark.parametrize("kind", PRESETS)
@pytest.mark.parametrize("fails", [None, 0, -1])
def test_what_is_prepared_is_cleared_up_whatever_fails(
    center: FakeCenter, tmp_path: Path, repository: Path, backup_job: Any, allow: Allow, programs: Path,
    kind: str, fails: int | None,
) -> None:  # fmt: skip
    mount = tmp_path / "mount"
    (mount / "volumes" / "shop" / "_data").mkdir(parents=True)
    at_mount = lambda texts: [text.replace("MOUNT", str(mount)) for text in texts]  # noqa: E731
    options, first, prepare, clear_up = PRESETS[kind]
    allow(f'path = "{programs}:{USUAL_PATH}"\n[[preset]]\n{options}'.replace("MOUNT", str(mount)))
    if fails is not None:
        (programs / "failing").write_text(at_mount(prepare)[fails])
    report = run(center, tmp_path, backup_job(mount), kind)
    called = calls(programs)
    if fails is None:
        assert (report["outcome"], report["error"]) == ("success", "")
        assert called == at_mount([*first, *prepare, *clear_up])
        assert paths_of(repository) == {tuple(at_mount([PLACES[kind]]))}
    else:
        assert report["outcome"] == "failed"
        assert "(prepare) ended with exit status 1: it was to fail" in report["error"]
        begun = prepare[: len(prepare) + fails + 1 if fails < 0 else fails + 1]
        assert called == at_mount([*first, *begun, *clear_up])
        assert list((repository / "snapshots").iterdir()) == []


def test_what_cannot_be_cleared_up_is_a_warning_that_names_it(
    center: FakeCenter, tmp_path: Path, backup_job: Any, allow: Allow, programs: Path
) -> None:
    (tmp_path / "mount" / "volumes" / "shop" / "_data").mkdir(parents=True)
    allow(f'path = "{programs}"\n[[preset]]\n{PRESETS["docker"][0]}'.replace("MOUNT", str(tmp_path / "mount")))
    (programs / "failing").write_text("unpause db")
    report = run(center, tmp_path, backup_job(tmp_path), "docker")
    assert report["outcome"] == "warnings"
    assert "“docker: docker” (clear up) ended with exit status 1" in report["error"]
    assert calls(programs)[-2:] == ["docker unpause db", "docker unpause app"]


def test_mysql_is_dumped_by_database_or_as_a_whole(
    center: FakeCenter, tmp_path: Path, repository: Path, backup_job: Any, allow: Allow, programs: Path
) -> None:
    dumps = "--single-transaction --quick --routines --events --triggers --hex-blob"
    allow(
        f'path = "{programs}"\n[[preset]]\nkind = "mysql"\n[[preset]]\nkind = "mysql"\nname = "shop"\nprogram = "mariadb-dump"\n'
        'databases = ["shop", "crm"]\ndefaults_file = "/etc/backupcenter/my.cnf"\ndirectory = "/d"'
    )
    assert run(center, tmp_path, backup_job(tmp_path), "mysql")["outcome"] == "success"
    assert calls(programs) == [f"mysqldump {dumps} --all-databases"]
    assert dumped(repository, "/dumps/mysql/all.sql") == b"a dump\n"
    assert run(center, tmp_path, backup_job(tmp_path), "shop")["outcome"] == "success"
    with_login = "mariadb-dump --defaults-extra-file=/etc/backupcenter/my.cnf"
    # In the order of their paths.
    assert calls(programs) == [f"{with_login} {dumps} --databases crm", f"{with_login} {dumps} --databases shop"]
    assert paths_of(repository) == {("/dumps/mysql/all.sql",), ("/d/shop.sql", "/d/crm.sql")}
    (programs / "failing").write_text("crm")
    report = run(center, tmp_path, backup_job(tmp_path), "shop")
    assert report["outcome"] == "failed"
    assert "for /d/crm.sql ended with exit status 1: it was to fail" in report["error"]


@pytest.mark.postgres
@pytest.mark.parametrize("method", ["dump", "dumpall"])
def test_postgresqls_dumps_load_into_an_empty_server(
    center: FakeCenter, tmp_path: Path, repository: Path, backup_job: Any, allow: Allow, postgres_url: str, method: str
) -> None:
    at, place = urlsplit(postgres_url), postgres_programs()
    assert place is not None

    def psql(*arguments: str, database: str = "postgres", text: bytes = b"") -> str:
        command = [place / "psql", "-X", "-q", "-At", "-h", at.hostname, "-p", str(at.port), "-U", at.username, "-d", database]
        done = subprocess.run([*command, *arguments], input=text, capture_output=True, check=True)
        return done.stdout.decode()

    psql("-c", "DROP DATABASE IF EXISTS shop")
    psql("-c", "CREATE DATABASE shop")
    rows = "SELECT md5(string_agg(id || name, ',' ORDER BY id)), count(*) FROM goods"
    psql("-c", "CREATE TABLE goods AS SELECT id, md5(id::text) AS name FROM generate_series(1, 20000) id", database="shop")
    before = psql("-c", rows, database="shop")
    databases = 'databases = ["shop"]' if method == "dump" else ""
    allow(
        f'path = "{place}:{USUAL_PATH}"\n[[preset]]\nkind = "postgresql"\nmethod = "{method}"\n{databases}\n'
        f'host = "{at.hostname}"\nport = {at.port}\nuser = "{at.username}"'
    )
    report = run(center, tmp_path, backup_job(tmp_path), "postgresql")
    assert (report["outcome"], report["error"]) == ("success", "")
    psql("-c", "DROP DATABASE shop")
    if method == "dump":
        assert b"CREATE ROLE" in dumped(repository, "/dumps/postgresql/globals.sql")
        command = [place / "pg_restore", "--create", "-h", at.hostname, "-p", str(at.port), "-U", at.username, "-d", "postgres"]
        subprocess.run(command, input=dumped(repository, "/dumps/postgresql/shop.dump"), check=True)
    else:
        # Which says of roles and databases that are there that they are, and goes on.
        psql(text=dumped(repository, "/dumps/postgresql/all.sql"))
    assert psql("-c", rows, database="shop") == before
    psql("-c", "DROP DATABASE shop")
    report = run(center, tmp_path, backup_job(tmp_path), "postgresql") if method == "dump" else None
    if report is not None:
        assert report["outcome"] == "failed"
        assert 'database "shop" does not exist' in report["error"]


@pytest.mark.postgres
def test_postgresql_starts_on_a_base_backup_and_has_its_rows(
    center: FakeCenter, tmp_path: Path, repository: Path, backup_job: Any, allow: Allow
) -> None:
    place = postgres_programs()
    assert place is not None

    def psql(url: str, statement: str) -> str:
        command = [place / "psql", "-X", "-q", "-At", "-d", url, "-c", statement]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    rows = "SELECT md5(string_agg(id || name, ',' ORDER BY id)), count(*) FROM goods"
    with postgres_server() as url:
        psql(url, "CREATE TABLE goods AS SELECT id, md5(id::text) AS name FROM generate_series(1, 20000) id")
        before, at = psql(url, rows), urlsplit(url)
        preset = f'host = "{at.hostname}"\nport = {at.port}\nuser = "{at.username}"'
        allow(f'path = "{place}:{USUAL_PATH}"\n[[preset]]\nkind = "postgresql"\nmethod = "basebackup"\n{preset}')
        report = run(center, tmp_path, backup_job(tmp_path), "postgresql")
        assert (report["outcome"], report["error"]) == ("success", "")
        # What a tar on standard output cannot hold is no backup, rather than half of one.
        psql(url, "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; mkdir ../more'")
        psql(url, f"CREATE TABLESPACE more LOCATION '{Path(psql(url, 'SHOW data_directory')).parent}/more'")
        report = run(center, tmp_path, backup_job(tmp_path), "postgresql")
        assert report["outcome"] == "failed"
        assert "single tablespace" in report["error"]
    base = dumped(repository, "/dumps/postgresql/base.tar")
    with postgres_server(base) as url:
        assert psql(url, rows) == before
        assert psql(url, "CREATE TABLE writable (); SELECT pg_is_in_recovery()") == "f"


@pytest.mark.redis_cli
def test_redis_loads_what_was_dumped(
    center: FakeCenter, tmp_path: Path, repository: Path, backup_job: Any, allow: Allow
) -> None:
    def cli(port: int, *words: str) -> str:
        return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=True).stdout

    with redis_server() as url:
        port = urlsplit(url).port
        assert port is not None
        cli(port, "EVAL", "for i = 1, 20000 do redis.call('SET', 'key' .. i, 'value' .. i) end", "0")
        allow(f'[[preset]]\nkind = "redis"\nport = {port}')
        report = run(center, tmp_path, backup_job(tmp_path), "redis")
        assert (report["outcome"], report["error"]) == ("success", "")
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "dump.rdb").write_bytes(dumped(repository, "/dumps/redis/dump.rdb"))
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path / "redis")]
    server = subprocess.Popen([redis_program(), *options], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: accepts(port), "Redis", timeout_s=20)
        assert cli(port, "GET", "key20000") == "value20000\n"
        assert cli(port, "DBSIZE") == "20000\n"
    finally:
        server.terminate()
        server.wait()
    # Nobody is there any more: no dump of a server that does not answer passes for one.
    report = run(center, tmp_path, backup_job(tmp_path), "redis")
    assert report["outcome"] == "failed"
    assert os.listdir(repository / "snapshots") == [center.bodies("finish")[0]["result"]["snapshot_id"]]
