"""The staff console: every page of every model opens, in both languages, and the actions act."""

import html
import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from backupcenter.navigation import NAVIGATION
from clients.models import AgentLogin, PendingCutOff
from engine.locks import WAITING
from jobs import planning
from jobs.models import BackupPlan, FleetDay, KeptPlans, MadeKit, Rounds, SigningKey
from jobs.planning import pause_plan
from jobs.recovery import request_recovery
from records.events import emit
from records.maintenance import request_maintenance
from records.models import BackupRecord, DeletedRuns, Event, MaintenanceRun, RecoveryRecord, State
from storage.models import Repository, Verification
from storage.repositories import open_repository
from tests.conftest import PASSWORD
from tests.factories import START, make_client, make_plan, make_record, make_tenant

DESTINATION = '{"destination": "/back"}'
# Names: of the product, of formats, and of the rows that the tests make.
NAMES = {"Backup", "Center", "Ceph", "JSON", "MinIO", "Quartz"}
# Of a plan's data.
NAMES |= {"docs", "exclude", "hooks", "include", "presets", "sources", "streams"}
# Keep rules are named as restic names them.
NAMES |= {"last", "hourly", "daily", "weekly", "monthly", "yearly", "within", "within_hourly", "monthly unlimited", "restic"}
NAMES |= {"administrator", "backup", "directory", "host", "plan", "viewer", "Viewer"}
ROOMS = ("accounts", "storage", "clients", "records", "jobs")


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    plan = make_plan(tmp_path)
    make_record(plan)
    emit(Event.Level.INFO, Event.Topic.GENERAL, "hello")
    request_maintenance(plan.repository, MaintenanceRun.Kind.CHECK)
    return plan


def browser_of(account, role: str) -> Browser:
    browser = Browser()
    browser.force_login(account(role))
    return browser


class Reader(HTMLParser):
    """Reads what a person reads of a page: no scripts, no styles, no names of icons."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._skips = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes) -> None:
        self._skips = tag in ("script", "style") or "material-symbols" in (dict(attributes).get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        self._skips = False

    def handle_data(self, text: str) -> None:
        if not self._skips:
            self.texts.append(text)


def test_the_console_is_chinese_throughout_for_who_wants_it(plan, account) -> None:
    browser = browser_of(account, "administrator")
    chinese = {"Accept-Language": "zh-hans"}
    pages = [
        Browser().get(reverse("admin:login"), headers=chinese),
        browser.get(reverse("admin:index"), headers=chinese),
        browser.get(reverse("admin:jobs_backupplan_changelist") + "?q=nothing", headers=chinese),
        browser.get(reverse("admin:jobs_backupplan_add"), headers=chinese),
        browser.get(reverse("admin:accounts_user_add"), headers=chinese),
        browser.get(reverse("admin:accounts_user_change", args=[account("viewer").pk]), headers=chinese),
        browser.get("/nowhere", headers=chinese),
    ]
    texts = [text for page in pages for text in Reader(page.content.decode()).texts]
    # Of a password's hash and salt the first digits are shown, which may happen to be letters.
    texts = [re.sub(r"\w+\*+", "", text) for text in texts]
    english = {phrase for text in texts for phrase in re.findall(r"[A-Za-z]{4,}(?: [a-z]+)*", text)}
    assert english <= NAMES


@pytest.mark.parametrize(("role", "path", "status", "sentence"), [
    ("viewer", "/nowhere", 404, "此地址没有任何内容。"),
    ("viewer", "/admin/accounts/user/", 403, "您无权执行此操作。"),
])  # fmt: skip
def test_a_failure_is_a_page_in_the_readers_language(account, role, path, status, sentence) -> None:
    answer = browser_of(account, role).get(path, headers={"Accept-Language": "zh-hans"})
    assert answer.status_code == status
    assert sentence in answer.content.decode()


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("page", ["records_backuprecord", "records_event", "records_maintenancerun", "jobs_backupplan"])
def test_states_and_levels_have_their_colour_in_every_language(plan, account, page, language) -> None:
    request_maintenance(plan.repository, MaintenanceRun.Kind.CHECK)
    MaintenanceRun.objects.update(state=State.FAILED)
    BackupRecord.objects.update(state=State.RUNNING)
    answer = browser_of(account, "viewer").get(reverse(f"admin:{page}_changelist"), headers={"Accept-Language": language})
    assert {"records_maintenancerun": "text-red-700"}.get(page, "text-blue-700") in answer.content.decode()


def test_every_state_is_shown_by_its_name(plan, account) -> None:
    for state in State:
        make_record(plan, state=state)
    page = browser_of(account, "viewer").get(reverse("admin:records_backuprecord_changelist")).content.decode()
    cells = {re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r'<td[^>]*field-shown_state.*?</td>', page, re.DOTALL)}
    assert cells == {str(state.label) for state in State}


def test_every_page_is_in_the_menu() -> None:
    linked = {str(item["link"]) for group in NAVIGATION for item in group["items"]}
    pages = {reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in admin.site._registry}
    assert linked - {reverse("admin:index")} == pages, "backupcenter/navigation.py is to name just these"


def test_every_model_has_a_page() -> None:
    models = {model for room in ROOMS for model in apps.get_app_config(room).get_models()}
    # Rounds are a lock, with nothing to look at; a verification is on its repository's page, a login on its client's.
    # The days of the fleet are the front page's curve.
    # Of deleted runs a number is kept, of recovery kits that they were made, of plans' definitions where they are; the key that
    # signs them and reports is for nobody to see.
    without = {Rounds, Verification, AgentLogin, PendingCutOff, DeletedRuns, SigningKey, MadeKit, KeptPlans, FleetDay}
    assert models - without <= set(admin.site._registry)


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_every_page_opens(plan, account, language) -> None:
    browser = browser_of(account, "administrator")
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        for address in [reverse(f"admin:{name}_changelist"), *pages_of(model, name)]:
            answer = browser.get(address, headers={"Accept-Language": language})
            assert answer.status_code in (200, 403), address


def pages_of(model, name: str) -> list[str]:
    rows = model._default_manager.all()[:1]
    return [reverse(f"admin:{name}_add"), *(reverse(f"admin:{name}_change", args=[row.pk]) for row in rows)]


def act(browser: Browser, action: str, plan: BackupPlan) -> str:
    address = reverse("admin:jobs_backupplan_changelist")
    answer = browser.post(address, {"action": action, "_selected_action": [plan.pk]}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_plans_are_run_paused_resumed_and_verified(plan, account) -> None:
    browser = browser_of(account, "operator")
    act(browser, "run_now", plan)
    assert BackupRecord.objects.filter(plan_uuid=plan.uuid, state=State.QUEUED).count() == 1
    assert "waits for its client" in act(browser, "run_now", plan)
    act(browser, "pause", plan)
    plan.refresh_from_db()
    assert plan.paused
    act(browser, "resume", plan)
    plan.refresh_from_db()
    assert not plan.paused
    act(browser, "verify", plan)
    assert MaintenanceRun.objects.filter(kind=MaintenanceRun.Kind.CHECK_DATA).count() == 1


def trace(row) -> list[str]:
    """What a row's history in the console says, oldest first."""
    entries = LogEntry.objects.filter(object_id=row.pk, content_type=ContentType.objects.get_for_model(row))
    return [entry.get_change_message() for entry in entries.order_by("pk")]


def test_what_was_done_with_a_plan_is_in_its_history_in_the_servers_language(plan, account) -> None:
    browser = browser_of(account, "operator")
    for action in ("run_now", "run_now", "pause", "resume", "verify"):
        form = {"action": action, "_selected_action": [plan.pk]}
        browser.post(reverse("admin:jobs_backupplan_changelist"), form, headers={"Accept-Language": "zh-hans"})
    assert trace(plan) == [f"{plan} is queued.", f"{plan} is paused.", f"{plan} goes on."]
    assert len(trace(plan.repository)) == 1


def test_who_cancelled_a_record_revoked_an_agent_and_ended_tokens_is_in_the_history(plan, account) -> None:
    browser = browser_of(account, "administrator")
    record, user = make_record(plan, state=State.QUEUED), account("viewer")
    for row, action in ((record, "cancel"), (plan.client, "issue_join_token"), (plan.client, "revoke_agent"), (user, "end_tokens")):
        address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_changelist")
        browser.post(address, {"action": action, "_selected_action": [row.pk]})
    assert trace(record) == [f"{record} is cancelled."]
    assert trace(plan.client) == [f"A join token for {plan.client} was issued.", f"{plan.client} has to join again."]
    assert trace(user) == ["viewer has to log in again."]
    assert set(LogEntry.objects.values_list("user__username", flat=True)) == {"administrator"}


def test_a_queued_record_is_cancelled(plan, account) -> None:
    record = make_record(plan, state=State.QUEUED)
    address = reverse("admin:records_backuprecord_changelist")
    browser_of(account, "operator").post(address, {"action": "cancel", "_selected_action": [record.pk]})
    record.refresh_from_db()
    assert record.state == State.CANCELLED


@pytest.mark.parametrize("kind", ["backup", "recovery"])
def test_an_active_record_is_not_deleted_and_the_reason_shows(plan, account, kind) -> None:
    done = make_record(plan)
    active = make_record(plan, state=State.RUNNING) if kind == "backup" else request_recovery(plan.client, done, DESTINATION)
    model = type(active)
    pages = f"admin:records_{model._meta.model_name}"
    browser = browser_of(account, "administrator")
    one = browser.post(reverse(f"{pages}_delete", args=[active.pk]), {"post": "yes"}, follow=True)
    many = {"action": "delete_selected", "_selected_action": [active.pk, done.pk], "post": "yes"}
    for answer in (one, browser.post(reverse(f"{pages}_changelist"), many, follow=True)):
        assert answer.status_code == 200
        assert "still queued or running" in answer.content.decode()
        assert "Successfully deleted" not in answer.content.decode()
    assert model.objects.filter(pk=active.pk).exists()
    assert BackupRecord.objects.filter(pk=done.pk).exists()
    model.objects.update(state=State.SUCCESS)
    browser.post(reverse(f"{pages}_delete", args=[active.pk]), {"post": "yes"})
    assert not model.objects.filter(pk=active.pk).exists()


def test_of_a_running_record_it_is_said_that_it_will_be_cancelled(plan, account) -> None:
    record = make_record(plan, state=State.RUNNING)
    address = reverse("admin:records_backuprecord_changelist")
    form = {"action": "cancel", "_selected_action": [record.pk]}
    page = browser_of(account, "operator").post(address, form, follow=True).content.decode()
    record.refresh_from_db()
    assert record.state == State.RUNNING
    assert record.cancel_requested
    assert "will be cancelled" in page
    assert f"{record} is cancelled" not in page


def test_a_viewer_looks_and_does_not_act(plan, account) -> None:
    browser = browser_of(account, "viewer")
    assert browser.get(reverse("admin:jobs_backupplan_changelist")).status_code == 200
    act(browser, "pause", plan)
    plan.refresh_from_db()
    assert not plan.paused


def test_a_plans_page_tells_its_state_next_fire_and_repository_and_leads_to_its_runs(plan, account) -> None:
    other = make_record(make_plan(Path(plan.tenant.endpoint.address)))
    browser = browser_of(account, "operator")
    page = open_row(browser, plan)
    assert "idle" in told(page)
    for shown in (f"{plan.next_fire_at:%Y-%m-%d %H:%M:%S} UTC", plan.repository.location, str(plan.uuid)):
        assert shown in page
    runs = reverse("admin:records_backuprecord_changelist") + f"?plan_uuid={plan.uuid}"
    assert runs in page
    listing = browser.get(runs).content.decode()
    assert plan.backup_name in listing
    assert other.plan_name not in listing


def test_a_new_plan_may_fire_from_now_on_unless_another_time_is_typed(account) -> None:
    page = browser_of(account, "operator").get(reverse("admin:jobs_backupplan_add"))
    typed = page.context["adminform"].form["start_time"].value()
    assert abs(timezone.now() - typed) < timedelta(minutes=5)


def test_of_a_plan_that_can_never_fire_it_is_said(plan, account) -> None:
    browser = browser_of(account, "operator")
    fields = page_values(browser, plan)
    address = reverse("admin:jobs_backupplan_change", args=[plan.pk])
    assert "no time left" not in browser.post(address, fields, follow=True).content.decode()
    over = {**fields, "start_time_0": "2020-01-01", "cron_expression": "0 0 3 * * ? 2020"}
    assert f"{plan} has no time left to fire at" in browser.post(address, over, follow=True).content.decode()
    page = browser.post(address, {**fields, "cron_expression": "0 0 3 30 2 ?"}).content.decode()
    assert "It never fires after the start." in page


def page_values(browser: Browser, plan: BackupPlan) -> dict:
    form = browser.get(reverse("admin:jobs_backupplan_change", args=[plan.pk])).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    start = values.pop("start_time")
    times = {"start_time_0": f"{start:%Y-%m-%d}", "start_time_1": f"{start:%H:%M:%S}"}
    return {name: value for name, value in values.items() if value is not None} | times


def test_a_plan_is_made_and_refused_by_the_rules_of_the_api(plan, account) -> None:
    browser = browser_of(account, "operator")
    form = {
        "backup_name": "by hand", "backup_group": 0, "client": plan.client_id, "tenant": plan.tenant_id, "bucket": "bucket-2",
        "cron_expression": "0 0 25 * * ?", "timezone": "UTC", "start_time_0": "2026-01-01", "start_time_1": "00:00:00",
        "hold_type": 0, "hold_time": 0, "backup_data": '{"include": ["/etc"]}', "misfire": "run-once",
    }  # fmt: skip
    refused = browser.post(reverse("admin:jobs_backupplan_add"), form)
    assert "25 is not between 0 and 23" in refused.content.decode()
    made = browser.post(reverse("admin:jobs_backupplan_add"), {**form, "cron_expression": "0 0 5 * * ?"})
    assert made.status_code == 302, made.content.decode()[:2000]
    created = BackupPlan.objects.get(backup_name="by hand")
    assert created.next_fire_at is not None
    assert created.repository.bucket == "bucket-2"
    changed = browser.post(reverse("admin:jobs_backupplan_change", args=[created.pk]), {**form, "cron_expression": "0 0 6 * * ?"})
    assert changed.status_code == 302
    created.refresh_from_db()
    assert created.cron_expression == "0 0 6 * * ?"


@pytest.mark.django_db(transaction=True)
def test_a_repository_outlives_a_plan_that_fails_after_it_was_made(tmp_path, account, monkeypatch) -> None:
    form = {
        "backup_name": "by hand", "backup_group": 0, "client": make_client().pk, "tenant": make_tenant(tmp_path).pk,
        "bucket": "bucket-2", "cron_expression": "0 0 5 * * ?", "timezone": "UTC", "start_time_0": "2026-01-01",
        "start_time_1": "00:00:00", "hold_type": 0, "hold_time": 0, "backup_data": '{"include": ["/etc"]}', "misfire": "run-once",
    }  # fmt: skip
    browser = browser_of(account, "operator")
    browser.raise_request_exception = False
    with monkeypatch.context() as failing:
        failing.setattr(planning, "show_plan", lambda plan: {}["missing"])
        assert browser.post(reverse("admin:jobs_backupplan_add"), form).status_code == 500
    assert not BackupPlan.objects.exists()
    row = Repository.objects.get()
    assert open_repository(row).config.id == row.repository_id
    assert browser.post(reverse("admin:jobs_backupplan_add"), form).status_code == 302
    assert BackupPlan.objects.get().repository == row


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_times_are_written_with_their_zone_and_to_the_second(plan, account, language) -> None:
    browser = browser_of(account, "viewer")
    BackupRecord.objects.update(queued_at=START)
    runs = browser.get(reverse("admin:records_backuprecord_changelist"), headers={"Accept-Language": language})
    assert "2026-01-01 00:00:00 UTC" in runs.content.decode()
    BackupPlan.objects.update(next_fire_at=START, timezone="Europe/Moscow")
    plans = browser.get(reverse("admin:jobs_backupplan_changelist"), headers={"Accept-Language": language})
    assert "2026-01-01 03:00:00 MSK" in plans.content.decode()


def open_row(browser: Browser, row) -> str:
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return html.unescape(browser.get(address).content.decode())


def told(page: str) -> list[str]:
    """What a row's page says in the fields that cannot be changed."""
    return [text.strip() for text in re.findall(r'<div class="readonly[^>]*>(.*?)</div>', page, re.DOTALL)]


def test_a_record_is_shown_in_words_with_links_sizes_and_its_unreadable_files(plan, account) -> None:
    unreadable = [{"path": "/etc/shadow", "reason": "Permission denied"}]
    record = make_record(plan, unreadable=unreadable, duration_s=0.29109782599994105, bytes_read=2048, bytes_added=None)
    browser = browser_of(account, "viewer")
    page = open_row(browser, record)
    for shown in ("0.3 s", "2.0\xa0KB", "/etc/shadow: Permission denied", "− etc/ssl", f"{record.queued_at:%Y-%m-%d %H:%M:%S} UTC"):
        assert shown in page
    assert "backup_data" not in page
    assert "success" in told(page)
    plans = reverse("admin:jobs_backupplan_changelist") + f"?uuid={plan.uuid}"
    assert plans in page
    assert plan.backup_name in browser.get(plans).content.decode()
    listing = browser.get(reverse("admin:records_backuprecord_changelist")).content.decode()
    assert "1 file could not be read or written" in listing
    assert "field-queued_at" in listing


def test_a_running_records_progress_is_shown_in_words(plan, account) -> None:
    progress = {"phase": "reading", "files_done": 3, "files_total": 7, "bytes_done": 1024, "bytes_total": 4096, "current": "/etc/x"}
    page = open_row(browser_of(account, "viewer"), make_record(plan, state=State.RUNNING, progress=progress))
    assert "3 of 7 files" in page
    assert "1.0\xa0KB of 4.0\xa0KB" in page


def test_a_running_record_that_waits_for_its_repository_says_so(plan, account) -> None:
    page = open_row(browser_of(account, "viewer"), make_record(plan, state=State.RUNNING, progress={"phase": WAITING}))
    assert "waits for the repository, from which something is being deleted" in page
    assert "of ? files" not in page


def test_a_recovery_is_shown_with_its_destination(plan, account) -> None:
    recovery = RecoveryRecord.objects.create(
        client=plan.client,
        backup_record=make_record(plan),
        backup_record_detail={},
        recovery_data='{"destination": "/back", "include": ["etc"], "verify": false}',
        bytes_restored=1024,
    )
    page = open_row(browser_of(account, "viewer"), recovery)
    for shown in ("→ /back", ">etc<", "verify: False", "1.0\xa0KB"):
        assert shown in page


def test_an_event_is_shown_with_its_time_and_leads_to_its_plan_and_its_record(plan, account) -> None:
    record = make_record(plan)
    emit(Event.Level.ERROR, Event.Topic.BACKUP, "failed", record=record)
    event = Event.objects.get(title="failed")
    page = open_row(browser_of(account, "viewer"), event)
    assert f"{event.time:%Y-%m-%d %H:%M:%S} UTC" in page
    assert "error" in told(page)
    assert f"?uuid={plan.uuid}" in page
    assert reverse("admin:records_backuprecord_change", args=[record.pk]) in page


def test_what_a_check_found_is_shown_line_by_line(plan, account) -> None:
    run = request_maintenance(plan.repository, MaintenanceRun.Kind.CHECK)
    MaintenanceRun.objects.filter(pk=run.pk).update(result={"problems": ["pack 1 is damaged"], "packs": 7, "bytes_read": 1024})
    page = open_row(browser_of(account, "viewer"), run)
    assert "queued" in told(page)
    for shown in ("problems: pack 1 is damaged", "packs: 7", "bytes_read: 1.0\xa0KB"):
        assert shown in page


def test_who_deletes_a_record_is_back_at_the_list(plan, account) -> None:
    record = BackupRecord.objects.get()
    address = reverse("admin:records_backuprecord_delete", args=[record.pk])
    answer = browser_of(account, "operator").post(address, {"post": "yes"})
    assert answer["Location"] == reverse("admin:records_backuprecord_changelist")
    assert not BackupRecord.objects.exists()


def found(browser: Browser, page: str, query: str) -> set[int]:
    listing = browser.get(reverse(f"admin:{page}_changelist") + query)
    return {row.pk for row in listing.context["cl"].result_list}


def test_history_is_found_by_client_plan_and_repository(plan, account) -> None:
    browser, record = browser_of(account, "viewer"), BackupRecord.objects.get()
    make_record(make_plan(Path(plan.tenant.endpoint.address), bucket="other"))
    recovery = RecoveryRecord.objects.create(client=plan.client, backup_record=record, backup_record_detail={}, recovery_data="{}")
    for query in (plan.client.hostname, plan.uuid, plan.backup_name):
        assert found(browser, "records_backuprecord", f"?q={query}") == {record.pk}
    assert found(browser, "records_recoveryrecord", f"?q={plan.client.hostname}") == {recovery.pk}
    assert found(browser, "records_recoveryrecord", "?q=nothing") == set()
    assert found(browser, "records_maintenancerun", f"?q={plan.repository.prefix}") == {MaintenanceRun.objects.get().pk}
    assert found(browser, "records_maintenancerun", "?q=other") == set()


def test_plans_are_filtered_by_the_state_that_they_show(plan, account) -> None:
    directory = Path(plan.tenant.endpoint.address)
    plans = {BackupPlan.State.IDLE: plan, **{state: make_plan(directory) for state in list(BackupPlan.State)[1:]}}
    for state in (State.QUEUED, State.RUNNING):
        make_record(plans[BackupPlan.State(state)], state=state)
    pause_plan(plans[BackupPlan.State.PAUSED])
    BackupPlan.objects.filter(pk=plans[BackupPlan.State.ENDED].pk).update(next_fire_at=None)
    browser = browser_of(account, "viewer")
    for state, expected in plans.items():
        assert BackupPlan.objects.get(pk=expected.pk).state == state
        assert found(browser, "jobs_backupplan", f"?state={state}") == {expected.pk}


def test_periodic_tasks_are_for_looking_and_lead_to_their_plans(plan, account) -> None:
    browser = browser_of(account, "administrator")
    task = plan.periodic_task
    for address in ("changelist", "change"):
        arguments = [task.pk] if address == "change" else []
        page = browser.get(reverse(f"admin:django_celery_beat_periodictask_{address}", args=arguments)).content.decode()
        assert reverse("admin:jobs_backupplan_change", args=[plan.pk]) in page
        assert plan.cron_expression in page
    listing = reverse("admin:django_celery_beat_periodictask_changelist")
    browser.post(listing, {"action": "disable_tasks", "_selected_action": [task.pk]})
    for page in ("change", "delete"):
        address = reverse(f"admin:django_celery_beat_periodictask_{page}", args=[task.pk])
        assert browser.post(address, {"name": "other"}).status_code == 403
    task.refresh_from_db()
    assert task.enabled


def test_the_secrets_of_a_store_are_on_no_page(plan, account) -> None:
    browser = browser_of(account, "administrator")
    address = reverse("admin:storage_repository_change", args=[plan.repository_id])
    assert plan.repository.password not in browser.get(address).content.decode()


def test_the_front_door_leads_to_the_console(db) -> None:
    assert Browser().get("/")["Location"] == "/admin/"


def test_who_logs_in_without_a_destination_arrives_at_the_front_page(account) -> None:
    account("viewer")
    answer = Browser().post("/admin/login/", {"username": "viewer", "password": PASSWORD})
    assert answer["Location"] == "/admin/"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/admin", "/admin/"),
        ("/admin?a=%2F", "/admin/?a=%2F"),
        ("/admin/jobs/backupplan", "/admin/jobs/backupplan/"),
        ("/admin/jobs/backupplan/1%3F/change?_popup=1", "/admin/jobs/backupplan/1%3F/change/?_popup=1"),
    ],
)
def test_the_slash_at_the_end_of_a_console_address_may_be_left_out(typed, meant) -> None:
    assert Browser().get(typed)["Location"] == meant


def test_what_cannot_be_brought_back_goes_only_once_its_name_is_typed(account, plan) -> None:
    browser = browser_of(account, "operator")
    pages = "admin:jobs_backupplan"
    address, listing = reverse(f"{pages}_delete", args=[plan.pk]), reverse(f"{pages}_changelist")
    page = browser.get(address).content.decode()
    assert "Its backups stay" in page
    assert plan.backup_name in page
    for typed in ({}, {"typed": "another"}):
        answer = browser.post(address, {"post": "yes", **typed}, follow=True).content.decode()
        assert "Nothing was deleted" in answer
    many = {"action": "delete_selected", "_selected_action": [plan.pk]}
    assert "Its backups stay" in browser.post(listing, many).content.decode()
    assert "Nothing was deleted" in browser.post(listing, {**many, "post": "yes", "typed": "2"}, follow=True).content.decode()
    assert type(plan).objects.filter(pk=plan.pk).exists()
    browser.post(address, {"post": "yes", "typed": f" {plan.backup_name} "})
    assert not type(plan).objects.exists()


def test_several_go_once_their_number_is_typed(account, plan) -> None:
    browser = browser_of(account, "operator")
    many = {"action": "delete_selected", "_selected_action": [plan.pk], "post": "yes", "typed": "1"}
    browser.post(reverse("admin:jobs_backupplan_changelist"), many)
    assert not type(plan).objects.exists()
