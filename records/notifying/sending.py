"""Emptying the outboxes: what is due is claimed, told outside any transaction, and noted.

A delivery is told at least once: who dies between telling and noting tells it again. Of one channel all that is due together is
one message; a webhook gets each event for itself, with an id that stays the same.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from records.events import emit
from records.models import Event
from records.notifying.models import Channel, Delivery
from records.notifying.speaking import NotTold, post_webhook, tell_people
from records.notifying.texts import write, write_test

log = logging.getLogger(__name__)

CLAIM = timedelta(minutes=5)
AT_ONCE = 200
CHANNELS_AT_ONCE = 8
# About four hours, then people look for themselves.
ATTEMPTS = 10
PAUSE_S, LONGEST_PAUSE_S = 30.0, 3600.0

_sending = threading.Lock()


@dataclass(slots=True)
class Letter:
    """What is told at once: deliveries of one channel."""

    channel: Channel
    deliveries: list[Delivery]
    error: str = ""

    def send(self) -> None:
        """Tell it; what went wrong is in `error`. Touches no database, so that it may run in any thread."""
        try:
            if self.channel.kind == Channel.Kind.WEBHOOK:
                post_webhook(self.channel, str(self.deliveries[0].uid), payload(self.deliveries[0].event))
            else:
                tell_people(self.channel, write([delivery.event for delivery in self.deliveries], self.channel.language))
        except NotTold as failure:
            self.error = str(failure)
        except Exception as fault:
            log.exception("channel=%d could not be told", self.channel.pk)
            self.error = type(fault).__name__


def send_due(now: datetime | None = None) -> int:
    """Tell what is due; return how many deliveries were. One thread of a process at a time: others have other work."""
    if not _sending.acquire(blocking=False):
        return 0
    try:
        letters = _letters(_claim(now or timezone.now()))
        if letters:
            with ThreadPoolExecutor(CHANNELS_AT_ONCE, "telling") as pool:
                list(pool.map(Letter.send, letters))
        return sum(_note(letter, now or timezone.now()) for letter in letters)
    finally:
        _sending.release()


def send_test(channel: Channel) -> None:
    """Try the channel now. Raises NotTold."""
    if channel.kind == Channel.Kind.WEBHOOK:
        message = write_test(channel.language)
        moment = timezone.now()
        data = {"title": message.title, "message": message.body}
        post_webhook(channel, f"test-{moment.timestamp():.6f}", {"type": "test", "timestamp": moment.isoformat(), "data": data})
    else:
        tell_people(channel, write_test(channel.language))


def payload(event: Event) -> dict[str, Any]:
    """Return what a webhook is sent of an event."""
    kind, _dash, number = event.job.partition("-")
    data = {
        "id": event.pk,
        "level": Event.Level(event.level).name.lower(),
        "topic": Event.Topic(event.topic).name.lower(),
        "title": event.title,
        "message": event.message,
        "backup": str(event.plan_uuid) if event.plan_uuid else None,
        "client": event.client_id,
        "record": {"kind": kind, "id": int(number)} if number else None,
    }
    return {"type": event.occasion, "timestamp": event.time.isoformat(), "data": data}


def _claim(now: datetime) -> list[Delivery]:
    with transaction.atomic():
        free = Q(claimed_until=None) | Q(claimed_until__lt=now)
        rows = Delivery.objects.filter(free, state=Delivery.State.WAITING, due_at__lte=now, channel__is_enabled=True)
        oldest = rows.select_for_update(skip_locked=True, of=("self",)).order_by("due_at")[:AT_ONCE]
        keys = list(oldest.values_list("pk", flat=True))
        Delivery.objects.filter(pk__in=keys).update(claimed_until=now + CLAIM, attempts=F("attempts") + 1)
    return list(Delivery.objects.filter(pk__in=keys).select_related("channel", "event").order_by("channel_id", "event_id"))


def _letters(deliveries: Sequence[Delivery]) -> list[Letter]:
    letters = []
    for channel, group in groupby(deliveries, lambda delivery: delivery.channel):
        mine = list(group)
        each = [[delivery] for delivery in mine] if channel.kind == Channel.Kind.WEBHOOK else [mine]
        letters += [Letter(channel, part) for part in each]
    return letters


def _note(letter: Letter, now: datetime) -> int:
    """Note how telling a letter ended; return how many of its deliveries were told."""
    rows = Delivery.objects.filter(pk__in=[delivery.pk for delivery in letter.deliveries], state=Delivery.State.WAITING)
    if not letter.error:
        return rows.update(state=Delivery.State.TOLD, told_at=now, error="", claimed_until=None)
    log.warning("channel=%d not told: %s", letter.channel.pk, letter.error)
    with transaction.atomic():
        given_up = rows.filter(attempts__gte=ATTEMPTS).update(state=Delivery.State.GIVEN_UP, error=letter.error, claimed_until=None)
        attempts = max(delivery.attempts for delivery in letter.deliveries)
        rows.update(error=letter.error, claimed_until=None, due_at=now + pause(attempts))
        if given_up:
            with override(settings.LANGUAGE_CODE):
                title = _("Channel %(channel)s could not be told of what happened") % {"channel": letter.channel}
                emit(Event.Level.ERROR, Event.Topic.GENERAL, title, letter.error)
    return 0


def pause(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts."""
    return timedelta(seconds=min(PAUSE_S * 2 ** (attempts - 1), LONGEST_PAUSE_S))
