"""The console's front page: are we safe, what runs, what needs a person."""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Any

from django.db.models import Count, Q, Subquery
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from clients.models import Client
from clients.presence import heard_since
from jobs.console.attention import needs, worst_plans
from jobs.console.first_steps import first_steps
from jobs.health import FleetHealth, Health, fleet_health
from jobs.models import BackupPlan
from jobs.protection import fleet_days
from records.models import BackupRecord, DrillRecord, RecoveryRecord, State
from records.statistics import Day, recent_days
from storage.growth import used_percent
from storage.models import Tenant

CALENDAR_DAYS = 30
SHOWN = 5
RUNNING_SHOWN = 10


def add_figures(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the front page's context with what it shows; as many queries for a fleet of any size."""
    health = fleet_health()
    tenants = list(Tenant.objects.select_related("endpoint"))
    days = recent_days(CALENDAR_DAYS)
    clients = Client.objects.aggregate(
        all=Count("pk"), joined=Count("last_seen"), online=Count("pk", filter=Q(last_seen__gte=heard_since()))
    )
    last_restore, restoring = _recoveries()
    steps = [] if last_restore else first_steps(health, has_tenant=bool(tenants), has_agent=bool(clients["joined"]))
    counts = health.counts
    worst = worst_plans(health)
    due = BackupPlan.objects.filter(paused=False, next_fire_at__isnull=False).order_by("next_fire_at", "pk").values("pk")[:SHOWN]
    shown = BackupPlan.objects.select_related("client").filter(Q(pk__in=[judged.plan for judged in worst]) | Q(pk__in=due))
    plans = {plan.pk: plan for plan in shown}
    return {
        **context,
        "health": health,
        "health_counts": [(kind, kind.label, counts[kind]) for kind in Health],
        "verdict": _verdict(health),
        "needs": needs(worst, plans, tenants),
        "may_act": request.user.has_perm("jobs.change_backupplan"),
        "steps": steps,
        "running": [*_running_backups(), *restoring],
        "days": days,
        "ratios": _ratios(days),
        "ratio_days": [(day.date, _ratios([day])) for day in days],
        "fleet_days": fleet_days(),
        "clients": clients,
        "tenants": [{"tenant": tenant, "percent": used_percent(tenant)} for tenant in tenants[:SHOWN]],
        "firing": _next_to_fire(plans.values()),
        "last_restore": last_restore,
        "last_proof": DrillRecord.objects.filter(state=State.SUCCESS).order_by("-pk").first(),
    }


def _next_to_fire(plans: Iterable[BackupPlan]) -> list[BackupPlan]:
    due = [(plan.next_fire_at, plan.pk, plan) for plan in plans if not plan.paused and plan.next_fire_at is not None]
    return [plan for _time, _pk, plan in nsmallest(SHOWN, due)]


def _verdict(health: FleetHealth) -> str:
    count, unwell = len(health.plans), len(health.unwell)
    if not count:
        return _("Nothing is backed up yet.")
    if not unwell:
        return ngettext("The %(count)d plan is safe.", "All %(count)d plans are safe.", count) % {"count": count}
    text = ngettext(
        "%(unwell)d of %(count)d plans needs somebody.", "%(unwell)d of %(count)d plans need somebody.", unwell
    )  # fmt: skip
    return text % {"unwell": unwell, "count": count}


def _running_backups() -> list[BackupRecord]:
    return list(BackupRecord.objects.filter(state=State.RUNNING).select_related("client").order_by("-pk")[:RUNNING_SHOWN])


def _recoveries() -> tuple[RecoveryRecord | None, list[RecoveryRecord]]:
    """Return the newest recovery that succeeded, and the newest that run, in one query."""
    good = RecoveryRecord.objects.filter(state=State.SUCCESS, is_dry_run=False, is_drill=False).order_by("-pk").values("pk")[:1]
    # As one number: among several PostgreSQL would look with every recovery.
    rows = RecoveryRecord.objects.filter(Q(state=State.RUNNING) | Q(pk=Subquery(good))).select_related("client")
    found = list(rows.order_by("state", "-pk")[: 1 + RUNNING_SHOWN])
    last = next((record for record in found if record.state == State.SUCCESS), None)
    return last, [record for record in found if record.state == State.RUNNING]


def _ratios(days: list[Day]) -> dict[str, Any]:
    read, added, stored = (sum(getattr(day, name) for day in days) for name in ("read", "added", "stored"))
    return {
        "read": read,
        "stored": stored,
        "deduplication": max(1.0, read / added) if added else None,
        "compression": added / stored if stored else None,
    }
