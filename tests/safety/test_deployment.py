"""Production's settings as Django's own check of a deployment sees them."""

import os
import secrets
import subprocess
import sys

import pytest

from tests.system.processes import TOP

PRODUCTION = {
    "PUBLIC_URL": "https://backup.example.org",
    "ALLOWED_HOSTS": "backup.example.org",
    "BEHIND_PROXY": "1",
    "SECRET_KEY": secrets.token_urlsafe(50),
}


def check_deployment(**settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKUPCENTER_", "DJANGO_"))}
    named = {f"BACKUPCENTER_{name}": value for name, value in {**PRODUCTION, **settings}.items()}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(command, cwd=TOP, env={**kept, **named}, capture_output=True, text=True)


def test_production_is_free_of_warnings() -> None:
    done = check_deployment()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("setting", "value", "warning"), [
    ("SECRET_KEY", "short", "security.W009"),
    ("DEBUG", "1", "security.W018"),
    ("PUBLIC_URL", "http://backup.example.org", "security.W012"),
])  # fmt: skip
def test_a_setting_that_is_unsafe_is_warned_of(setting, value, warning) -> None:
    done = check_deployment(**{setting: value})
    assert done.returncode == 1
    assert warning in done.stderr
