"""How safe a plan's files are, judged by how its runs ended and whether one is overdue."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import models
from django.db.models import Count, ExpressionWrapper, Min, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from jobs.models import BackupPlan
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, State

# A tick comes each second: a fire that is due for longer is not being dealt with.
OVERDUE = timedelta(minutes=5)
# A run may wait for its turn, but not for ever.
WAITING = timedelta(hours=1)


class Health(models.TextChoices):
    """From the best to what needs somebody most."""

    FRESH = "fresh", pgettext_lazy("backup plan", "fresh")
    PAUSED = "paused", _("paused")
    LATE = "late", pgettext_lazy("backup plan", "late")
    NEVER = "never", _("never backed up")
    FAILING = "failing", _("failing")


UNWELL = (Health.FAILING, Health.NEVER, Health.LATE)


class PlanHealth(NamedTuple):
    """A plan's health. `plan`, `ended`, `good`: keys of the plan, of its last run that ended, of its newest backup."""

    plan: int
    health: Health
    ended: int | None
    good: int | None


@dataclass(frozen=True, slots=True)
class FleetHealth:
    """The health of all plans, the newest first, and how many runs wait."""

    plans: list[PlanHealth]
    queued: int

    @property
    def counts(self) -> Counter[Health]:
        return Counter(plan.health for plan in self.plans)

    @property
    def unwell(self) -> list[PlanHealth]:
        """The plans that need somebody, those that need it most first."""
        return sorted((plan for plan in self.plans if plan.health in UNWELL), key=lambda plan: UNWELL.index(plan.health))

    @property
    def is_safe(self) -> bool:
        """Whether there are plans, and all of those that run have a backup that is as new as it should be."""
        return bool(self.plans) and not any(plan.health in UNWELL for plan in self.plans)


def fleet_health(now: datetime | None = None) -> FleetHealth:
    """Judge all plans, in two queries for any number of them."""
    moment = now or timezone.now()
    queued = BackupRecord.objects.filter(state=State.QUEUED).order_by().values_list("plan_uuid")
    waiting = [(uuid, oldest, count) for uuid, oldest, count in queued.annotate(Min("queued_at"), Count("pk"))]
    is_waiting = Q(uuid__in=[uuid for uuid, oldest, _count in waiting if oldest < moment - WAITING])
    # Judged there: to read ten thousand times and names would take longer than all the rest.
    is_overdue = Q(next_fire_at__isnull=False, next_fire_at__lt=moment - OVERDUE)
    is_late = ExpressionWrapper(is_waiting | is_overdue, models.BooleanField())
    ended = BackupRecord.objects.filter(plan_uuid=OuterRef("uuid")).exclude(state__in=[*ACTIVE_STATES, State.CANCELLED])
    good = BackupRecord.objects.filter(plan_uuid=OuterRef("uuid"), state__in=RESTORABLE_STATES, vanished_at=None)
    plans = BackupPlan.objects.annotate(
        is_late=is_late,
        ended=Subquery(ended.order_by("-pk").values("pk")[:1]),
        good=Subquery(good.order_by("-pk").values("pk")[:1]),
    )
    fields = ("pk", "paused", "is_late", "ended", "good")
    judged = [
        PlanHealth(pk, _judge(is_paused, ended_pk, good_pk, is_late=late), ended_pk, good_pk)
        for pk, is_paused, late, ended_pk, good_pk in plans.order_by("-pk").values_list(*fields)
    ]
    return FleetHealth(judged, sum(count for _uuid, _oldest, count in waiting))


def _judge(is_paused: bool, ended: int | None, good: int | None, *, is_late: bool) -> Health:
    if is_paused:
        return Health.PAUSED
    if ended is not None and ended != good:
        return Health.FAILING
    if good is None:
        return Health.NEVER
    return Health.LATE if is_late else Health.FRESH
