"""The audit log: who did what, from where, to what, with what outcome; added to and never changed, exported as it is."""

import csv
import io
import json
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from accounts.audit.append_only import install
from accounts.housekeeping import forget_old_entries
from accounts.models import AppendOnly, AuditEntry, password_digest
from tests.conftest import PASSWORD
from tests.factories import make_client, make_plan, make_record
from tests.services.postgres import postgres_server
from tests.system.processes import TOP, Installation, installation

DIGEST = password_digest(PASSWORD)
WRONG = password_digest("wrong")


def newest() -> AuditEntry:
    return AuditEntry.objects.first()


def told(entry: AuditEntry) -> tuple[str, str, str, str]:
    return entry.actor, entry.via, entry.action, entry.outcome


def test_a_change_by_the_api_names_who_from_where_what_and_which_fields(api) -> None:
    client = make_client(hostname="before")
    api("administrator").put(f"/api/client/{client.ipv4}", {"hostname": "after", "root": "/"}, format="json")
    entry = newest()
    assert told(entry) == ("administrator", "api", "client-detail.partial_update", "done")
    assert (entry.address, entry.status, entry.path) == ("127.0.0.1", 200, f"/api/client/{client.ipv4}")
    assert entry.touched == [
        {"model": "clients.client", "id": str(client.pk), "name": "after", "change": "changed", "fields": ["hostname"]}
    ]


def test_creating_deleting_and_what_is_done_with_an_object_are_there(api, tmp_path) -> None:
    plan = make_plan(tmp_path)
    administrator = api("administrator")
    administrator.post("/api/account", {"username": "new", "password": DIGEST}, format="json")
    assert [(each["name"], each["change"]) for each in newest().touched] == [("new", "created")]
    administrator.delete("/api/account/new")
    assert told(newest()) == ("administrator", "api", "account-detail.destroy", "done")
    assert ("new", "deleted") in [(each["name"], each["change"]) for each in newest().touched]
    administrator.post(f"/api/backup/{plan.uuid}/run")
    assert told(newest()) == ("administrator", "api", "backup-run.run", "done")
    administrator.post(f"/api/backup/{plan.uuid}/pause")
    assert "paused" in newest().touched[0]["fields"]


def test_no_value_reaches_the_log(api, account) -> None:
    body = {"new_password": WRONG, "old_password": DIGEST}
    assert api("viewer").put("/api/account/viewer", body, format="json").status_code == 200
    entry = newest()
    assert entry.touched[0]["fields"] == ["password"]
    account("viewer").refresh_from_db()
    assert not any(secret in repr(entry.__dict__) for secret in (WRONG, DIGEST, account("viewer").password))


def test_what_is_refused_or_not_valid_is_there_too(api) -> None:
    api("viewer").post("/api/client", {"hostname": "x"}, format="json")
    assert told(newest()) == ("viewer", "api", "client-list.create", "refused")
    api("administrator").post("/api/client", {}, format="json")
    assert told(newest()) == ("administrator", "api", "client-list.create", "invalid")
    api("viewer").get("/api/audit")
    assert told(newest()) == ("viewer", "api", "audit-list.list", "refused")


def test_reading_is_not_there_but_for_what_hands_out_secrets_and_files(api, tmp_path) -> None:
    record = make_record(make_plan(tmp_path))
    administrator = api("administrator")
    for path in ("/api/client", "/api/backup", "/api/audit", f"/api/record/backup/{record.pk}"):
        administrator.get(path)
    assert not AuditEntry.objects.exists()
    administrator.get("/api/tenant")
    assert newest().action == "tenant-list.list"
    administrator.get(f"/api/record/backup/{record.pk}/download", {"path": "/etc"})
    assert newest().action == "backup-record-download.download"


@pytest.mark.parametrize("method", ["get", "post"])
def test_logins_are_there_and_a_name_only_if_an_account_has_it(api, account, method) -> None:
    account("viewer")

    def log_in(username: str, password: str) -> AuditEntry:
        getattr(api(None), method)("/login", {"username": username, "password": password})
        return newest()

    assert told(log_in("viewer", DIGEST)) == ("viewer", "api", f"login.{method}", "done")
    assert told(log_in("viewer", WRONG)) == ("viewer", "api", f"login.{method}", "refused")
    # As when somebody types the password into the wrong place.
    entry = log_in("my secret password", WRONG)
    assert told(entry) == ("", "api", f"login.{method}", "refused")
    assert "my secret password" not in repr(entry.__dict__)


def test_guessing_on_while_throttled_does_not_fill_the_log(api, account, settings) -> None:
    settings.LOGIN_ATTEMPTS = 2
    account("viewer")
    for _ in range(10):
        api(None).post("/login", {"username": "viewer", "password": WRONG})
    assert [entry.status for entry in AuditEntry.objects.order_by("pk")] == [401, 401, 429]


def test_nobody_we_know_fills_the_log(api, db) -> None:
    api(None).post("/api/client", {})
    api(None).delete("/api/account/viewer")
    api(None).post("/api/agent/heartbeat", {})
    Browser().post(reverse("admin:accounts_user_add"), {})
    assert not AuditEntry.objects.exists()


def test_the_console_is_there_with_its_logins_forms_and_actions(account, tmp_path) -> None:
    plan = make_plan(tmp_path)
    account("administrator")
    browser = Browser()
    login = reverse("admin:login")
    browser.post(login, {"username": "administrator", "password": "wrong"})
    assert told(newest()) == ("administrator", "console", "login.post", "refused")
    browser.post(login, {"username": "administrator", "password": PASSWORD})
    assert told(newest()) == ("administrator", "console", "login.post", "done")
    browser.post(reverse("admin:clients_client_add"), {"hostname": ""})
    assert told(newest()) == ("administrator", "console", "clients_client_add.post", "invalid")
    browser.post(reverse("admin:clients_client_add"), {"hostname": "new", "ipv4": "10.9.9.9", "ipv6": "", "root": "/"})
    assert [(each["name"], each["change"]) for each in newest().touched] == [("new", "created")]
    browser.post(reverse("admin:jobs_backupplan_changelist"), {"action": "pause", "_selected_action": [plan.pk]})
    assert told(newest()) == ("administrator", "console", "jobs_backupplan_changelist.pause", "done")
    assert "paused" in newest().touched[0]["fields"]
    browser.post(reverse("admin:logout"))
    assert told(newest())[:3] == ("administrator", "console", "logout.post")
    viewer = Browser()
    viewer.force_login(account("viewer"))
    viewer.get(reverse("admin:accounts_user_changelist"))
    assert told(newest()) == ("viewer", "console", "accounts_user_changelist.get", "refused")


def test_neither_model_nor_api_nor_console_changes_an_entry(api, account) -> None:
    entry = AuditEntry.objects.create(actor="viewer", action="login", via="api", outcome="done")
    entry.actor = "somebody else"
    for change in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(actor="x"),
        lambda: AuditEntry.objects.bulk_update([entry], ["actor"]),
    ):
        with pytest.raises(AppendOnly):
            change()
    client = api("administrator")
    assert {method(f"/api/audit/{entry.pk}").status_code for method in (client.put, client.patch, client.delete)} == {405}
    browser = Browser()
    browser.force_login(account("administrator"))
    for name in ("change", "delete"):
        assert browser.post(reverse(f"admin:accounts_auditentry_{name}", args=[entry.pk]), {"post": "yes"}).status_code == 403
    assert AuditEntry.objects.get(pk=entry.pk).actor == "viewer"


def test_the_database_refuses_too_until_an_entry_is_older_than_it_is_kept(db, settings) -> None:
    install(None, connection.schema_editor())
    young = AuditEntry.objects.create(action="young", via="api", outcome="done")
    AuditEntry.objects.create(action="old", via="api", outcome="done", time=timezone.now() - timedelta(days=40))
    for statement in ("UPDATE accounts_auditentry SET actor = 'x'", "DELETE FROM accounts_auditentry"):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    settings.AUDIT_KEEP_DAYS = 0
    assert forget_old_entries() == 0
    settings.AUDIT_KEEP_DAYS = 35
    assert forget_old_entries() == 1
    assert list(AuditEntry.objects.all()) == [young]


def try_to_change(center: Installation) -> str:
    """Return what the database says to somebody who would change the log; a command has added an entry before."""
    center.run_python("from accounts.models import User; User.objects.create_user('somebody')")
    statements = ["UPDATE accounts_auditentry SET actor = 'x'", "DELETE FROM accounts_auditentry"]
    code = "from django.db import connection\nfor statement in STATEMENTS:\n  try: connection.cursor().execute(statement)\n"
    code += "  except Exception as error: print(error)"
    return center.run_python(code.replace("STATEMENTS", repr(statements)))


def test_commands_are_there_and_the_database_keeps_them() -> None:
    with installation() as center:
        said = try_to_change(center)
        database = sqlite3.connect(center.directory / "center.sqlite3")
        rows = database.execute("SELECT via, action, outcome, touched FROM accounts_auditentry ORDER BY id").fetchall()
        database.close()
        failed = subprocess.run(
            [sys.executable, "manage.py", "changepassword", "nobody"], cwd=TOP, env=center.environment, capture_output=True
        )
        assert failed.returncode
        code = "from accounts.models import AuditEntry; print(*AuditEntry.objects.values_list('action', 'outcome').first())"
        last = center.run_python(code)
    assert said.count("append-only") == 2
    assert rows[0][:3] == ("command", "migrate -v", "done")
    assert rows[1][:3] == ("command", "shell --no-imports -c -v", "done")
    assert [(each["name"], each["change"]) for each in json.loads(rows[1][3])] == [("somebody", "created")]
    assert last.split() == ["changepassword", "failed"]


@pytest.mark.postgres
def test_postgresql_keeps_them_too() -> None:
    with postgres_server() as url, installation(url) as center:
        assert try_to_change(center).count("append-only") == 2


def lines(client, **query: str) -> list[dict]:
    answer = client.get("/api/audit/export", query)
    assert answer["Cache-Control"] == "no-store"
    return [json.loads(line) for line in body(answer).splitlines()]


def body(answer) -> str:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return async_to_sync(read)().decode()


@pytest.mark.django_db(transaction=True)
def test_it_is_exported_as_it_is_with_filters(api, account, monkeypatch) -> None:
    monkeypatch.setattr("backupcenter.exporting.ROWS_AT_ONCE", 2)
    account("administrator")
    for number in range(5):
        AuditEntry.objects.create(actor=f"@user{number}", action="backup-list.create", via="api", outcome="done")
    AuditEntry.objects.create(actor="viewer", action="login.post", via="console", outcome="refused", address="10.1.2.3")
    client = api("administrator")
    # Taking it along is in it.
    assert [row["actor"] for row in lines(client)] == [*(f"@user{number}" for number in range(5)), "viewer", "administrator"]
    for query in ({"outcome": "refused"}, {"address": "10.1.2.3"}, {"action": "login"}, {"actor": "viewer"}, {"via": "console"}):
        assert {row["actor"] for row in lines(client, **query)} == {"viewer"}
    rows = list(csv.DictReader(io.StringIO(body(client.get("/api/audit/export", {"format": "csv", "via": "api"})))))
    # Not as a formula, which a spreadsheet would run.
    assert rows[0]["actor"] == "'@user0"
    assert client.get("/api/audit/export", {"format": "xml"}).status_code == 400
    assert newest().action == "audit-export.export"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["export_csv", "export_lines"])
def test_the_console_exports_what_is_selected(account, action) -> None:
    entry = AuditEntry.objects.create(actor="viewer", action="login", via="api", outcome="done")
    AuditEntry.objects.create(actor="operator", action="login", via="api", outcome="done")
    browser = Browser()
    browser.force_login(account("administrator"))
    answer = browser.post(reverse("admin:accounts_auditentry_changelist"), {"action": action, "_selected_action": [entry.pk]})
    text = body(answer)
    assert "viewer" in text
    assert "operator" not in text


def test_it_is_listed_in_pages_the_newest_first(api) -> None:
    for number in range(3):
        AuditEntry.objects.create(actor=f"user{number}", action="login", via="api", outcome="done")
    answer = api("administrator").get("/api/audit", {"page_size": 2}).json()
    assert (answer["page"], answer["total_page"], answer["total"]) == (1, 2, 3)
    assert [row["actor"] for row in answer["Data"]] == ["user2", "user1"]
    assert api("administrator").get("/api/audit", {"since": "1"}).json()["total"] == 3
    assert api("administrator").get("/api/audit", {"until": "1"}).json()["total"] == 0


def test_what_the_database_does_not_take_is_in_the_programs_own_log(api, monkeypatch, caplog) -> None:
    from django.db import DatabaseError

    def fail(*arguments: object, **options: object) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(AuditEntry, "save", fail)
    with caplog.at_level("INFO", "audit"):
        assert api("administrator").post("/api/jointoken").status_code == 201
    assert "action=jointoken.post" in caplog.text
    assert "could not be added" in caplog.text


def test_one_of_many_objects_is_counted_rather_than_named(api, monkeypatch) -> None:
    monkeypatch.setattr("accounts.audit.acts.NAMED_OBJECTS", 0)
    api("administrator").post("/api/account", {"username": "new", "password": DIGEST}, format="json")
    assert (newest().touched, newest().unnamed) == ([], 1)


def test_the_log_is_not_kept_for_less_than_the_database_does(tmp_path: Path) -> None:
    environment = {"BACKUPCENTER_SECRET_KEY": "x", "BACKUPCENTER_AUDIT_KEEP_DAYS": "7", "PATH": ""}
    done = subprocess.run([sys.executable, "manage.py", "check"], cwd=TOP, env=environment, capture_output=True, text=True)
    assert "BACKUPCENTER_AUDIT_KEEP_DAYS must be 0" in done.stderr
