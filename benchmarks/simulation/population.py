"""Fills a database with a fleet: `python -m benchmarks.simulation.population --agents 1000 --plans 10000 --records 1000000`.

Hosts have plans in proportion; most plans fire once at night, some every hour; nine runs of ten went well. Records are multiplied
inside the database. Agents' tokens are guessable (`token_of`): nothing here is secret.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import django
from psycopg import sql

if TYPE_CHECKING:
    from django.db.models import Model

OPERATOR = "operator"


def token_of(number: int) -> str:
    """Return the token of the agent of the client with this primary key."""
    return f"token-{number}"


def main() -> None:
    django.setup()
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("agents", "plans", "records"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    populate(arguments.agents, arguments.plans, arguments.records)


def populate(agents: int, plans: int, records: int) -> None:
    """Fill an empty, migrated database."""
    from django.db import connection, transaction

    with transaction.atomic():
        _make_clients(agents)
        _make_plans(plans)
        _make_records(plans, records)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _make_clients(count: int) -> None:
    from django.utils import timezone

    from accounts.models import User
    from clients.models import AgentLogin, Client, hash_token
    from storage.models import Endpoint, Repository, Tenant

    User.objects.create_superuser(OPERATOR, password="none of the benchmark's business")
    endpoint = Endpoint.objects.create(address="127.0.0.1:9", https=False, type=Endpoint.Type.S3, display_name="store")
    tenant = Tenant.objects.create(endpoint=endpoint, username="tenant", access_key="key", secret_key="secret")
    names = [f"{random.choice(('web', 'db', 'mail', 'file'))}-{number:05}" for number in range(1, count + 1)]
    Client.objects.bulk_create(
        [
            Client(pk=number, ipv4=0x0A000000 + number, hostname=name, os="Debian")
            for number, name in enumerate(names, 1)
        ]
    )
    logins = ((number, hash_token(token_of(number))) for number in range(1, count + 1))
    AgentLogin.objects.bulk_create(
        [AgentLogin(client_id=number, token_hash=token, used_at=timezone.now()) for number, token in logins], batch_size=1000
    )
    Repository.objects.bulk_create(
        [
            Repository(pk=number, tenant=tenant, bucket="bucket", prefix=name, password="secret", repository_id="0" * 64)
            for number, name in enumerate(names, 1)
        ]
    )
    _continue_numbers(Client, Repository)


def _make_plans(count: int) -> None:
    from django.utils import timezone
    from django_celery_beat.models import ClockedSchedule, PeriodicTask

    from clients.models import Client
    from jobs.beat import PLAN_TASK
    from jobs.models import BackupPlan
    from jobs.scheduling import set_next_fire
    from storage.models import Tenant

    tenant, clients, now = Tenant.objects.get(), Client.objects.count(), timezone.now()
    plans = []
    for number in range(1, count + 1):
        hour = "*" if number % 20 == 0 else random.randrange(6)
        host = (number - 1) % clients + 1
        plan = BackupPlan(
            pk=number,
            backup_name=f"{random.choice(('etc', 'home', 'srv', 'database', 'mail'))} of host {host}",
            client_id=host,
            tenant=tenant,
            repository_id=host,
            bucket="bucket",
            cron_expression=f"{random.randrange(60)} {random.randrange(60)} {hour} * * ?",
            start_time=datetime(2026, 1, 1, tzinfo=UTC),
            hold_type=BackupPlan.HoldType.DAYS,
            hold_time=90,
            backup_data=json.dumps({"include": ["/etc", "/home", f"/srv/{number}"], "exclude": ["*.tmp", ".cache"]}),
            periodic_task_id=number,
        )
        set_next_fire(plan, now + timedelta(hours=1))
        plans.append(plan)
    ClockedSchedule.objects.bulk_create(ClockedSchedule(pk=plan.pk, clocked_time=plan.next_fire_at) for plan in plans)
    PeriodicTask.objects.bulk_create(
        PeriodicTask(pk=plan.pk, name=str(plan.uuid), task=PLAN_TASK, clocked_id=plan.pk, one_off=True, queue="control")
        for plan in plans
    )
    BackupPlan.objects.bulk_create(plans, batch_size=1000)
    _continue_numbers(ClockedSchedule, PeriodicTask, BackupPlan)


def _make_records(plans: int, count: int) -> None:
    """Make `count` backup records, a twentieth as many recoveries, and two events for each record of the last month."""
    from django.db import connection

    from jobs.models import BackupPlan
    from jobs.serializers import plan_detail
    from records.models import BackupRecord, Event, RecoveryRecord

    every = BackupPlan.objects.select_related("client", "tenant__endpoint", "repository__tenant__endpoint")
    # The detail of one plan stands for all: what differs is put in by the database.
    detail = json.dumps(plan_detail(every.earliest("pk")))
    days = max(1, count // plans)
    models = (BackupRecord, RecoveryRecord, Event)
    with connection.cursor() as cursor, _without_indexes(cursor, *models), _with_defaults(*models):
        cursor.execute(_RECORDS, {"detail": detail, "days": days, "count": count})
        cursor.execute(_RECOVERIES, {"count": count // 20})
        cursor.execute(_EVENTS)
    _continue_numbers(BackupRecord, RecoveryRecord, Event)


_RECORDS = """
INSERT INTO records_backuprecord (id, client_id, state, attempt, handed_back, queued_at, published_at, start_time,
    end_time, claim_nonce, cancel_requested, error,
    unreadable, duration_s, plan_uuid, plan_name, backup_detail, repository_id, scheduled_at, is_late,
    hold_until, snapshot, files_total, files_new, files_changed, files_unmodified, bytes_read, bytes_added, bytes_stored)
SELECT number, client_id, state, 1, 0, fired, fired, fired + interval '1 second', fired + duration, md5(number::text),
    false, CASE WHEN state = 3 THEN 'The store does not answer.' ELSE '' END,
    CASE WHEN state = 5 THEN '[{"path": "/home/a", "reason": "Permission denied"}]'::jsonb ELSE '[]'::jsonb END,
    extract(epoch FROM duration), uuid, backup_name,
    %(detail)s::jsonb || jsonb_build_object('uuid', uuid, 'backup_name', backup_name, 'backup_data', backup_data),
    repository_id, fired, false, fired + interval '90 days', md5(number::text) || md5(uuid::text),
    chance * 1e5, chance * 1e3, chance * 1e3, chance * 1e5, chance * 1e10, chance * 1e8, chance * 5e7
FROM (
    SELECT *, (chance * 600 + 1) * interval '1 second' AS duration,
        CASE WHEN chance < 0.90 THEN 0 WHEN chance < 0.95 THEN 5 WHEN chance < 0.98 THEN 3
            WHEN chance < 0.99 THEN 4 ELSE 6 END AS state,
        now() - ((%(count)s - number) * (interval '1 day' * %(days)s / %(count)s)) - interval '1 hour' AS fired
    FROM (
        SELECT plan.*, random() AS chance, row_number() OVER (ORDER BY day, plan.id) AS number
        FROM generate_series(1, %(days)s) AS day CROSS JOIN jobs_backupplan AS plan
    ) AS numbered WHERE number <= %(count)s
) AS run ORDER BY number
"""
_RECOVERIES = """
INSERT INTO records_recoveryrecord (client_id, state, attempt, handed_back, queued_at, published_at, start_time,
    end_time, claim_nonce, cancel_requested, error,
    unreadable, duration_s, backup_record_id, backup_record_detail, recovery_data, files_restored,
    files_skipped, files_verified, bytes_restored)
SELECT client_id, state, 1, 0, end_time, end_time, end_time, end_time, '', false, '', '[]'::jsonb, duration_s, id,
    jsonb_build_object('id', id, 'backup_detail', backup_detail, 'snapshot', snapshot, 'state', state),
    '{"destination": "/back"}', files_total, 0, files_total, bytes_read
FROM records_backuprecord WHERE state = 0 ORDER BY id DESC LIMIT %(count)s
"""
_EVENTS = """
INSERT INTO records_event (time, level, topic, title, message, plan_uuid, job, is_sent)
SELECT queued_at, level, 1, 'Backup ' || plan_name || ' #' || id, '', plan_uuid, 'backup-' || id, true
FROM records_backuprecord CROSS JOIN (VALUES (0), (32)) AS said (level)
WHERE queued_at > now() - interval '30 days' ORDER BY queued_at
"""


@contextmanager
def _without_indexes(cursor: Any, *models: type[Model]) -> Iterator[None]:
    """Build the models' indexes at the end of the block: to keep them up with each of millions of rows takes many times longer."""
    tables = [model._meta.db_table for model in models]
    cursor.execute(_INDEXES, [tables])
    indexes = cursor.fetchall()
    for name, _definition in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    for _name, definition in indexes:
        cursor.execute(definition)


@contextmanager
def _with_defaults(*models: type[Model]) -> Iterator[None]:
    """Have the database itself fill in, for the length of the block, what the models would: columns that are not named below."""
    from django.db import connection

    fields = [(model, field) for model in models for field in model._meta.local_fields if _fills_in(field)]
    with connection.cursor() as cursor:
        # A table whose foreign keys are still to be looked at cannot be altered.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for model, field in fields:
            value = field.get_db_prep_save(field.get_default(), connection)
            table, column = model._meta.db_table, field.column
            default = sql.Literal(value).as_string(cursor.connection)
            cursor.execute(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" SET DEFAULT {default}')
        yield
        for model, field in fields:
            cursor.execute(f'ALTER TABLE "{model._meta.db_table}" ALTER COLUMN "{field.column}" DROP DEFAULT')


def _fills_in(field: Any) -> bool:
    """Whether a column must have a value and the model knows one."""
    return not field.null and not field.primary_key and not field.is_relation and field.get_default() is not None


_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes JOIN pg_class ON relname = indexname JOIN pg_index ON indexrelid = pg_class.oid
WHERE tablename = ANY(%s) AND NOT indisunique
"""


def _continue_numbers(*models: type) -> None:
    """Have the next row of each model get the number after those that were given here."""
    from django.core.management.color import no_style
    from django.db import connection

    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(models)):
            cursor.execute(statement)


if __name__ == "__main__":
    main()
