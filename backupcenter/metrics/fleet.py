"""Metrics of plans, jobs, clients and stores, read from the database: as many queries for ten thousand plans as for one."""

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count, Min, OuterRef, Subquery
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clients.models import Client
from clients.presence import heard_since
from jobs.health import Health, fleet_health
from jobs.models import BackupPlan
from jobs.ownbackup.keeping import newest_backup
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, MaintenanceRun, RecoveryRecord, State
from records.notifying.models import Delivery
from storage.models import Tenant, Verification

KEEP_S = 15.0
PLAN = ["plan", "name", "client"]


class Fleet(Collector):
    """Collects at most every 15 s, in one thread: scrapers that come together get the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._metrics: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._metrics = [*_plans(), *_jobs(), *_clients(), *_stores(), *_deliveries(), *_own_backup()]
                self._until = time.monotonic() + KEEP_S
            return self._metrics

    def describe(self) -> Iterable[Metric]:
        return []


def _plans() -> Iterator[Metric]:
    now = timezone.now()
    good = BackupRecord.objects.filter(plan_uuid=OuterRef("uuid"), state__in=RESTORABLE_STATES).order_by("-pk")
    names = ("start_time", "duration_s", "bytes_read", "bytes_stored", "files_total")
    newest: dict[str, Any] = {f"good_{name}": Subquery(good.values(name)[:1]) for name in names}
    rows: Any = BackupPlan.objects.with_proof().select_related("client").annotate(**newest)
    plans = [(row, [str(row.uuid), row.backup_name, row.client.hostname]) for row in rows]
    yield _gauge(
        "backupcenter_plan_last_success_age_seconds",
        "Since when the files of the plan's newest backup may have changed: seconds since it began.",
        PLAN,
        [(labels, _age(row.good_start_time, now)) for row, labels in plans],
    )
    for name, about in (("duration_s", "duration_seconds"), *((name, name) for name in names[2:])):
        said = "Of the plan's newest backup."
        yield _gauge(
            f"backupcenter_plan_last_success_{about}", said, PLAN, [(labels, getattr(row, f"good_{name}")) for row, labels in plans]
        )
    yield _gauge(
        "backupcenter_plan_proof_age_seconds",
        "Seconds since the plan's last restore drill that succeeded began.",
        PLAN,
        [(labels, _age(row.proven_start_time, now)) for row, labels in plans],
    )
    yield _gauge(
        "backupcenter_plan_proof_duration_seconds",
        "The recovery time that drill measured.",
        PLAN,
        [(labels, row.proven_duration_s) for row, labels in plans],
    )
    fleet = fleet_health(now)
    yield _gauge("backupcenter_plans", "Plans by health.", ["health"], [([health], fleet.counts[health]) for health in Health])


def _jobs() -> Iterator[Metric]:
    now = timezone.now()
    depth, oldest = [], []
    for model in (BackupRecord, RecoveryRecord, MaintenanceRun):
        kind = getattr(model, "KIND", "maintenance")
        active = model._default_manager.filter(state__in=ACTIVE_STATES).order_by()
        found = {
            state: (count, since) for state, count, since in active.values_list("state").annotate(Count("pk"), Min("queued_at"))
        }
        for state in ACTIVE_STATES:
            depth.append(([kind, State(state).name.lower()], found.get(state, (0, None))[0]))
        waits = found.get(State.QUEUED, (0, None))[1]
        oldest.append(([kind], 0.0 if waits is None else _age(waits, now)))
    yield _gauge("backupcenter_jobs", "Jobs that wait or run.", ["kind", "state"], depth)
    yield _gauge("backupcenter_oldest_queued_job_age_seconds", "How long the oldest queued job has waited.", ["kind"], oldest)


def _clients() -> Iterator[Metric]:
    yield _gauge("backupcenter_clients", "Clients.", [], [([], Client.objects.count())])
    online = Client.objects.filter(last_seen__gte=heard_since()).count()
    yield _gauge("backupcenter_agents_online", "Clients whose agent was heard of just now.", [], [([], online)])


def _stores() -> Iterator[Metric]:
    tenants = [([str(row.endpoint.address), row.username], row) for row in Tenant.objects.select_related("endpoint")]
    labels = ["endpoint", "tenant"]
    quotas = [(names, row.quota) for names, row in tenants]
    yield _gauge("backupcenter_tenant_quota_bytes", "The tenant's quota, if it has one.", labels, quotas)
    yield _gauge("backupcenter_tenant_used_bytes", "What the tenant uses.", labels, [(names, row.used) for names, row in tenants])
    states = [row.state for row in Verification.objects.all()]
    by_state = [([str(state)], states.count(state)) for state in Verification.State.values]
    yield _gauge("backupcenter_repositories", "Repositories by what their checks have found.", ["state"], by_state)


def _deliveries() -> Iterator[Metric]:
    found = dict(Delivery.objects.order_by().values_list("state").annotate(Count("pk")))
    rows = [([state], found.get(state, 0)) for state in Delivery.State.values]
    yield _gauge("backupcenter_notifications", "Notifications that are kept, by state.", ["state"], rows)


def _own_backup() -> Iterator[Metric]:
    newest = newest_backup()
    age = _age(newest.start_time, timezone.now()) if newest else None
    about = "Seconds since the newest backup of the server's own database began."
    yield _gauge("backupcenter_own_backup_age_seconds", about, [], [([], age)])


def _age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()


def _gauge(name: str, about: str, labels: list[str], rows: Iterable[tuple[list[str], float | None]]) -> Metric:
    """Return a gauge; rows without a value are left out."""
    metric = GaugeMetricFamily(name, about, labels=labels)
    for values, number in rows:
        if number is not None:
            metric.add_metric(values, number)
    return metric
