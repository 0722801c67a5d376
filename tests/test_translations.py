"""Both languages are complete: every text for people has a Chinese translation, and the compiled catalogue is its own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest
from django.utils.translation import override

from jobs.admin import BackupPlanAdmin
from records.models import BackupRecord, RecoveryRecord, State

TOP = Path(__file__).resolve().parent.parent
CATALOGUE = TOP / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
UNFOLD_CATALOGUE = TOP / "locale" / "unfold" / "zh_Hans" / "LC_MESSAGES" / "django.po"
PLACEHOLDER = re.compile(r"%\(\w+\)[sdr]")


def texts(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) or [entry.msgstr]


def key(entry: polib.POEntry) -> tuple[str | None, str]:
    return entry.msgctxt, entry.msgid


@pytest.mark.parametrize("path", [CATALOGUE, UNFOLD_CATALOGUE])
def test_nothing_is_left_untranslated(path) -> None:
    catalogue = polib.pofile(str(path))
    assert [entry.msgid for entry in catalogue if not all(texts(entry)) or entry.fuzzy] == []


@pytest.mark.parametrize("path", [CATALOGUE, UNFOLD_CATALOGUE])
def test_placeholders_survive_translation(path) -> None:
    for entry in polib.pofile(str(path)):
        for text in texts(entry):
            assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(entry.msgid)), entry.msgid


@pytest.mark.parametrize("path", [CATALOGUE, UNFOLD_CATALOGUE])
def test_the_compiled_catalogue_is_up_to_date(path) -> None:
    source, compiled = polib.pofile(str(path)), polib.mofile(str(path.with_suffix(".mo")))
    assert {key(entry): texts(entry) for entry in compiled} == {key(entry): texts(entry) for entry in source}


@pytest.mark.gettext
def test_every_text_of_the_code_is_in_the_catalogue(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    rooms = ["accounts", "storage", "clients", "records", "jobs", "backupcenter", "templates", "locale"]
    for room in rooms:
        if (TOP / room).exists():
            shutil.copytree(TOP / room, copy / room)
    for package in ("engine", "manage.py"):
        (copy / package).symlink_to(TOP / package)
    command = [sys.executable, str(TOP / "manage.py"), "makemessages", "-l", "zh_Hans", "--no-location", "--no-obsolete"]
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(TOP), "PATH": "/usr/bin:/bin"}
    subprocess.run(command, cwd=copy, env=environment, check=True, stdout=subprocess.DEVNULL)
    made = polib.pofile(str(copy / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"))
    kept = {key(entry) for entry in polib.pofile(str(CATALOGUE))}
    assert {key(entry) for entry in made} == kept


def test_a_time_is_called_otherwise_than_a_state_and_going_on_otherwise_than_restoring() -> None:
    with override("zh-hans"):
        assert str(BackupRecord._meta.get_field("queued_at").verbose_name) != str(State.QUEUED.label)
        assert str(RecoveryRecord._meta.verbose_name)[:2] not in str(BackupPlanAdmin.resume.short_description)
