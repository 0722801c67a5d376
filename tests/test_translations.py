"""Both languages are complete: every text for people has a Chinese translation, and the compiled catalogue is its own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest

TOP = Path(__file__).resolve().parent.parent
CATALOGUE = TOP / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
PLACEHOLDER = re.compile(r"%\(\w+\)[sdr]")


def texts(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) or [entry.msgstr]


def test_nothing_is_left_untranslated() -> None:
    catalogue = polib.pofile(str(CATALOGUE))
    assert [entry.msgid for entry in catalogue if not all(texts(entry)) or entry.fuzzy] == []


def test_placeholders_survive_translation() -> None:
    for entry in polib.pofile(str(CATALOGUE)):
        for text in texts(entry):
            assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(entry.msgid)), entry.msgid


def test_the_compiled_catalogue_is_up_to_date() -> None:
    source, compiled = polib.pofile(str(CATALOGUE)), polib.mofile(str(CATALOGUE.with_suffix(".mo")))
    assert {entry.msgid: texts(entry) for entry in compiled} == {entry.msgid: texts(entry) for entry in source}


@pytest.mark.skipif(shutil.which("xgettext") is None, reason="gettext is not installed")
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
    kept = {entry.msgid for entry in polib.pofile(str(CATALOGUE))}
    assert {entry.msgid for entry in made} == kept
