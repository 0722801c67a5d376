"""Rows for tests, as small as they can be. Stores are directories below a test's own."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clients.logins import find_login, issue_login
from clients.models import Client
from jobs.models import BackupPlan
from jobs.planning import create_plan
from jobs.serializers import plan_detail
from records.models import BackupRecord, State
from storage.models import Endpoint, Tenant

_numbers = itertools.count(1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def make_client(**fields: Any) -> Client:
    number = next(_numbers)
    return Client.objects.create(**{"ipv4": 0x0A000000 + number, "hostname": f"host-{number}", **fields})


def agent_token(client: Client) -> str:
    """Return the token of the client's agent, which has used it already; those before it have ended."""
    token = issue_login(client).token
    find_login(token)
    return token


def make_endpoint(directory: Path) -> Endpoint:
    fields = {"https": False, "type": Endpoint.Type.DIRECTORY, "display_name": "directory"}
    return Endpoint.objects.get_or_create(address=str(directory), defaults=fields)[0]


def make_tenant(directory: Path, username: str = "backup") -> Tenant:
    return Tenant.objects.get_or_create(endpoint=make_endpoint(directory), username=username)[0]


def make_plan(directory: Path, client: Client | None = None, **fields: Any) -> BackupPlan:
    """Make a plan and its repository; `directory` is where the store is."""
    number = next(_numbers)
    common = {
        "backup_name": f"plan-{number}",
        "cron_expression": "0 0 3 * * ?",
        "start_time": START,
        "bucket": "bucket-1",
        "backup_data": json.dumps({"include": ["etc"], "exclude": ["etc/ssl"]}),
    }
    return create_plan(client=client or make_client(), tenant=make_tenant(directory), **{**common, **fields})


def make_record(plan: BackupPlan, **fields: Any) -> BackupRecord:
    """Make a record of the plan, ended well unless `fields` say otherwise."""
    common = {
        "client": plan.client,
        "plan_uuid": plan.uuid,
        "plan_name": plan.backup_name,
        "backup_detail": plan_detail(plan),
        "repository": plan.repository,
        "state": State.SUCCESS,
        "snapshot": "0" * 64,
        "start_time": START,
        "end_time": START,
    }
    return BackupRecord.objects.create(**{**common, **fields})
