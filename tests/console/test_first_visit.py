"""From an empty installation to a restored file and its proof, in a real browser beside a real agent, with live updates."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

from tests.system.processes import Installation, installation

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"
SLOW_MS = 30_000


@pytest.fixture(scope="module")
def center() -> Iterator[Installation]:
    with installation() as center:
        center.redis()
        center.migrate()
        center.run_python(
            f"from accounts.models import User; User.objects.create_superuser('administrator', password={PASSWORD!r})"
        )
        center.web()
        center.control()
        center.maintenance()
        center.beat()
        yield center


@pytest.fixture
def page(center: Installation) -> Iterator[Page]:
    problems: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page()
        page.set_default_timeout(SLOW_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.goto(f"{center.url}/admin/login/")
        page.fill("input[name=username]", "administrator")
        page.fill("input[name=password]", PASSWORD)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(f"{center.url}/admin/")
        yield page
        chromium.close()
    assert problems == []


def save(page: Page) -> None:
    page.click("[name=_save]")
    expect(page.locator("#content, main, body").first).to_contain_text("successfully")


def choose(page: Page, name: str, text: str) -> None:
    """Choose an entry of a list that asks the server for what it offers."""
    page.click(f"select[name={name}] + .select2 .select2-selection")
    page.locator(f".select2-results__option:has-text('{text}')").first.click()


def look_for_faults(page: Page) -> None:
    """Raise AssertionError if there is something serious that axe-core finds."""
    found = Axe().run(page).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []


def make_plan(page: Page, source: Path) -> None:
    """Go through the wizard: choose from the host's real files, by the agent that runs there."""
    page.fill("[name=backup_name]", "nightly")
    page.select_option("[name=client]", index=1)
    page.click("text=Show the client's files")
    for part in source.relative_to("/").parent.parts:
        page.locator(f"#tree .files button.link >> text=/^{re.escape(part)}\\/$/").click()
        expect(page.locator("#tree .crumbs [aria-current]")).to_have_text(part)
    page.get_by_role("button", name=f"Back up {source.name}", exact=True).click()
    expect(page.locator("[name=include]")).to_have_value(str(source))
    page.locator(f"#tree .files button.link >> text=/^{source.name}\\/$/").click()
    page.get_by_role("button", name="Leave out [draft].txt", exact=True).click()
    expect(page.locator("[name=exclude]")).to_have_value(f"{source}/\\[draft].txt")
    page.click("text=How much is that?")
    expect(page.locator("#estimate")).to_contain_text("1 file, 10")
    page.select_option("[name=tenant]", index=1)
    page.fill("[name=bucket]", "backups")
    expect(page.locator("#fires time")).to_have_count(10)
    page.select_option("[name=repeat]", "weekly")
    expect(page.locator("#fires code")).to_have_text("0 0 3 ? * SUN")
    expect(page.locator("[name=day]")).to_be_hidden()
    page.select_option("[name=repeat]", "quartz")
    expect(page.locator("[name=cron_expression]")).to_have_value("0 0 3 ? * SUN")
    page.fill("[name=cron_expression]", "0 0 3 * * ?")
    page.fill("[name=keep]", "last 3")
    expect(page.locator("#staying")).to_contain_text("of their backups 3 would be there now")
    look_for_faults(page)
    page.click("text=Look it over")
    expect(page.locator(".estimate")).to_contain_text("the first backup stores up to")
    look_for_faults(page)
    page.click("text=Make the plan")
    expect(page.locator("body")).to_contain_text("nightly is made.")
    expect(page.locator("#plan")).to_contain_text("idle")
    look_for_faults(page)


def test_the_first_visit_leads_to_a_restored_file_and_its_proof(center: Installation, page: Page, tmp_path: Path) -> None:
    store, source, back = tmp_path / "store", tmp_path / "source", tmp_path / "back"
    store.mkdir()
    source.mkdir()
    (source / "report.txt").write_text("the report")
    (source / "[draft].txt").write_text("not this")

    page.click("text=Add an endpoint")
    page.select_option("[name=type]", label="directory")
    page.fill("[name=address]", str(store))
    page.fill("[name=display_name]", "store")
    save(page)

    page.goto(f"{center.url}/admin/")
    page.click("text=Add a tenant")
    choose(page, "endpoint", "store")
    save(page)

    page.goto(f"{center.url}/admin/")
    page.click("text=Issue a join token")
    page.click("[name=_save]")
    told = page.locator("text=/agent join/").first.text_content() or ""
    token = re.search(r"--token[ =]'?([\w.-]+)", told).group(1)

    page.goto(f"{center.url}/admin/")
    expect(page.locator(".figures")).to_contain_text("0/0")
    page.evaluate("window.isSamePage = true")
    center.join(token)
    center.agent()
    # Nobody has reloaded the page.
    expect(page.locator(".figures")).to_contain_text("1/1", timeout=SLOW_MS)
    assert page.evaluate("window.isSamePage")

    page.goto(f"{center.url}/admin/")
    page.click("text=Add a plan")
    make_plan(page, source)

    page.goto(f"{center.url}/admin/")
    expect(page.locator(".needs")).to_contain_text("nightly has no backup yet")
    page.click(".needs li:has-text('nightly has no backup yet') button")
    page.wait_for_load_state()
    page.evaluate("window.isSamePage = true")
    expect(page.locator(".verdict h2")).to_have_text("The 1 plan is safe.")
    assert page.evaluate("window.isSamePage")

    # Three clicks from the front page to last night's version of a file.
    page.click("text=Open the backup")
    page.goto(f"{page.url}?path={source}")
    page.click("text=report.txt")
    expect(page.locator("#preview pre")).to_have_text("the report")
    page.click("text=Restore this file")
    page.fill("[name=directory]", str(back))
    page.click("text=Show what would change")
    expect(page.locator("#run .verdict h2")).to_contain_text("success")
    page.click("#preview-created summary")
    expect(page.locator("#preview-created")).to_contain_text(f"{source}/report.txt")
    assert not back.exists()
    page.click("text=Restore it now")
    page.wait_for_load_state()
    page.evaluate("window.isSamePage = true")
    expect(page.locator("#run .verdict h2")).to_contain_text("success")
    assert page.evaluate("window.isSamePage")
    assert (back / source.relative_to("/") / "report.txt").read_text() == "the report"

    page.goto(f"{center.url}/admin/")
    expect(page.locator(".figures")).to_contain_text("last restore: 0")
    expect(page.locator("#steps-title")).to_have_count(0)

    # And the proof, by a drill.
    page.click("text=Backup plans")
    page.locator("#result_list a[href$='/change/']").first.click()
    page.click("text=Drill now")
    page.goto(f"{center.url}/admin/")
    page.evaluate("window.isSamePage = true")
    expect(page.locator(".figures")).not_to_contain_text("not proven yet", timeout=2 * SLOW_MS)
    expect(page.locator(".figures")).to_contain_text("last proven restorable")
    assert page.evaluate("window.isSamePage")


# A run that its agent is at work on; what the agent says is said by the test.
RUNNING = """
from pathlib import Path
from django.utils import timezone
from records.models import State
from tests.factories import agent_token, make_plan, make_record
plan = make_plan(Path({store!r}))
record = make_record(plan, state=State.RUNNING, snapshot="", start_time=timezone.now(), end_time=None, lease_until=timezone.now())
print(record.pk, agent_token(plan.client))
"""


def test_the_page_of_a_run_follows_what_its_agent_says(center: Installation, page: Page, tmp_path: Path) -> None:
    store = tmp_path / "other-store"
    store.mkdir()
    number, token = center.run_python(RUNNING.format(store=str(store))).split()

    def say(second: int, text: str) -> None:
        samples = [[at, at * 1_000_000, at * 1000, at] for at in range(second + 1)]
        course = {"phases": [["backup", 0]], "samples": samples, "log": [[second, "warning", text]]}
        progress = {"phase": "backup", "bytes_done": 10, "bytes_total": 100, "files_done": second, "rate": 5.0}
        body = {"attempt": 1, "progress": progress, "course": course}
        address, headers = f"{center.url}/api/agent/job/backup-{number}/progress", {"Authorization": f"Agent {token}"}
        answer = requests.post(address, json=body, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text

    page.goto(f"{center.url}/admin/records/backuprecord/{number}/change/")
    page.evaluate("window.isSamePage = true")
    with page.expect_response(lambda answer: "/change/" in answer.url):
        say(3, "/etc/shadow: Permission denied")
    expect(page.locator("#log")).to_contain_text("/etc/shadow: Permission denied")
    page.click("#curve-table summary")
    expect(page.locator("#curve-table tbody tr")).to_have_count(4)
    say(5, "/etc/gshadow: Permission denied")
    expect(page.locator("#log")).to_contain_text("/etc/gshadow: Permission denied")
    # What was opened stays open, and the curve is drawn from the table.
    expect(page.locator("#curve-table tbody tr")).to_have_count(6)
    expect(page.locator("#curve-table")).to_have_attribute("open", "")
    assert page.evaluate("Chart.getChart(document.querySelector('figure canvas')).data.datasets[0].data.length") >= 6
    assert page.evaluate("window.isSamePage")
