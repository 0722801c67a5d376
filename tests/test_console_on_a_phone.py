"""The console in a real browser, as narrow as a phone: no page is wider than its window."""

import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client as Browser
from django.urls import reverse
from playwright.sync_api import sync_playwright

from records.maintenance import request_maintenance
from records.models import MaintenanceRun, State
from tests.factories import make_plan, make_record

WIDTH = 390

pytestmark = pytest.mark.browser


@pytest.mark.django_db(transaction=True)
def test_no_page_scrolls_sideways_on_a_phone(live_server, account, tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    unreadable = [{"path": "/" + "deep/" * 40 + "x" * 200, "reason": "Permission denied"}]
    record = make_record(plan, state=State.WARNINGS, unreadable=unreadable, error="e" * 300)
    run = request_maintenance(plan.repository, MaintenanceRun.Kind.FORGET, {"snapshots": ["0" * 64]})
    MaintenanceRun.objects.filter(pk=run.pk).update(result={"forgotten": ["0" * 64]})
    rows = [plan, record, run, plan.repository]
    pages = [reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk]) for row in rows]
    pages += [reverse("admin:jobs_backupplan_add"), reverse("admin:index")]
    session = Browser()
    session.force_login(account("operator"))
    name = settings.SESSION_COOKIE_NAME
    cookie = {"name": name, "value": session.cookies[name].value, "url": live_server.url}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = chromium.new_context(viewport={"width": WIDTH, "height": 844})
        context.add_cookies([cookie])
        page = context.new_page()
        widths = {}
        for address in pages:
            assert page.goto(live_server.url + address).ok
            widths[address] = page.evaluate("document.documentElement.scrollWidth")
        chromium.close()
    assert widths == dict.fromkeys(pages, WIDTH)
