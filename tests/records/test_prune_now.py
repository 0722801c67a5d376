"""A prune that somebody asks for, over the API and in the console: it does not ask whether it pays, and tells what it gave back."""

import os
from pathlib import Path

import pytest
from django.test import Client as Browser

from engine.commands.backup import backup
from engine.commands.forget import forget
from records.maintenance import run_maintenance
from records.models import MaintenanceRun
from storage.models import Repository
from storage.repositories import open_repository
from tests.factories import make_plan

SIZE = 20_000


@pytest.fixture
def repository(db, tmp_path: Path) -> Repository:
    """A repository in which nearly all that is stored belongs to no snapshot."""
    (tmp_path / "store").mkdir()
    (tmp_path / "source").write_bytes(os.urandom(SIZE))
    row = make_plan(tmp_path / "store").repository
    opened = open_repository(row)
    forget(opened, [backup(opened, [tmp_path / "source"], host="here").snapshot_id])
    return row


def test_the_api_prunes_on_demand_and_tells_what_that_gave_back(repository, api) -> None:
    address = f"/api/repository/{repository.pk}/prune"
    assert api("viewer").post(address).status_code == 403
    answer = api("operator").post(address)
    assert (answer.status_code, answer.json()["kind"]) == (201, "prune")
    assert api("operator").post(address).status_code == 409
    run_maintenance(answer.json()["id"], 1)
    (run,) = api("viewer").get(address).json()["Data"]
    assert run["result"]["is_pruned"] is True
    assert run["result"]["bytes_deleted"] > SIZE
    # Another one may follow.
    assert api("operator").post(address).status_code == 201
    assert api("operator").post("/api/repository/999999/prune").status_code == 404


def test_the_console_prunes_from_the_page_of_a_repository(repository, account) -> None:
    browser = Browser()
    browser.force_login(account("operator"))
    page = f"/admin/storage/repository/{repository.pk}/change/"
    assert b'value="prune_now"' in browser.get(page).content
    form = {"action": "prune_now", "_selected_action": [repository.pk]}
    told = browser.post("/admin/storage/repository/", form, follow=True).content.decode()
    (run,) = MaintenanceRun.objects.all()
    assert run.kind == MaintenanceRun.Kind.PRUNE
    assert f"Prune {run.pk} is queued" in told
    assert "queued or runs already" in browser.post("/admin/storage/repository/", form, follow=True).content.decode()
    assert MaintenanceRun.objects.count() == 1
    browser.force_login(account("viewer"))
    assert b'value="prune_now"' not in browser.get(page).content
