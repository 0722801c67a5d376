"""Passwords that anybody would guess are taken nowhere."""

import os
import subprocess
import sys

import pytest
from django.contrib.auth.management.commands import createsuperuser
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.urls import reverse

from accounts.models import User, password_digest
from tests.conftest import PASSWORD
from tests.system.processes import TOP

GOOD = "an entirely new one"
POOR = ["password", "12345678", "short", "newcomer1"]


@pytest.mark.parametrize("password", POOR)
def test_the_console_refuses_one(account, password) -> None:
    browser = Browser()
    browser.force_login(account("administrator"))
    form = {"username": "newcomer", "role": "viewer", "password1": password, "password2": password, "usable_password": "true"}
    assert browser.post(reverse("admin:accounts_user_add"), form).status_code == 200
    assert not User.objects.filter(username="newcomer").exists()
    form |= {"password1": GOOD, "password2": GOOD}
    assert browser.post(reverse("admin:accounts_user_add"), form).status_code == 302
    change = {"password1": password, "password2": password, "usable_password": "true"}
    user = User.objects.get(username="newcomer")
    browser.post(reverse("admin:auth_user_password_change", args=[user.pk]), change)
    own = Browser()
    own.force_login(user)
    own.post(reverse("admin:password_change"), {"old_password": GOOD, "new_password1": password, "new_password2": password})
    user.refresh_from_db()
    assert user.check_password(GOOD)


@pytest.mark.parametrize("password", POOR)
def test_createsuperuser_refuses_one(db, monkeypatch, password) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", password)
    with pytest.raises(CommandError):
        call_command(createsuperuser.Command(), username="newcomer", email="", interactive=False)
    assert not User.objects.exists()
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", GOOD)
    call_command(createsuperuser.Command(), username="newcomer", email="", interactive=False, verbosity=0)
    assert User.objects.get().check_password(GOOD)


@pytest.mark.parametrize("password", ["password", "12345678", "admin", "newcomer", ""])
def test_the_api_refuses_the_digest_of_one(api, settings, password) -> None:
    settings.REFUSE_COMMON_PASSWORDS = True
    administrator = api("administrator")
    answer = administrator.post("/api/account", {"username": "newcomer", "password": password_digest(password)}, format="json")
    assert answer.status_code == 400
    assert "password" in answer.json()["fields"]
    assert not User.objects.filter(username="newcomer").exists()
    body = {"username": "newcomer", "password": password_digest(GOOD)}
    assert administrator.post("/api/account", body, format="json").status_code == 201
    answer = administrator.put("/api/account/newcomer", {"new_password": password_digest(password).upper()}, format="json")
    assert answer.status_code == 400
    assert "new_password" in answer.json()["fields"]
    assert User.objects.get(username="newcomer").check_password(GOOD)


@pytest.mark.parametrize(("url", "refused"), [("https://backup.example.org", True), ("http://127.0.0.1:8000", False)])
def test_a_server_that_speaks_tls_refuses_those_digests_unless_told_otherwise(url, refused) -> None:
    code = "from django.conf import settings; print(settings.REFUSE_COMMON_PASSWORDS)"
    environment = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "backupcenter.settings", "BACKUPCENTER_PUBLIC_URL": url}
    environment["BACKUPCENTER_SECRET_KEY"] = PASSWORD
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(refused), done.stderr
