"""Looking into backups in the console: directories, files, every version of a file, what changed, and asking for it back."""

import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from django.test import Client as Browser
from django.urls import reverse

from engine.backends import open_store
from engine.commands.backup import backup
from engine.repository import Repository
from jobs.models import BackupPlan
from records.models import BackupRecord, RecoveryRecord, State
from tests.factories import make_plan, make_record

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "report.txt").write_text("first <b>version</b>")
    (directory / "picture").write_bytes(PNG)
    (directory / "picture.svg").write_text("<svg onload='alert(1)'/>")
    (directory / "noise").write_bytes(b"\0\1\2")
    return directory


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path / "store")


def take(plan: BackupPlan, source: Path) -> BackupRecord:
    repository = Repository.open(open_store(plan.repository.location), plan.repository.password)
    return make_record(plan, snapshot=backup(repository, [str(source)], host="here").snapshot_id)


@pytest.fixture
def record(plan: BackupPlan, source: Path) -> BackupRecord:
    return take(plan, source)


@pytest.fixture
def operator(account) -> Browser:
    browser = Browser()
    browser.force_login(account("operator"))
    return browser


def page(browser: Browser, route: str, record: BackupRecord, /, **query: object) -> str:
    answer = browser.get(reverse(f"admin:{route}", args=[record.pk]), query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_directory_is_listed_with_its_way_up_its_downloads_and_what_can_be_chosen(operator, record, source) -> None:
    shown = page(operator, "records_backuprecord_browse", record, path=str(source))
    for name in ("report.txt", "picture", "sub"):
        path = quote(f"{source}/{name}")
        assert f'name="path" value="{path}"' in shown
        assert f"/api/record/backup/{record.pk}/download?path={path}" in shown
    assert f'href="?path={quote(str(source.parent))}"' in shown
    assert shown.index("sub/") < shown.index("noise")


def test_a_file_is_shown_as_text_or_image_and_never_as_markup(operator, record, source) -> None:
    def shown(name: str) -> str:
        return page(operator, "records_backuprecord_browse", record, path=str(source), file=f"{source}/{name}")

    assert "first &lt;b&gt;version&lt;/b&gt;" in shown("report.txt")
    assert "data:image/png;base64,iVBORw0KGgo" in shown("picture")
    assert "&lt;svg" in shown("picture.svg")
    assert "neither text nor an image" in shown("noise")


def test_a_long_file_is_shown_by_its_beginning(operator, plan, source) -> None:
    (source / "long").write_text("a" * 65535 + "文" + "b" * 100_000)
    shown = page(operator, "records_backuprecord_browse", take(plan, source), path=str(source), file=f"{source}/long")
    assert "Only the beginning is shown." in shown
    assert "b" * 100 not in shown


@pytest.mark.parametrize(("query", "sentence"), [
    ({"path": "/nowhere"}, "the snapshot has nothing at /nowhere"),
    ({"file": "/nowhere"}, "the snapshot has nothing at /nowhere"),
])  # fmt: skip
def test_what_is_not_there_is_said_on_the_page(operator, record, query, sentence) -> None:
    assert sentence in page(operator, "records_backuprecord_browse", record, **query)


def test_a_backup_that_failed_has_nothing_to_look_into(operator, plan) -> None:
    failed = make_record(plan, state=State.FAILED, snapshot="")
    assert "nothing to look into" in page(operator, "records_backuprecord_browse", failed)
    assert "Look inside" not in page(operator, "records_backuprecord_change", failed)


def test_every_version_of_a_file_is_found_in_all_backups_of_its_plan(operator, record, plan, source) -> None:
    again = take(plan, source)
    (source / "report.txt").write_text("second version, longer")
    (source / "report.txt.bak").write_text("another name")
    last = take(plan, source)
    shown = page(operator, "records_backuprecord_find", record, name="REPORT.txt")
    assert "2 versions" in shown
    assert "3 backups were looked through" in shown
    assert shown.index(f"backup/{last.pk}/download") < shown.index(f"backup/{again.pk}/download")
    assert f"backup/{record.pk}/download" not in shown, "the newest backup that has it is enough"
    assert "No backup has anything of this name." in page(operator, "records_backuprecord_find", record, name="nothing")
    assert "pattern" in page(operator, "records_backuprecord_find", record, name="[")


def test_what_changed_since_the_backup_before_is_told(operator, record, plan, source) -> None:
    (source / "report.txt").write_text("second version, longer")
    (source / "new").write_text("new")
    (source / "noise").unlink()
    shown = page(operator, "records_backuprecord_differences", take(plan, source))
    for name, what in {"new": "added", "noise": "removed", "report.txt": "changed"}.items():
        assert f"<td>{what}</td><td>{source}/{name}</td>" in shown
    assert "no earlier backup" in page(operator, "records_backuprecord_differences", record)


def restore(browser: Browser, record: BackupRecord, **form: object):
    fields = {"client": record.client_id, "place": "other", "directory": "/back", "overwrite": "if-changed", "verify": "on"}
    return browser.post(reverse("admin:jobs_backupplan_restore", args=[record.pk]), {**fields, **form})


def test_what_was_chosen_is_restored_to_a_directory_of_its_own(operator, record, source) -> None:
    path = f"{source}/report.txt"
    assert path in page(operator, "jobs_backupplan_restore", record, path=quote(path))
    answer = restore(operator, record, path=[quote(path)])
    recovery = RecoveryRecord.objects.get()
    assert answer["Location"] == reverse("admin:records_recoveryrecord_change", args=[recovery.pk])
    asked = {"destination": "/back", "include": [path], "overwrite": "if-changed", "verify": True}
    assert json.loads(recovery.recovery_data) == asked


def test_files_at_their_old_place_are_replaced_by_who_confirmed_it(operator, record) -> None:
    assert restore(operator, record, place="original").status_code == 400
    assert not RecoveryRecord.objects.exists()
    restore(operator, record, place="original", confirmed="on")
    assert json.loads(RecoveryRecord.objects.get().recovery_data)["destination"] == "/"


@pytest.mark.parametrize("form", [{"directory": "relative"}, {"directory": ""}, {"client": 0}, {"overwrite": "perhaps"}])
def test_a_wrong_answer_of_the_wizard_is_told_and_nothing_is_queued(operator, record, form) -> None:
    answer = restore(operator, record, **form)
    assert answer.status_code == 400
    assert 'class="problem"' in answer.content.decode()
    assert not RecoveryRecord.objects.exists()


def test_a_name_that_is_no_text_is_looked_at_but_not_chosen_by_itself(operator, plan, source) -> None:
    Path(os.fsdecode(bytes(source) + b"/odd\xff")).write_text("odd content")
    record = take(plan, source)
    path = quote(bytes(source) + b"/odd\xff")
    assert "odd content" in page(operator, "records_backuprecord_browse", record, path=str(source), file=path)
    assert "no UTF-8" in operator.get(reverse("admin:jobs_backupplan_restore", args=[record.pk]), {"path": path}).content.decode()


def test_a_job_is_cancelled_by_the_button_on_its_page(operator, plan) -> None:
    record = make_record(plan, state=State.QUEUED, snapshot="")
    button = reverse("admin:records_backuprecord_cancel", args=[record.pk])
    assert f'action="{button}"' in page(operator, "records_backuprecord_change", record)
    assert operator.get(button).status_code == 405
    operator.post(button)
    record.refresh_from_db()
    assert record.state == State.CANCELLED
    assert f'action="{button}"' not in page(operator, "records_backuprecord_change", record)
