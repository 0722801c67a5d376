"""How much of the hosts is protected, and how much the repositories hold for it, noted each day for the front page's curve."""

from datetime import datetime, timedelta

from django.db.models import OuterRef, Subquery, Sum
from django.utils import timezone

from jobs.models import BackupPlan, FleetDay
from records.models import RESTORABLE_STATES, BackupRecord
from storage.models import Repository, UsageSample

KEPT = timedelta(days=400)
SHOWN_DAYS = 90


def note_fleet(now: datetime | None = None) -> FleetDay:
    """Note today's bytes: protected by the newest backup of every plan, stored in all repositories as last listed.

    Of the days before the first one it notes what the samples of the repositories add up to.
    """
    today = timezone.localdate(now)
    if not FleetDay.objects.exists():
        samples = UsageSample.objects.filter(day__lt=today, day__gte=today - KEPT).exclude(repository=None)
        days = samples.order_by().values_list("day").annotate(Sum("used"))
        FleetDay.objects.bulk_create([FleetDay(day=day, stored=stored) for day, stored in days], ignore_conflicts=True)
    good = BackupRecord.objects.filter(plan_uuid=OuterRef("uuid"), state__in=RESTORABLE_STATES, vanished_at=None)
    newest = BackupPlan.objects.annotate(size=Subquery(good.order_by("-pk").values("bytes_read")[:1])).order_by()
    figures = {
        "protected": newest.aggregate(sum=Sum("size"))["sum"],
        "stored": Repository.objects.aggregate(sum=Sum("used"))["sum"],
    }
    FleetDay.objects.filter(day__lt=today - KEPT).delete()
    return FleetDay.objects.update_or_create(day=today, defaults=figures)[0]


def fleet_days(now: datetime | None = None) -> list[FleetDay]:
    """Return the days that the curve is of, the oldest first."""
    first = timezone.localdate(now) - timedelta(days=SHOWN_DAYS)
    return list(FleetDay.objects.filter(day__gt=first).order_by("day"))
