"""A plan has either a hold or restic's keep rules; what these would let go can be seen before."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.urls import reverse

from jobs.models import BackupPlan
from records.keeping import clean_rules, parse_rules, rules_text
from records.models import BackupRecord
from tests.factories import START, make_plan, make_record

NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    plan = make_plan(tmp_path)
    for days in range(4):
        make_record(plan, start_time=NOON + timedelta(days=days))
    return plan


def test_rules_are_given_with_a_plan_and_changed_and_taken_away(api, plan) -> None:
    operator, address = api("operator"), f"/api/backup/{plan.uuid}"
    assert api("viewer").get(address).json()["keep"] == {}
    answer = operator.put(address, {"keep": {"within": " 30d", "last": 7, "daily": -1}}, format="json")
    assert (answer.status_code, answer.json()["keep"]) == (200, {"last": 7, "daily": -1, "within": "30d"})
    assert len(operator.put(address, {"backup_name": "other"}, format="json").json()["keep"]) == 3
    assert operator.put(address, {"keep": None}, format="json").json()["keep"] == {}


@pytest.mark.parametrize(
    "rules",
    [
        {"dayly": 7}, {"last": 0}, {"last": -2}, {"last": "7"}, {"last": True}, {"last": 1.5}, {"last": 1 << 70}, {"within": 30},
        {"within": "0d"}, {"within": ""}, {"within": "30"}, {"within": "30w"}, {"within": "1d1d"}, [7], "last 7", 7,
        {"within": "9" * 10 + "d"}, {"tags": [["a"]]},
    ],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused_and_nothing_changes(api, plan, rules) -> None:
    for method, address in (("put", f"/api/backup/{plan.uuid}"), ("post", f"/api/backup/{plan.uuid}/retention-preview")):
        answer = getattr(api("operator"), method)(address, {"keep": rules}, format="json")
        assert answer.status_code == 400, answer.json()
        assert list(answer.json()["fields"]) == ["keep"]
    plan.refresh_from_db()
    assert plan.keep == {}


def test_a_plan_has_a_hold_or_rules_and_not_both(api, plan) -> None:
    operator, address = api("operator"), f"/api/backup/{plan.uuid}"
    answer = operator.put(address, {"keep": {"last": 1}, "hold_type": 1, "hold_time": 7}, format="json")
    assert answer.status_code == 400
    assert "hold type 0" in answer.json()["fields"]["keep"][0]
    operator.put(address, {"hold_type": 1, "hold_time": 7}, format="json")
    assert operator.put(address, {"keep": {"last": 1}}, format="json").status_code == 400
    assert operator.put(address, {"keep": {"last": 1}, "hold_type": 0}, format="json").status_code == 200


def test_a_run_remembers_the_rules(api, plan) -> None:
    api("operator").put(f"/api/backup/{plan.uuid}", {"keep": {"last": 3}}, format="json")
    shown = api("operator").post(f"/api/backup/{plan.uuid}/run").json()
    assert shown["backup_detail"]["keep"] == {"last": 3}


def test_the_preview_tells_what_would_go_by_the_plans_rules_or_by_others(api, plan) -> None:
    address = f"/api/backup/{plan.uuid}/retention-preview"
    own = api("viewer").get(address).json()
    assert (own["keep"], own["total_go"], own["total_stay"]) == ({}, 0, 4)
    tried = api("operator").post(address, {"keep": {"last": 1, "within": "30h"}}, format="json").json()
    assert (tried["total_go"], tried["total_stay"]) == (2, 2)
    assert tried["stay"][0]["reasons"] == ["within 30h", "last snapshot"]
    assert [one["time"] for one in tried["go"]] == [int((NOON + timedelta(days=days)).timestamp()) for days in (1, 0)]
    assert BackupRecord.objects.count() == 4
    assert api("viewer").post(address, {"keep": {"last": 1}}, format="json").status_code == 403


def test_rules_are_a_line_of_text_in_the_console(account, plan) -> None:
    browser = Browser()
    browser.force_login(account("operator"))
    address = reverse("admin:jobs_backupplan_change", args=[plan.pk])
    form = {
        "backup_name": plan.backup_name, "backup_group": "0", "cron_expression": plan.cron_expression, "timezone": "UTC",
        "start_time_0": f"{START:%Y-%m-%d}", "start_time_1": f"{START:%H:%M:%S}", "hold_type": "0", "hold_time": "0",
        "backup_data": plan.backup_data, "misfire": "run-once", "jitter_s": "0",
    }  # fmt: skip
    page = browser.post(address, {**form, "keep": "last 7, dayly 3"})
    assert "There is no keep rule dayly" in page.content.decode()
    assert browser.post(address, {**form, "keep": "last 2, monthly unlimited, within-daily 1y6m"}).status_code == 302
    plan.refresh_from_db()
    assert plan.keep == {"last": 2, "monthly": -1, "within_daily": "1y6m"}
    assert 'value="last 2, monthly unlimited, within_daily 1y6m"' in browser.get(address).content.decode()


def test_the_console_shows_what_would_go_to_who_may_see_the_plan(account, plan) -> None:
    browser = Browser()
    address = reverse("admin:jobs_backupplan_retention", args=[plan.pk])
    assert browser.get(address).status_code == 302
    browser.force_login(account("viewer"))
    assert "goes: 0" in browser.get(address).content.decode()
    tried = browser.get(address, {"keep": "last 1"}).content.decode()
    assert "goes: 3" in tried
    assert "last snapshot" in tried
    assert "no keep rule" in browser.get(address, {"keep": "first 1"}).content.decode()
    assert BackupRecord.objects.count() == 4


def test_the_command_shows_what_would_go_and_lets_it_go(plan, capsys) -> None:
    BackupRecord.objects.filter(start_time=NOON).update(hold_until=NOON)
    call_command("forgetexpired", "--dry-run")
    assert "1 backups would go" in capsys.readouterr().out
    call_command("forgetexpired", "--dry-run", "--plan", str(plan.uuid), "--keep", "last 1")
    assert "3 backups would go, 1 stay" in capsys.readouterr().out
    assert BackupRecord.objects.count() == 4
    call_command("forgetexpired")
    assert "1 backups went into the trash" in capsys.readouterr().out
    assert (BackupRecord.objects.count(), BackupRecord.trash.count()) == (3, 1)


@pytest.mark.parametrize(
    "arguments",
    [["--plan", "x"], ["--dry-run", "--plan", "x"], ["--dry-run", "--keep", "last 1"],
     ["--dry-run", "--plan", "00000000-0000-0000-0000-000000000000"]],
)  # fmt: skip
def test_the_command_refuses_what_makes_no_sense(db, arguments) -> None:
    with pytest.raises(CommandError):
        call_command("forgetexpired", *arguments)


def test_text_and_object_say_the_same() -> None:
    rules = {"last": 7, "hourly": -1, "within": "30d", "within_yearly": "5y"}
    assert parse_rules(rules_text(rules)) == clean_rules(rules) == rules
    assert parse_rules("last=7, within = 30d") == {"last": 7, "within": "30d"}
    assert parse_rules("  ") == {}
    for text in ("last", "last x", "last 7 daily 8", "last 7, last 8", "unlimited", "within unlimited"):
        with pytest.raises(ValueError, match=r"keep rule|must be"):
            parse_rules(text)
