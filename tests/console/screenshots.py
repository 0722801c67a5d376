"""Takes the screenshots of docs/screenshots/: `./runtests -n 0 tests/console/screenshots.py`.

No run of the tests takes them by itself, and all that is asserted is that each page answers: what a page looks like is for
people to judge. To have another page shown, add a line to PAGES.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from django.conf import settings
from django.test import Client as Browser
from django.urls import reverse
from PIL import Image
from playwright._impl._api_structures import SetCookieParam
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from jobs.models import BackupPlan
from records.models import BackupRecord, State
from tests.console.demo import make_demo

DIRECTORY = Path(os.environ.get("SCREENSHOTS", Path(__file__).resolve().parents[2] / "docs" / "screenshots"))
COLOURS = (128, 64, 32, 16)
LARGEST = 100_000
# In CSS pixels; a page that is longer than the second is cut off there.
HEIGHT, HIGHEST = 900, 1300


class View(NamedTuple):
    """How a page is looked at. `width`: of the window, in CSS pixels."""

    width: int = 1440
    language: str = "en"
    scheme: str = "light"

    @property
    def name(self) -> str:
        """What a file's name says of it; nothing of what is usual."""
        usual = View()
        told = [str(self.width)] if self.width != usual.width else []
        return "-".join(["", *told, *(mine for mine, other in zip(self[1:], usual[1:], strict=True) if mine != other)])


DESK, DARK, PHONE = View(), View(scheme="dark"), View(375)
CHINESE, CHINESE_PHONE = View(language="zh-hans"), View(375, "zh-hans", "dark")
VIEWS = {"desk": DESK, "dark": DARK, "phone": PHONE, "chinese": CHINESE, "chinese-phone": CHINESE_PHONE}


class Shown(NamedTuple):
    """A page: the name of its files, its route, what the route is given of the demo, and how it is looked at."""

    name: str
    route: str
    of: str = ""
    views: tuple[View, ...] = (DESK,)
    query: str = ""


PAGES = [
    Shown("front", "index", views=(DESK, DARK, CHINESE, PHONE, CHINESE_PHONE)),
    Shown("plans", "jobs_backupplan_changelist", views=(DESK, DARK, PHONE)),
    Shown("plan-new", "jobs_backupplan_wizard", views=(DESK, PHONE)),
    Shown("plan-new-form", "jobs_backupplan_add"),
    Shown("plan", "jobs_backupplan_change", "plan"),
    Shown("retention", "jobs_backupplan_retention", "plan", query="?keep=daily+7,+weekly+4"),
    Shown("backups", "records_backuprecord_changelist", views=(DESK, DARK)),
    Shown("backup", "records_backuprecord_change", "backup", (DESK, DARK, PHONE)),
    Shown("backup-running", "records_backuprecord_change", "running"),
    Shown("backup-failed", "records_backuprecord_change", "failed"),
    Shown("browse", "records_backuprecord_browse", "backup", (DESK, DARK), "?path=/srv/share"),
    Shown("find", "records_backuprecord_find", "backup", query="?name=*.csv"),
    Shown("differences", "records_backuprecord_differences", "backup"),
    Shown("restore", "jobs_backupplan_restore", "backup", (DESK, PHONE), "?path=/srv/share/finance"),
    Shown("restores", "records_recoveryrecord_changelist"),
    Shown("trash", "records_deletedbackup_changelist"),
    Shown("drills", "records_drillrecord_changelist"),
    Shown("clients", "clients_client_changelist", views=(DESK, DARK, PHONE)),
    Shown("client", "clients_client_change", "client"),
    Shown("join", "clients_jointoken_changelist"),
    Shown("repositories", "storage_repository_changelist"),
    Shown("repository", "storage_repository_change", "repository"),
    Shown("upkeep", "records_maintenancerun_changelist"),
    Shown("use", "storage_usagesample_changelist"),
    Shown("tenants", "storage_tenant_changelist"),
    Shown("tenant", "storage_tenant_change", "tenant"),
    Shown("endpoints", "storage_endpoint_changelist"),
    Shown("events", "records_event_changelist", views=(DESK, DARK)),
    Shown("deliveries", "records_delivery_changelist"),
    Shown("audit", "accounts_auditentry_changelist"),
    Shown("reports", "jobs_auditreport_changelist"),
    Shown("channels", "records_channel_changelist"),
    Shown("rules", "records_rule_changelist"),
    Shown("rule-new", "records_rule_add"),
    Shown("accounts", "accounts_user_changelist"),
    Shown("tokens", "accounts_token_changelist"),
    Shown("sessions", "accounts_session_changelist"),
]


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def numbers(account: Callable[[str], object]) -> Iterator[dict[str, int]]:
    """Fill the database and tell the numbers of what PAGES are about. To be asked for before Chromium."""
    # Its name is shown: a test's own directory has a long one.
    with TemporaryDirectory(prefix="nas-") as directory:
        yield _numbers(make_demo(Path(directory), account("administrator")))


def _numbers(backup: BackupRecord) -> dict[str, int]:
    plan = BackupPlan.objects.get(uuid=backup.plan_uuid)
    failed = BackupRecord.objects.filter(state=State.FAILED).latest("pk")
    return {
        "backup": backup.pk,
        "running": BackupRecord.objects.filter(state=State.RUNNING).latest("pk").pk,
        "failed": failed.pk,
        "plan": plan.pk,
        "client": plan.client_id,
        "repository": failed.repository_id,
        "tenant": failed.repository.tenant_id,
    }


@pytest.fixture
def cookie(live_server: LiveServer, account: Callable[[str], object]) -> SetCookieParam:
    session = Browser()
    session.force_login(account("administrator"))
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": session.cookies[name].value, "url": live_server.url}


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_take_the_screenshots(
    live_server: LiveServer, numbers: dict[str, int], cookie: SetCookieParam, chromium: Chromium, view: View
) -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    context = chromium.new_context(
        viewport={"width": view.width, "height": HEIGHT},
        locale={"zh-hans": "zh-CN"}.get(view.language, view.language),
        color_scheme=view.scheme,
        reduced_motion="reduce",
    )
    context.add_cookies([cookie])
    # Only `backupcenter.asgi` answers it, which a test's server is not.
    context.route("**/api/event*", lambda route: route.abort())
    tab = context.new_page()
    for page in PAGES:
        if view in page.views:
            address = reverse(f"admin:{page.route}", args=[numbers[page.of]] if page.of else [])
            tab.set_viewport_size({"width": view.width, "height": HEIGHT})
            answer = tab.goto(live_server.url + address + page.query, wait_until="networkidle")
            assert answer, page.name
            assert answer.ok, f"{page.name}: {answer.status}"
            tab.set_viewport_size({"width": view.width, "height": min(HIGHEST, _height(tab))})
            write_small(tab.screenshot(), DIRECTORY / f"{page.name}{view.name}.png")


def _height(tab: Page) -> int:
    """Return how high a window shows all of the page."""
    return int(tab.evaluate("document.documentElement.scrollHeight"))


def write_small(png: bytes, path: Path) -> None:
    """Write an image with as few colours as it takes to be small."""
    image = Image.open(BytesIO(png)).convert("RGB")
    for colours in COLOURS:
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LARGEST:
            return
    pytest.fail(f"{path} has {path.stat().st_size} bytes")
