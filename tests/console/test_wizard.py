"""The plan wizard: what it asks is judged as the API does, told before it is made, and made as the API would."""

import html
import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.compatibility import LOOKING_PROTOCOL
from clients.models import Client
from jobs.looking import take_answer
from jobs.models import BackupPlan
from storage.models import Tenant
from tests.factories import make_client, make_plan, make_tenant

HOOKS = {
    "before": [{"command": ["lock", "who=a b"], "timeout_s": 60}, {"command": ["warm-up"], "on_failure": "continue"}],
    "after": [{"command": ["unlock"]}],
}
STREAMS = [{"name": "/dumps/shop.sql", "command": ["dump-shop"]}]


@pytest.fixture
def operator(account) -> Browser:
    browser = Browser()
    browser.force_login(account("operator"))
    return browser


@pytest.fixture
def host(db: None) -> Client:
    return make_client(hostname="web1", last_seen=timezone.now(), protocol=LOOKING_PROTOCOL, allowed=["lock"])


@pytest.fixture
def tenant(db: None, tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path / "store")


@pytest.fixture
def typed(host: Client, tenant: Tenant) -> dict[str, Any]:
    """What a person has filled in."""
    return {
        "backup_name": "nightly", "client": host.pk, "include": "/srv\r\n\r\n /etc ", "exclude": "*.tmp", "presets": "",
        "tenant": tenant.pk, "bucket": "backups",
        "repeat": "weekly", "at": "02:30", "weekdays": ["MON", "FRI"], "timezone": "Europe/Berlin", "misfire": "skip",
        "hold_type": "rules", "keep": "last 3, daily 14",
        "command-TOTAL_FORMS": 0, "command-INITIAL_FORMS": 0,
    }  # fmt: skip


def send(browser: Browser, step: str, typed: dict[str, Any], **changed: Any) -> Any:
    return browser.post(reverse("admin:jobs_backupplan_wizard"), {**typed, **changed, "step": step})


def rows(*commands: dict[str, Any]) -> dict[str, Any]:
    """Return what the forms of these commands send."""
    sent: dict[str, Any] = {"command-TOTAL_FORMS": len(commands), "command-INITIAL_FORMS": 0}
    for number, command in enumerate(commands):
        sent |= {f"command-{number}-{name}": value for name, value in command.items()}
    return sent


def test_a_plan_is_told_and_then_made_as_it_was_told(operator, typed, host) -> None:
    summary = send(operator, "look", typed)
    assert summary.status_code == 200
    told = html.unescape(summary.content.decode())
    for text in ("0 30 2 ? * MON,FRI", "/srv", "without *.tmp", "web1", "backups", "of their backups 14 would be there"):
        assert text in told
    assert not BackupPlan.objects.exists()
    made = send(operator, "make", typed)
    plan = BackupPlan.objects.get()
    assert made["Location"] == reverse("admin:jobs_backupplan_change", args=[plan.pk])
    assert plan.data == {"include": ["/srv", "/etc"], "exclude": ["*.tmp"]}
    assert (plan.cron_expression, plan.timezone, plan.misfire) == ("0 30 2 ? * MON,FRI", "Europe/Berlin", "skip")
    assert (plan.hold_type, plan.keep) == (0, {"last": 3, "daily": 14})
    assert plan.next_fire_at is not None
    assert plan.repository.prefix, "each client has a repository of its own unless one says otherwise"


def test_what_the_summary_sends_on_makes_the_plan(operator, typed) -> None:
    typed |= rows({"stage": "after", "command": "unlock", "file": "", "timeout_s": ""})
    sent = dict(send(operator, "look", typed).context["sent"])
    assert {"weekdays", "command-0-command", "keep"} <= set(sent)
    assert not {"step", "csrfmiddlewaretoken"} & set(sent)


def test_commands_are_built_into_streams_and_hooks_and_found_again_in_a_plan_like_it(operator, typed) -> None:
    commands = rows(
        {"stage": "before", "command": "lock 'who=a b'", "file": "", "timeout_s": "60"},
        {"stage": "before-continue", "command": "warm-up", "file": "", "timeout_s": ""},
        {"stage": "before", "command": "", "file": "", "timeout_s": ""},
        {"stage": "stream", "command": "dump-shop", "file": "/dumps/shop.sql", "timeout_s": ""},
        {"stage": "after", "command": "unlock", "file": "", "timeout_s": ""},
    )
    told = html.unescape(send(operator, "look", typed, **commands).content.decode())
    assert "web1 does not allow: dump-shop, warm-up, unlock" in told
    send(operator, "make", typed, presets="redis", **commands)
    plan = BackupPlan.objects.get()
    paths = {"include": ["/srv", "/etc"], "exclude": ["*.tmp"]}
    assert plan.data == {**paths, "presets": ["redis"], "streams": STREAMS, "hooks": HOOKS}
    like = operator.get(reverse("admin:jobs_backupplan_wizard"), {"like": plan.pk}).context
    assert like["form"]["repeat"].value() == "weekly"
    assert like["form"]["weekdays"].value() == ["MON", "FRI"]
    again = [{name: row[name].value() for name in ("stage", "command", "file", "timeout_s")} for row in like["commands"]][:4]
    sent = {name: like["form"][name].value() or "" for name in like["form"].fields}
    sent |= {"include": "/srv\n/etc", "exclude": "*.tmp", "presets": "redis", "keep": "last 3, daily 14"}
    filled = [{name: value or "" for name, value in row.items()} for row in again]
    send(operator, "make", {**sent, **rows(*filled)})
    copy = BackupPlan.objects.exclude(pk=plan.pk).get()
    assert copy.backup_name == "nightly (copy)"
    kept = ("backup_data", "cron_expression", "timezone", "misfire", "keep", "hold_type", "client_id", "repository_id")
    assert {name: getattr(copy, name) for name in kept} == {name: getattr(plan, name) for name in kept}


@pytest.mark.parametrize(("changed", "field"), [
    ({"backup_name": ""}, "backup_name"),
    ({"include": " \n "}, "include"),
    ({"include": "/a\0b"}, "include"),
    ({"exclude": "[a"}, "include"),
    ({"weekdays": []}, "weekdays"),
    ({"repeat": "quartz", "cron_expression": "0 0 3 * * *"}, "cron_expression"),
    ({"repeat": "quartz", "cron_expression": ""}, "cron_expression"),
    ({"timezone": "Mars/Olympus"}, "timezone"),
    ({"start": "2027-01-01T00:00", "end": "2026-01-01T00:00"}, "end"),
    ({"end": "soon"}, "end"),
    ({"hold_type": "1", "hold_time": "0"}, "hold_time"),
    ({"hold_type": "1", "hold_time": "many"}, "hold_time"),
    ({"keep": "sometimes 3"}, "keep"),
    ({"keep": ""}, "keep"),
    ({"jitter_s": "-1"}, "jitter_s"),
    ({"bucket": "x"}, "bucket"),
])  # fmt: skip
def test_what_does_not_fit_is_told_at_its_field_and_nothing_is_made(operator, typed, tenant, changed, field) -> None:
    if field == "bucket":
        changed = {"bucket": ".."}
    answer = send(operator, "make", typed, **changed)
    assert answer.status_code == 400
    assert field in answer.context["form"].errors
    assert not BackupPlan.objects.exists()


@pytest.mark.parametrize(("row", "sentence"), [
    ({"command": "rm -rf /"}, "must be “parameter=value”"),
    ({"command": "/bin/sh"}, "is no name of a command"),
    ({"command": "lock 'x=1"}, "A quotation mark is not closed."),
    ({"command": "dump", "stage": "stream"}, "must be an absolute path"),
    ({"command": "", "file": "/dumps/a"}, "Name a command."),
    ({"command": "lock", "timeout_s": "0"}, "greater than or equal to 1"),
    ({"command": "lock", "stage": "whenever"}, "not one of the available choices"),
])  # fmt: skip
def test_a_command_that_does_not_fit_is_told(operator, typed, row, sentence) -> None:
    answer = send(operator, "make", typed, **rows({"stage": "before", "file": "", "timeout_s": "", **row}))
    assert answer.status_code == 400
    assert sentence in html.unescape(answer.content.decode())
    assert not BackupPlan.objects.exists()


def test_going_back_keeps_what_was_typed(operator, typed) -> None:
    shown = send(operator, "edit", typed).content.decode()
    assert 'value="nightly"' in shown
    assert "/srv" in shown
    more = send(operator, "more", typed, **rows({"stage": "after", "command": "unlock", "file": "", "timeout_s": ""}))
    assert [row["command"].value() for row in more.context["commands"]] == ["unlock", None]


def test_the_next_fires_and_what_stays_are_shown_while_one_types(operator, typed) -> None:
    def shown(**changed: Any) -> str:
        asked = {name: typed[name] for name in ("repeat", "at", "weekdays", "timezone", "misfire", "hold_type", "keep")}
        return html.unescape(operator.get(reverse("admin:jobs_backupplan_wizard_preview"), {**asked, **changed}).content.decode())

    page = shown()
    assert page.count("<time") == 10
    assert "0 30 2 ? * MON,FRI" in page
    assert "of their backups 14 would be there now" in page
    assert 'hx-swap-oob="true"' in page
    assert "between 0 and 23" in shown(repeat="quartz", cron_expression="0 0 25 * * ?")
    assert "no time left" in shown(end="2020-01-01T00:00", start="2019-01-01T00:00")
    assert "Nothing ever goes." in shown(hold_type="0")


def test_the_agents_answer_is_a_directory_to_choose_from(operator, host, monkeypatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("jobs.looking.send", lambda *message: sent.append(message) or True)
    asked = operator.post(reverse("admin:jobs_backupplan_wizard_listing"), {"client": host.pk, "path": "/srv"})
    assert asked.status_code == 202
    (_task, [message], _queue) = sent[0]
    address = reverse("admin:jobs_backupplan_wizard_answer", args=[message["look"]])
    assert address in asked.content.decode()
    assert address in operator.get(address).content.decode(), "it asks on"
    entry = {"is_text": True, "type": "file", "size": 3, "mtime": 1, "target": "", "reason": ""}
    entries = [
        {**entry, "name": "<b>'\"", "type": "dir"},
        {**entry, "name": "shut", "reason": "Permission denied"},
        {**entry, "name": "a\nb"},
    ]
    listing = {"path": "/srv", "offset": 0, "total": 2000, "is_whole": True, "entries": entries}
    take_answer(host, message["look"], {"listing": listing, "estimate": None, "problem": ""})
    shown = operator.get(address).content.decode()
    assert "<b>'" not in shown
    assert 'data-path="/srv/&lt;b&gt;&#x27;&quot;"' in shown
    assert json.loads('"' + shown.split('hx-vals=\'{"path": "/srv/')[1].split('",')[0] + '"') == "<b>'\""
    assert "Permission denied" in shown
    assert shown.count('data-list="include"') == 2, "a name of two lines cannot be chosen"
    assert "1 – 3 / 2000" in shown


def test_an_estimate_says_what_it_costs_where_it_would_be_stored(operator, host, tenant, monkeypatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("jobs.looking.send", lambda *message: sent.append(message) or True)
    Tenant.objects.update(quota=1000, used=900)
    fields = {"client": host.pk, "include": "srv\n", "exclude": "*.tmp", "tenant": tenant.pk, "backups": 3}
    asked = operator.post(reverse("admin:jobs_backupplan_wizard_estimate"), fields)
    number = sent[0][1][0]["look"]
    counted = {"files": 2, "bytes": 2048, "is_whole": False, "missing": ["/gone"]}
    take_answer(host, number, {"listing": None, "estimate": counted, "problem": ""})
    address = html.unescape(asked.content.decode().split('hx-get="')[1].split('"')[0])
    shown = html.unescape(operator.get(address).content.decode()).replace("\xa0", " ")
    for text in ("at least", "2 files", "2.0 KB", "There is no /gone", "100 bytes", "does not fit"):
        assert text in shown, text


@pytest.mark.parametrize(("what", "fields", "sentence"), [
    ("listing", {}, "Choose a client first."),
    ("estimate", {"client": "x"}, "Choose a client first."),
    ("listing", {"client": "silent"}, "has no agent yet"),
    ("estimate", {"client": "host"}, "Name a path first."),
])  # fmt: skip
def test_what_cannot_be_asked_is_told(operator, host, what, fields, sentence) -> None:
    known = {"silent": make_client().pk, "host": host.pk}
    sent = {name: known.get(value, value) for name, value in fields.items()}
    assert sentence in operator.post(reverse(f"admin:jobs_backupplan_wizard_{what}"), sent).content.decode()
    late = operator.get(reverse("admin:jobs_backupplan_wizard_answer", args=["0" * 32])).content.decode()
    assert "did not answer within a minute" in late


def test_a_plans_page_has_its_buttons_for_who_may_press_them(operator, account, tmp_path) -> None:
    plan = make_plan(tmp_path)
    address = reverse("admin:jobs_backupplan_change", args=[plan.pk])
    buttons = [reverse(f"admin:jobs_backupplan_{act}", args=[plan.pk]) for act in ("run", "pause", "drill")]
    copying = reverse("admin:jobs_backupplan_wizard") + f"?like={plan.pk}"
    shown = operator.get(address).content.decode()
    assert all(f'action="{button}"' in shown for button in buttons)
    assert copying in shown
    operator.post(buttons[1])
    assert f'action="{reverse("admin:jobs_backupplan_resume", args=[plan.pk])}"' in operator.get(address).content.decode()
    viewer = Browser()
    viewer.force_login(account("viewer"))
    seen = viewer.get(address).content.decode()
    assert not any(button in seen for button in [*buttons, copying])
