"""Who is told of an event, and when."""

from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from records.models import Event
from records.notifying.models import Delivery, Rule

# Of a daily digest: when people begin their day.
DAILY_AT = time(8)


def plan_deliveries(event: Event, now: datetime | None = None) -> int:
    """Put a stored event into the outboxes of all channels that a rule tells it on; return of how many.

    To be called in the transaction that stores the event, so that neither is there without the other.
    """
    if not event.occasion:
        return 0
    moment = now or timezone.now()
    due: dict[int, tuple[datetime, Rule]] = {}
    for rule in Rule.objects.filter(is_enabled=True).prefetch_related("channels", "clients"):
        if not matches(rule, event):
            continue
        told_at = due_time(rule, moment)
        for channel in rule.channels.all():
            if channel.is_enabled and (channel.pk not in due or told_at < due[channel.pk][0]):
                due[channel.pk] = (told_at, rule)
    rows = [Delivery(channel_id=pk, rule=rule, event=event, due_at=told_at) for pk, (told_at, rule) in due.items()]
    Delivery.objects.bulk_create(rows)
    return len(rows)


def matches(rule: Rule, event: Event) -> bool:
    """Whether the rule is about the event. A rule that names plans or clients is about no event that is of neither."""
    if event.occasion not in rule.occasions:
        return False
    clients = {client.pk for client in rule.clients.all()}
    if not clients and not rule.plans:
        return True
    return event.client_id in clients or str(event.plan_uuid) in rule.plans


def due_time(rule: Rule, now: datetime) -> datetime:
    """Return when the rule tells what happens now: with its next digest, and not in its quiet hours."""
    local = now.astimezone(ZoneInfo(rule.timezone))
    if rule.digest == Rule.Digest.HOURLY:
        local = local.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    elif rule.digest == Rule.Digest.DAILY:
        local = _next(local, DAILY_AT)
    if rule.quiet_from is not None and rule.quiet_until is not None and _is_quiet(local.time(), rule.quiet_from, rule.quiet_until):
        local = _next(local, rule.quiet_until)
    return local.astimezone(now.tzinfo)


def clean_rule(rule: Rule) -> dict[str, Any]:
    """Return what is wrong with a rule, by field; its plans' UUIDs are written as the database has them."""
    errors: dict[str, Any] = {}
    named = set(map(str, rule.occasions)) if isinstance(rule.occasions, list) else set()
    if not named or not named <= set(Event.Occasion.values):
        errors["occasions"] = [_("Must name at least one occasion, and none that there is not.")]
    try:
        rule.plans = [str(UUID(str(text))) for text in rule.plans]
    except (TypeError, ValueError):
        errors["plans"] = [_("Must be a list of the UUIDs of plans.")]
    if rule.timezone not in available_timezones():
        errors["timezone"] = [_("There is no such time zone.")]
    if (rule.quiet_from is None) != (rule.quiet_until is None):
        errors["quiet_until"] = [_("Quiet hours have a beginning and an end.")]
    return errors


def _is_quiet(moment: time, begin: time, end: time) -> bool:
    return begin <= moment < end if begin <= end else moment >= begin or moment < end


def _next(local: datetime, moment: time) -> datetime:
    """Return the first time after `local` that its clock shows `moment`."""
    found = local.replace(hour=moment.hour, minute=moment.minute, second=moment.second, microsecond=0)
    return found if found > local else found + timedelta(days=1)
