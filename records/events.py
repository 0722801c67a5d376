"""Telling people what happened: every event is stored, then sent to whoever listens at `/api/event`.

Storage, channel and wire format are django-eventstream's, so that any of its clients can listen; only its
`send_event` is not used, because it raises while Redis is away, and no job may fail for that. Redis merely says that
there is news: listeners read the news itself from the database (`records.broadcast`), so an outage delays events and
loses none.
"""

import json
import logging
import threading
import time
from collections import deque
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from backupcenter.api.text import storable
from backupcenter.background import Background
from clients.models import Client
from records.event_log import append_events
from records.models import BackupRecord, Event, JobRecord
from records.notifying.rules import plan_deliveries

log = logging.getLogger(__name__)

CHANNEL = "events"
# The name is django-eventstream's, and so is the shape of the messages in it.
REDIS_CHANNEL = "events_channel"

# Characters of a message that listeners are sent; what each of them costs the web process depends on it.
SENT_LENGTH = 1_000
PROGRESS_INTERVAL_S = 1.0
# An event that is older than this and not sent never will be by the process that stored it.
UNSENT_AFTER = timedelta(seconds=10)
SENT_AT_ONCE = 500
# So long a sender in the background gathers events.
GROUP_S = 0.05
# After a failure Redis is left alone for this long: a job's reports must not each wait for a timeout.
REDIS_REST_S = 5.0
REDIS_TIMEOUT_S = 1.0


def emit(
    level: int,
    topic: int,
    title: object,
    message: object = "",
    *,
    plan_uuid: UUID | None = None,
    record: JobRecord | None = None,
    occasion: str = "",
    client: Client | None = None,
) -> None:
    """Store an event and, once the transaction is committed, send it to the listeners. Never raises.

    `level`, `topic`, `occasion`: `Event.Level`, `Event.Topic`, `Event.Occasion`; the last one, with the plan and the client, is
    what rules of notifying go by. `title`, `message`: sentences for people, without secrets. The client is the record's unless
    it is named.
    """
    if plan_uuid is None and isinstance(record, BackupRecord):
        plan_uuid = record.plan_uuid
    event = Event(
        level=level,
        topic=topic,
        title=storable(title)[:255],
        message=storable(message),
        plan_uuid=plan_uuid,
        job=record.job if record else "",
        occasion=occasion,
        client_id=client.pk if client else record.client_id if record else None,
    )
    try:
        with transaction.atomic():
            event.save()
            events = [event, *_plan_deliveries(event)]
    except DatabaseError:
        log.exception("event not stored: %s", event.title)
        return
    # Not before: a listener would look for a record that is not there yet, and the store's counter would stay locked.
    # A lambda: Django wants a name to log a failure by, which a partial function has not.
    transaction.on_commit(lambda: _send(events), robust=True)


def _plan_deliveries(event: Event) -> list[Event]:
    """Have the event told on the channels of its rules; return the event that says so if that failed. Raises DatabaseError."""
    if not event.occasion:
        return []
    try:
        with transaction.atomic():
            plan_deliveries(event)
    except Exception as fault:
        log.exception("event=%d is told on no channel", event.pk)
        with override(settings.LANGUAGE_CODE):
            title = _("Nobody was notified of: %(event)s") % {"event": event.title}
            message = _("%(error)s; the server's log says more.") % {"error": type(fault).__name__}
        about = {"plan_uuid": event.plan_uuid, "job": event.job, "client_id": event.client_id}
        told = Event(level=Event.Level.ERROR, topic=Event.Topic.GENERAL, title=title[:255], message=message, **about)
        told.save()
        return [told]
    return []


def send_unsent(now: datetime | None = None) -> int:
    """Send the events whose sender died, or failed, between storing and sending them; return how many. For the watchdog."""
    before = (now or timezone.now()) - UNSENT_AFTER
    unsent = list(Event.objects.filter(is_sent=False, time__lt=before).order_by("pk")[:SENT_AT_ONCE])
    if unsent:
        _send(unsent)
    return len(unsent)


def emit_progress(record: JobRecord, *, has_news: bool = False) -> None:
    """Tell the listeners how far an active job is, at most once a second a job; not stored. Never raises.

    `has_news`: its course has something new, which is told at once.
    """
    if record.is_active and not _progress_is_due(record.job) and not has_news:
        return
    data = {
        "record": {"kind": record.KIND, "id": record.pk},
        "backup": str(record.plan_uuid) if isinstance(record, BackupRecord) else None,
        "state": record.state,
        "attempt": record.attempt,
        "progress": record.progress,
        "has_news": has_news,
        "time": int(timezone.now().timestamp()),
    }
    message = json.dumps(data, ensure_ascii=True)
    transaction.on_commit(lambda: _publisher().publish("progress", message, None), robust=True)


def _send(events: list[Event]) -> None:
    """Append stored events to the listeners' log, unless that has been done, and say that there is news.

    The log has one counter, which only one can lock: what other threads of this process are about to send goes with it.
    """
    _outgoing.extend(events)
    _sender.ask()


def _send_outgoing() -> None:
    with _sending:
        events = [_outgoing.popleft() for _ in range(len(_outgoing))]
        if not events:
            # Another thread has sent them.
            return
        with transaction.atomic():
            rows = Event.objects.select_for_update().filter(pk__in=[event.pk for event in events], is_sent=False)
            unsent = set(rows.order_by("pk").values_list("pk", flat=True))
            if not unsent:
                return
            rows.filter(pk__in=unsent).update(is_sent=True)
            data = [_shown(event) for event in sorted(events, key=lambda event: event.pk) if event.pk in unsent]
            newest = append_events(CHANNEL, "message", data)
    _publisher().publish("message", data[-1], str(newest))


def _shown(event: Event) -> str:
    """Return the event as listeners read it, in JSON."""
    kind, _dash, number = event.job.partition("-")
    said = {
        "type": event.type,
        "title": event.title,
        "message": event.message[:SENT_LENGTH],
        "record": {"kind": kind, "id": int(number)} if number else None,
        "backup": str(event.plan_uuid) if event.plan_uuid else None,
        "time": int(event.time.timestamp()),
    }
    return json.dumps(said, ensure_ascii=False)


class _Publisher:
    """Says on Redis that there is news; when Redis does not answer, it gives up at once and rests for a while."""

    def __init__(self) -> None:
        timeouts = {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S}
        options: dict[str, Any] = {**settings.EVENTSTREAM_REDIS, **timeouts, "retry": Retry(NoBackoff(), 0)}
        self._redis = Redis(**options)
        self._resting_until = 0.0

    def publish(self, event_type: str, data: str, event_id: str | None) -> None:
        if time.monotonic() < self._resting_until:
            return
        message = {"channel": CHANNEL, "event_type": event_type, "data": data, "pub_id": event_id}
        try:
            self._redis.publish(REDIS_CHANNEL, json.dumps(message))
        except (RedisError, OSError) as error:
            self._resting_until = time.monotonic() + REDIS_REST_S
            log.warning("listeners hear of events late, Redis is away: %s", error)


@cache
def _publisher() -> _Publisher:
    return _Publisher()


_outgoing: deque[Event] = deque()
_sending = threading.Lock()
_sender = Background("sending events", _send_outgoing, GROUP_S)

_progress_sent: dict[str, float] = {}
_progress_lock = threading.Lock()


def _progress_is_due(job: str) -> bool:
    now = time.monotonic()
    with _progress_lock:
        if now - _progress_sent.get(job, -PROGRESS_INTERVAL_S) < PROGRESS_INTERVAL_S:
            return False
        if len(_progress_sent) > 10_000:
            _progress_sent.clear()
        _progress_sent[job] = now
    return True
