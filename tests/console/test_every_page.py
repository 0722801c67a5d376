"""Every page of the console in a real browser, in both languages, on a phone and a desk, light and dark.

No page is wider than its window, has an error in its console, or a serious fault that axe-core finds.
"""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib import admin
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from engine.backends import open_store
from engine.commands.backup import backup
from engine.repository import Repository
from jobs.models import BackupPlan
from jobs.protection import note_fleet
from jobs.recovery import request_recovery
from records.course import kept_course
from records.events import emit
from records.maintenance import request_maintenance
from records.models import BackupRecord, Event, MaintenanceRun, RecoveryRecord, State
from storage.models import UsageSample
from tests.factories import make_plan, make_record
from tests.jobs.test_dry_run import FOUND
from tests.records.test_course import TOLD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MOST_QUERIES = 15
SERIOUS = ("serious", "critical")
VIEWS = {
    "desk": {"viewport": {"width": 1440, "height": 900}, "locale": "en", "color_scheme": "light"},
    "phone": {"viewport": {"width": 375, "height": 812}, "locale": "zh-CN", "color_scheme": "dark"},
}
# Only `backupcenter.asgi` answers it, which a test's server is not.
NOT_SERVED_HERE = "/api/event"


@pytest.fixture
def record(tmp_path: Path) -> BackupRecord:
    source = tmp_path / "source"
    source.mkdir()
    (source / ("name-" * 30)).write_text("text " * 1000)
    plan = make_plan(tmp_path / "store")
    repository = Repository.open(open_store(plan.repository.location), plan.repository.password)
    first, second = (backup(repository, [str(source)], host="here").snapshot_id for _number in range(2))
    make_record(plan, snapshot=first)
    good = make_record(plan, snapshot=second, files_total=1, bytes_read=5000, bytes_added=500, bytes_stored=50)
    unreadable = [{"path": "/" + "deep/" * 40 + "x" * 200, "reason": "Permission denied"}]
    make_record(plan, state=State.WARNINGS, unreadable=unreadable, error="e" * 300)
    progress = {"bytes_done": 1, "bytes_total": 3, "files_done": 2, "rate": 10.0}
    make_record(plan, state=State.RUNNING, progress=progress, snapshot="", course=kept_course(TOLD))
    make_record(plan, state=State.QUEUED, snapshot="")
    make_record(plan, deleted_at=timezone.now(), legal_hold_at=timezone.now(), legal_hold_reason="case " * 40)
    UsageSample.objects.create(tenant=plan.tenant, repository=plan.repository, day=timezone.localdate(), used=1)
    note_fleet(timezone.now() - timedelta(days=1))
    note_fleet()
    make_record(make_plan(tmp_path / "store"), state=State.FAILED, error="The bucket is gone.", snapshot="")
    request_recovery(plan.client, good, '{"destination": "/back"}')
    looked = request_recovery(plan.client, good, '{"destination": "/back", "dry_run": true}')
    RecoveryRecord.objects.filter(pk=looked.pk).update(state=State.SUCCESS, preview=FOUND)
    run = request_maintenance(plan.repository, MaintenanceRun.Kind.FORGET, {"snapshots": ["0" * 64]})
    MaintenanceRun.objects.filter(pk=run.pk).update(result={"forgotten": ["0" * 64]})
    emit(Event.Level.ERROR, Event.Topic.BACKUP, "title " * 20, "message " * 50)
    return good


@pytest.fixture
def addresses(record: BackupRecord) -> list[str]:
    """Return the address of every list, form and row, and of the pages that belong to no model."""
    found = [reverse("admin:index")]
    for model, page in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"{name}_changelist"))
        rows = model._default_manager.all() if model is BackupRecord else model._default_manager.order_by("-pk")[:1]
        found += [reverse(f"{name}_change", args=[row.pk]) for row in rows]
        if type(page).has_add_permission is admin.ModelAdmin.has_add_permission:
            found.append(reverse(f"{name}_add"))
    for page in ("browse", "find", "differences"):
        found.append(reverse(f"admin:records_backuprecord_{page}", args=[record.pk]))
    found.append(reverse("admin:records_backuprecord_find", args=[record.pk]) + "?name=name-*")
    found.append(reverse("admin:jobs_backupplan_restore", args=[record.pk]))
    plan = BackupPlan.objects.get(uuid=record.plan_uuid)
    found.append(reverse("admin:jobs_backupplan_wizard"))
    found.append(reverse("admin:jobs_backupplan_wizard") + f"?like={plan.pk}")
    found.append(reverse("admin:jobs_backupplan_retention", args=[plan.pk]) + "?keep=last+1")
    return found


@pytest.fixture
def session(account) -> Browser:
    browser = Browser()
    browser.force_login(account("administrator"))
    return browser


@pytest.fixture
def page(live_server, addresses, session: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    name = settings.SESSION_COOKIE_NAME
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = chromium.new_context(**VIEWS[request.param])
        context.add_cookies([{"name": name, "value": session.cookies[name].value, "url": live_server.url}])
        yield context.new_page()
        chromium.close()


def is_fault(line: ConsoleMessage) -> bool:
    return line.type == "error" and NOT_SERVED_HERE not in line.location["url"]


@pytest.mark.parametrize("page", VIEWS, indirect=True)
def test_every_page_fits_has_no_error_and_can_be_used_by_everybody(live_server, addresses, page) -> None:
    faults: dict[str, list[Any]] = {}
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda line: said.append(line.text) if is_fault(line) else None)
    axe = Axe()
    for address in addresses:
        said.clear()
        answer = page.goto(live_server.url + address)
        found: list[Any] = [] if answer and answer.ok else [answer and answer.status]
        found += said
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            found.append("wider than its window")
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in SERIOUS:
                found.append((violation["id"], [node["target"] for node in violation["nodes"]][:3]))
        if found:
            faults[address] = found
    assert faults == {}, "\n".join(f"{address}: {found}" for address, found in faults.items())


def test_no_page_asks_the_database_much(addresses, session) -> None:
    counts = {}
    for address in addresses:
        with CaptureQueriesContext(connection) as asked:
            assert session.get(address).status_code == 200
        counts[address] = len(asked)
    assert {address: count for address, count in counts.items() if count > MOST_QUERIES} == {}
