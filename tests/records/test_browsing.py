"""What is in a backup can be listed and fetched over HTTP, and the repository can be checked and its snapshots forgotten."""

import io
import os
import tarfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from engine.backends import open_store
from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.snapshots import list_snapshots
from engine.repository import Repository
from jobs.models import BackupPlan
from records.maintenance import lose_expired_runs, request_maintenance, run_maintenance
from records.models import BackupRecord, Event, MaintenanceRun, State
from tests.factories import make_plan, make_record

Kind = MaintenanceRun.Kind


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "文件 a.txt").write_text("hello")
    (directory / "sub" / "random").write_bytes(os.urandom(3_000_000))
    (directory / "link").symlink_to("sub")
    return directory


def opened(record: BackupRecord) -> Repository:
    return Repository.open(open_store(record.repository.location), record.repository.password)


@pytest.fixture
def record(db, tmp_path: Path, source: Path) -> BackupRecord:
    plan = make_plan(tmp_path / "store")
    repository = Repository.open(open_store(plan.repository.location), plan.repository.password)
    summary = backup(repository, [str(source)], host="here")
    return make_record(plan, snapshot=summary.snapshot_id)


def body(response) -> bytes:
    async def read() -> bytes:
        return b"".join([piece async for piece in response.streaming_content])

    return async_to_sync(read)()


def test_a_directory_is_listed(api, record, source) -> None:
    answer = api("viewer").get(f"/api/record/backup/{record.pk}/files", {"path": str(source)})
    assert answer.status_code == 200
    files = {entry["name"]: entry for entry in answer.json()["files"]}
    assert set(files) == {"文件 a.txt", "sub", "link"}
    assert (files["文件 a.txt"]["type"], files["文件 a.txt"]["size"]) == ("file", 5)
    assert files["link"]["linktarget"] == "sub"
    assert files["sub"]["path"] == f"{source}/sub"


def test_a_listing_reads_one_tree_for_each_directory_on_the_way_and_nothing_below(api, record, source, monkeypatch) -> None:
    read, real = [], Repository.load_blob

    def load_blob(self, blob_type, blob_id) -> bytes:
        read.append(blob_type)
        return real(self, blob_type, blob_id)

    monkeypatch.setattr(Repository, "load_blob", load_blob)
    for path in ("/", source):
        read.clear()
        answer = api("viewer").get(f"/api/record/backup/{record.pk}/files", {"path": str(path)})
        assert answer.status_code == 200
        # The root, and each directory down to the one that is listed.
        assert read == [BlobType.TREE] * len(Path(path).parts)


def test_a_backup_is_browsed_though_an_older_one_was_before(api, record, source) -> None:
    viewer = api("viewer")
    assert viewer.get(f"/api/record/backup/{record.pk}/files", {"path": str(source)}).status_code == 200
    (source / "sub" / "younger").write_text("younger")
    younger = make_record(BackupPlan.objects.get(), snapshot=backup(opened(record), [str(source)], host="here").snapshot_id)
    answer = viewer.get(f"/api/record/backup/{younger.pk}/files", {"path": f"{source}/sub"})
    assert [entry["name"] for entry in answer.json()["files"]] == ["random", "younger"]
    answer = viewer.get(f"/api/record/backup/{younger.pk}/download", {"path": f"{source}/sub/younger"})
    assert body(answer) == b"younger"


def test_a_file_is_sent_as_it_was(api, record, source) -> None:
    answer = api("viewer").get(f"/api/record/backup/{record.pk}/download", {"path": f"{source}/sub/random"})
    assert answer.status_code == 200
    assert answer["Content-Length"] == "3000000"
    assert 'filename="random"' in answer["Content-Disposition"]
    assert body(answer) == (source / "sub" / "random").read_bytes()


@pytest.mark.parametrize("name", [b"\xff\xfe.txt", b"a b+c%41&d", b"line\nbreak", b'quote"d', "文件".encode()])
def test_a_name_of_any_bytes_is_listed_and_fetched(api, record, source, name) -> None:
    directory = os.fsencode(source) + b"/dir \xe9"
    os.mkdir(directory)
    with open(directory + b"/" + name, "wb") as file:
        file.write(b"hidden")
    odd = make_record(BackupPlan.objects.get(), snapshot=backup(opened(record), [str(source)], host="here").snapshot_id)
    viewer, address = api("viewer"), f"/api/record/backup/{odd.pk}"
    above = viewer.get(f"{address}/files?path={quote(str(source))}").json()
    inner = next(entry for entry in above["files"] if entry["path_raw"] == quote(directory))
    below = viewer.get(f"{address}/files?path={inner['path_raw']}").json()
    assert below["path_raw"] == inner["path_raw"]
    assert below["files"][0]["name"] == name.decode("utf-8", "replace")
    assert below["files"][0]["path_raw"] == quote(directory + b"/" + name)
    answer = viewer.get(f"{address}/download?path={below['files'][0]['path_raw']}")
    assert answer.status_code == 200
    assert body(answer) == b"hidden"


def test_a_path_with_nul_is_refused_in_a_sentence(api, record) -> None:
    for step in ("files", "download"):
        answer = api("viewer").get(f"/api/record/backup/{record.pk}/{step}?path=/a%00b")
        assert answer.status_code == 400
        assert answer.json() == {"error": "path: A path holds no NUL.", "fields": {"path": ["A path holds no NUL."]}}


def test_a_directory_is_sent_as_a_tar(api, record, source) -> None:
    answer = api("viewer").get(f"/api/record/backup/{record.pk}/download", {"path": str(source)})
    with tarfile.open(fileobj=io.BytesIO(body(answer))) as archive:
        assert sorted(archive.getnames()) == ["link", "sub", "sub/random", "文件 a.txt"]
        assert archive.extractfile("文件 a.txt").read() == b"hello"


@pytest.mark.parametrize("step", ["files", "download"])
def test_what_is_not_there_is_404_and_what_did_not_succeed_is_409(api, record, step) -> None:
    assert api("viewer").get(f"/api/record/backup/{record.pk}/{step}", {"path": "/nowhere"}).status_code == 404
    BackupRecord.objects.update(state=State.FAILED)
    assert api("viewer").get(f"/api/record/backup/{record.pk}/{step}", {"path": "/"}).status_code == 409


def test_a_store_that_is_gone_is_an_error_of_the_store(api, record, tmp_path) -> None:
    (tmp_path / "store").rename(tmp_path / "away")
    answer = api("viewer").get(f"/api/record/backup/{record.pk}/files", {"path": "/"})
    assert answer.status_code in (404, 502)
    assert answer.json()["error"]


def test_a_sound_repository_passes_its_check(record) -> None:
    run = request_maintenance(record.repository, Kind.CHECK_DATA)
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert run.state == State.SUCCESS
    assert run.result["snapshots"] == 1
    assert Event.objects.filter(topic=Event.Topic.MAINTENANCE, level=Event.Level.SUCCESS).exists()


def test_damage_is_found_and_told(record) -> None:
    pack = next(path for path in Path(record.repository.location, "data").rglob("*") if path.is_file())
    content = bytearray(pack.read_bytes())
    content[10] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    run = request_maintenance(record.repository, Kind.CHECK_DATA)
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert any(pack.name in problem for problem in run.result["problems"])
    assert run.error == run.result["problems"][0]
    assert Event.objects.filter(topic=Event.Topic.MAINTENANCE, level=Event.Level.ERROR).exists()


def test_forgetting_removes_the_snapshot(record) -> None:
    run = request_maintenance(record.repository, Kind.FORGET, {"snapshots": [record.snapshot]})
    run_maintenance(run.pk, 1)
    assert list_snapshots(opened(record)) == []


def test_a_run_is_done_once_and_again_if_its_worker_died(record) -> None:
    run = request_maintenance(record.repository, Kind.CHECK)
    MaintenanceRun.objects.update(state=State.RUNNING, lease_until=timezone.now() - timedelta(seconds=1))
    run_maintenance(run.pk, 1)
    assert lose_expired_runs() == 1
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.QUEUED, 2)
    run_maintenance(run.pk, 2)
    run.refresh_from_db()
    assert run.state == State.SUCCESS
