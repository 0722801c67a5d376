"""Plans that have had no new backup for too long, for whatever reason: told once, and once more when there is a new one.

What failed, or was missed, is told as it happens. This looks at what counts, from the other side: when the schedule has come round
once more, and the backup that was due before is still not there, something is wrong that nobody has mended.
"""

import logging
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import override

from jobs.health import UNWELL, WAITING, Health, fleet_health
from jobs.models import BackupPlan
from jobs.scheduling import next_fire
from records.events import emit
from records.models import BackupRecord, Event

log = logging.getLogger(__name__)


def watch_staleness(now: datetime | None = None) -> int:
    """Tell of the plans that have become stale since the last look, and of those that are not any more; return of how many."""
    moment = now or timezone.now()
    health = {plan.plan: plan for plan in fleet_health(moment).plans}
    unwell = [key for key, plan in health.items() if plan.health in UNWELL]
    goods = {plan.good for plan in health.values() if plan.health in UNWELL and plan.good is not None}
    ends = dict(BackupRecord.objects.filter(pk__in=goods).values_list("pk", "end_time"))
    told = 0
    for plan in BackupPlan.objects.select_related("client").filter(pk__in=unwell, stale_since=None):
        good = health[plan.pk].good
        newest = None if good is None else ends.get(good)
        if (since := stale_since(plan, newest)) is not None and since <= moment:
            told += _tell_stale(plan, since, newest)
    for plan in BackupPlan.objects.select_related("client").filter(stale_since__isnull=False):
        if plan.pk in health and health[plan.pk].health == Health.FRESH:
            told += _tell_fresh(plan)
    return told


def stale_since(plan: BackupPlan, newest: datetime | None) -> datetime | None:
    """Return when a plan whose newest backup ended at `newest` is stale, unless there is another; None: never.

    That is the second time at which it fires after that backup, and at least an hour after the first. None, too, if the plan fires
    only once more: then being late is told by the console alone.
    """
    first = next_fire(plan, newest or max(plan.created_at, plan.start_time))
    second = next_fire(plan, first) if first is not None else None
    return max(second, first + WAITING) if first is not None and second is not None else None


def _tell_stale(plan: BackupPlan, since: datetime, newest: datetime | None) -> int:
    with transaction.atomic(), override(settings.LANGUAGE_CODE):
        if not BackupPlan.objects.filter(pk=plan.pk, stale_since=None, paused=False).update(stale_since=since):
            return 0
        title = _("%(plan)s of %(client)s has had no new backup for too long") % {"plan": plan, "client": plan.client}
        if newest is None:
            message = _("There is none at all yet. Its page says what became of its runs.")
        else:
            shown = date_format(timezone.localtime(newest), "DATETIME_FORMAT")
            message = _("The newest one is of %(time)s. The plan's page says what became of the runs since.") % {"time": shown}
        emit(Event.Level.ERROR, Event.Topic.BACKUP, title, message, plan_uuid=plan.uuid, client=plan.client,
             occasion=Event.Occasion.STALE)  # fmt: skip
    return 1


def _tell_fresh(plan: BackupPlan) -> int:
    since = plan.stale_since
    with transaction.atomic(), override(settings.LANGUAGE_CODE):
        if not BackupPlan.objects.filter(pk=plan.pk, stale_since=since).update(stale_since=None):
            return 0
        recovered = Event.objects.filter(plan_uuid=plan.uuid, occasion=Event.Occasion.RECOVERED, time__gte=since)
        # A run that succeeds after one that failed has told it already.
        if not recovered.exists():
            title = _("%(plan)s of %(client)s has a new backup again") % {"plan": plan, "client": plan.client}
            emit(Event.Level.SUCCESS, Event.Topic.BACKUP, title, plan_uuid=plan.uuid, client=plan.client,
                 occasion=Event.Occasion.RECOVERED)  # fmt: skip
    return 1
