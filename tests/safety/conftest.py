"""A row of each kind, and everybody who might ask for them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone
from knox.models import AuthToken

from accounts.models import AuditEntry, User
from clients.joining import join
from clients.leaving import revoke
from clients.logins import find_login
from clients.models import Client, JoinToken
from jobs.models import BackupPlan
from jobs.recovery import request_recovery
from records.events import emit
from records.maintenance import request_maintenance
from records.models import BackupRecord, DeletedBackup, DrillRecord, Event, MaintenanceRun, RecoveryRecord, State
from records.notifying.models import Channel, Delivery, Rule
from tests.factories import agent_token, make_plan, make_record

# Who asks. The last of them hold credentials that do not count any more.
PEOPLE = ["viewer", "operator", "administrator"]
AGENTS = ["agent", "other agent"]
REFUSED = ["nobody", "locked account", "expired token", "revoked agent", "forged token"]


@dataclass
class World:
    """A row of each kind. `stranger`: an account that is nobody's who asks. `authorization`: headers of who asks."""

    stranger: User
    plan: BackupPlan
    record: BackupRecord
    deleted: DeletedBackup
    recovery: RecoveryRecord
    event: Event
    run: MaintenanceRun
    drill: DrillRecord
    delivery: Delivery
    join_token: JoinToken
    entry: AuditEntry
    authorization: dict[str, str]

    def address(self, route: str, account: str) -> str:
        """Return the route with the rows' keys in it. `account`: whose, where it is about accounts."""
        endpoint = quote(self.plan.tenant.endpoint.address, safe="")
        keys = {
            "/api/account/<username>": account,
            "/api/audit/<pk>": str(self.entry.pk),
            "/api/endpoint/<address>": endpoint,
            "/api/tenant/<username>": f"{quote(self.plan.tenant.username)}?endpoint={endpoint}",
            "/api/client/<ipv4>": str(self.plan.client.ipv4),
            "/api/repository/<pk>": str(self.plan.repository.pk),
            "/api/backup/<uuid>": str(self.plan.uuid),
            "/api/record/backup/<pk>": str(self.record.pk),
            "/api/record/recovery/<pk>": str(self.recovery.pk),
            "/api/record/drill/<pk>": str(self.drill.pk),
            "/api/auditreport/<month>": "2026-01",
            "/api/notification/channel/<pk>": str(self.delivery.channel.pk),
            "/api/notification/rule/<pk>": str(self.delivery.rule.pk),
            "/api/notification/delivery/<pk>": str(self.delivery.pk),
            "/api/agent/job/<job>": self.record.job,
            # Nobody's.
            "/api/look/<look>": "0" * 32,
            "/api/agent/look/<look>": "0" * 32,
        }
        if "<" not in route:
            return route
        place = route[: route.index(">") + 1]
        assert place in keys, f"add what stands for {place} to `keys` in tests/safety/conftest.py"
        address, _mark, query = keys[place].partition("?")
        return route.replace(place, place[: place.index("<")] + address) + (f"?{query}" if query else "")


@pytest.fixture
def world(db: None, account: Callable[[str], User], tmp_path: Path) -> World:
    plan = make_plan(tmp_path)
    record = make_record(plan, state=State.QUEUED)
    make_record(plan, deleted_at=timezone.now())
    recovery = request_recovery(plan.client, make_record(plan), json.dumps({"destination": "/back"}))
    token = {name: AuthToken.objects.create(account(name))[1] for name in PEOPLE}
    locked = User.objects.create_user("locked", role=User.Role.ADMINISTRATOR, is_active=False)
    emit(Event.Level.INFO, Event.Topic.GENERAL, "hello")
    run = request_maintenance(plan.repository, MaintenanceRun.Kind.CHECK)
    MaintenanceRun.objects.update(state=State.SUCCESS)
    stranger = User.objects.create_user("stranger", role=User.Role.VIEWER)
    _client, revoked = _joined("revoked")
    revoke(Client.objects.get(hostname="revoked"))
    return World(
        stranger=stranger,
        plan=plan,
        record=record,
        deleted=DeletedBackup.objects.get(),
        recovery=recovery,
        event=Event.objects.latest("pk"),
        run=run,
        drill=DrillRecord.objects.create(plan_uuid=plan.uuid, plan_name=plan.backup_name, state=State.SUCCESS),
        delivery=_delivery(),
        join_token=JoinToken.issue(plan.client)[0],
        entry=AuditEntry.objects.create(actor="stranger", action="login", via="api", outcome="done"),
        authorization={
            **{name: f"Token {token[name]}" for name in PEOPLE},
            "agent": f"Agent {agent_token(plan.client)}",
            "other agent": f"Agent {_joined('other')[1]}",
            "nobody": "",
            "locked account": f"Token {AuthToken.objects.create(locked)[1]}",
            "expired token": f"Token {AuthToken.objects.create(stranger, expiry=timedelta(seconds=-1))[1]}",
            "revoked agent": f"Agent {revoked}",
            "forged token": f"Bearer {'0' * 64}",
        },
    )


def _delivery() -> Delivery:
    # A port at which nothing listens.
    channel = Channel.objects.create(name="staff", address="json://127.0.0.1:1")
    rule = Rule.objects.create(name="all", occasions=["failed"])
    return Delivery.objects.create(channel=channel, rule=rule, event=Event.objects.latest("pk"), due_at=timezone.now())


def _joined(hostname: str) -> tuple[Any, str]:
    _row, token = JoinToken.issue(Client.objects.create(hostname=hostname, ipv6=f"fd00::{len(hostname)}"))
    client, login = join(token, hostname=hostname)
    # Its first use changes it.
    find_login(login.token)
    return client, login.token
