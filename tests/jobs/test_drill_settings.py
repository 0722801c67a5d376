"""Each plan is drilled once a week unless somebody says otherwise; commands are for administrators."""

import json
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from jobs.drills import change_drill, drill_of, request_due_drills, weekly
from jobs.models import BackupPlan, PlanDrill
from jobs.quartz import QuartzExpression
from jobs.tasks import drill as drill_task
from records.models import DrillRecord, MaintenanceRun, State
from tests.factories import make_plan, make_record

WEEK = timedelta(days=7)


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    plan = make_plan(tmp_path)
    make_record(plan)
    return plan


def ended() -> None:
    DrillRecord.objects.update(state=State.SUCCESS, end_time=timezone.now())
    MaintenanceRun.objects.update(state=State.SUCCESS)


def test_plans_are_spread_over_the_week() -> None:
    plans = [BackupPlan(uuid=uuid.uuid4()) for _ in range(200)]
    days = {QuartzExpression.parse(weekly(plan)).text.split()[-1] for plan in plans}
    assert days == {str(day) for day in range(1, 8)}


def test_a_new_plan_is_drilled_within_a_week_and_weekly_from_then_on(plan) -> None:
    now = timezone.now()
    due = drill_of(plan).next_at
    assert now < due <= now + WEEK
    assert request_due_drills(due - timedelta(seconds=1)) == 0
    assert request_due_drills(due) == 1
    drill = DrillRecord.objects.get()
    assert (drill.extent, drill.scheduled_at, drill.plan_name) == ("sample", due, plan.backup_name)
    ended()
    assert request_due_drills(due + WEEK - timedelta(hours=2)) == 0
    # The server was away for a month: one drill, not four.
    assert request_due_drills(due + 5 * WEEK) == 1
    assert request_due_drills(due + 5 * WEEK) == 0


def test_a_drill_that_still_goes_on_is_not_doubled(plan) -> None:
    due = drill_of(plan).next_at
    assert request_due_drills(due) == 1
    assert request_due_drills(due + WEEK) == 0
    assert DrillRecord.objects.count() == 1


def test_a_plan_from_before_there_were_drills_gets_them(plan) -> None:
    PlanDrill.objects.all().delete()
    drill_task()
    assert PlanDrill.objects.get().cron_expression == weekly(plan)


def test_an_installation_may_have_no_drills_unless_asked_for(db, tmp_path, settings) -> None:
    settings.DRILLS = False
    drill = drill_of(make_plan(tmp_path))
    assert (drill.cron_expression, drill.next_at) == (None, None)


def test_a_schedule_is_of_the_plans_zone_and_may_be_none(plan) -> None:
    BackupPlan.objects.filter(pk=plan.pk).update(timezone="Asia/Shanghai")
    drill = change_drill(plan, cron_expression="0 0 4 ? * SUN", extent="whole")
    assert drill.next_at.hour == 20
    drill = change_drill(plan, cron_expression=None)
    assert drill.next_at is None
    assert request_due_drills(timezone.now() + 100 * WEEK) == 0


def test_settings_are_read_and_changed_over_the_api(plan, api) -> None:
    address = f"/api/backup/{plan.uuid}/drill"
    usual = api("viewer").get(address).json()
    assert usual == {
        "cron_expression": weekly(plan),
        "extent": "sample",
        "client": None,
        "command": "",
        "next_time": int(drill_of(plan).next_at.timestamp()),
    }
    changed = api("operator").put(address, {"extent": "whole"}, format="json")
    assert changed.json() == {**usual, "extent": "whole"}
    wrong = api("operator").put(address, {"cron_expression": "every week"}, format="json")
    assert (wrong.status_code, list(wrong.json()["fields"])) == (400, ["cron_expression"])
    assert api("operator").put(address, {"cron_expression": None}, format="json").json()["next_time"] is None


def test_only_administrators_set_what_the_server_runs(plan, api) -> None:
    address = f"/api/backup/{plan.uuid}/drill"
    assert api("operator").put(address, {"command": "true"}, format="json").status_code == 403
    assert api("administrator").put(address, {"command": "true"}, format="json").json()["command"] == "true"
    # Sent back as it is.
    assert api("operator").put(address, {"command": "true", "extent": "whole"}, format="json").status_code == 200
    assert api("operator").put(address, {"command": ""}, format="json").status_code == 403


@pytest.mark.parametrize(("role", "command"), [("operator", "old"), ("administrator", "new")])
def test_the_console_takes_a_command_of_administrators_alone(plan, account, role, command) -> None:
    change_drill(plan, command="old")
    browser = Browser()
    browser.force_login(account(role))
    address = reverse("admin:jobs_plandrill_change", args=[plan.drill.pk])
    assert browser.get(address).status_code == 200
    browser.post(address, {"cron_expression": "0 0 4 ? * SUN", "extent": "whole", "command": "new"})
    drill = drill_of(plan)
    assert (drill.command, drill.extent, drill.cron_expression) == (command, "whole", "0 0 4 ? * SUN")
    answer = browser.post(address, {"cron_expression": "nonsense", "extent": "whole", "command": "new"})
    assert answer.status_code == 200
    assert drill_of(plan).cron_expression == "0 0 4 ? * SUN"


def test_the_console_drills_now(plan, account) -> None:
    browser = Browser()
    browser.force_login(account("operator"))
    listing = reverse("admin:jobs_backupplan_changelist")
    browser.post(listing, {"action": "drill_now", "_selected_action": [plan.pk]})
    assert DrillRecord.objects.get().plan_uuid == plan.uuid
    assert json.loads(json.dumps(MaintenanceRun.objects.get().arguments))["plan"] == str(plan.uuid)
