"""Every list of the console takes as many queries for many rows as for few."""

from pathlib import Path
from typing import Any

from django.contrib import admin
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from accounts.models import AuditEntry, User
from clients.models import JoinToken
from records.models import DrillRecord, Event, MaintenanceRun, RecoveryRecord, State
from storage.models import Endpoint, Tenant
from tests.factories import make_plan, make_record


def make_rows(directory: Path, count: int) -> None:
    """Make rows of every kind, each with others of its own beside it."""
    for _ in range(count):
        plan = make_plan(directory)
        record = make_record(plan, error="no space")
        make_record(plan, state=State.QUEUED)
        make_record(plan, deleted_at=timezone.now())
        RecoveryRecord.objects.create(
            client=plan.client, backup_record=record, backup_record_detail={}, recovery_data="{}", state=State.QUEUED
        )
        Event.objects.create(level=0, topic=1, title="started", job=record.job, plan_uuid=plan.uuid)
        MaintenanceRun.objects.create(repository=plan.repository, kind=MaintenanceRun.Kind.CHECK)
        DrillRecord.objects.create(plan_uuid=plan.uuid, plan_name=plan.backup_name, backup_record=record, end_time=timezone.now())
        JoinToken.issue(plan.client)
        name = f"{directory.name}-{plan.pk}"
        AuthToken.objects.create(User.objects.create(username=name))
        AuditEntry(actor=name, action="backup.create", status=201).save()
        endpoint = Endpoint.objects.create(address=f"/{name}", https=False, type=Endpoint.Type.DIRECTORY, display_name=name)
        Tenant.objects.create(endpoint=endpoint, username=name)


def test_a_list_of_the_console_takes_as_many_queries_for_eight_rows_as_for_two(client, account, tmp_path) -> None:
    client.force_login(account("administrator"))
    lists = {model: reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in admin.site._registry}
    make_rows(tmp_path, 2)
    # The account's own session is one; and there is another browser.
    Browser().force_login(account("viewer"))
    few = {model: queries_of(client, address) for model, address in lists.items()}
    make_rows(tmp_path, 6)
    for model, address in lists.items():
        many = queries_of(client, address)
        assert len(many) == len(few[model]), "\n".join([model._meta.label, *many])


def queries_of(client: Any, address: str) -> list[str]:
    # What is read once by a process, such as content types, is not counted.
    client.get(address)
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(address)
    assert answer.status_code == 200, address
    return [query["sql"][:200] for query in queries.captured_queries]
