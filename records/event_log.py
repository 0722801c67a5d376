"""Reading django-eventstream's table of events, by one thread with one database connection.

The library's own reading gives each listener a thread and a connection for as long as it listens, and takes a quiet day
for a loss: its storage deletes events after 24 hours, also the one that the reader stands at. Here a gap in the
numbers, which the library gives without any, says whether something was missed.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction
from django_eventstream.models import Event, EventCounter
from django_eventstream.utils import make_id, sse_encode_event

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as it goes over the wire. `number` counts from 1, without gaps."""

    number: int
    body: bytes


def current_number(channel: str) -> int:
    """Return the number of the newest event; 0: there was none yet."""
    return EventCounter.objects.filter(name=channel).values_list("value", flat=True).first() or 0


def events_after(channel: str, number: int, limit: int) -> list[LoggedEvent]:
    """Return at most `limit` events that follow `number`, in order, as far as they are still stored."""
    rows = Event.objects.filter(channel=channel, eid__gt=number).order_by("eid")
    return [
        LoggedEvent(eid, encode(kind, json.loads(data), channel, eid))
        for eid, kind, data in rows.values_list("eid", "type", "data")[:limit]
    ]


def append_events(channel: str, kind: str, data: Sequence[str]) -> int:
    """Store events one after the other and return the number of the last; `data`: JSON texts.

    As the library's storage does for one event, but that it deletes old ones each time (`records.housekeeping` does).
    """
    counter = EventCounter.get_or_create(channel)
    with transaction.atomic():
        counter = EventCounter.objects.select_for_update().get(pk=counter.pk)
        first = counter.value + 1
        # The library looks for an event with the number 0.
        placeholder = [Event(channel=channel)] if counter.value == 0 else []
        stored = [Event(channel=channel, type=kind, data=json.dumps(text), eid=eid) for eid, text in enumerate(data, first)]
        Event.objects.bulk_create(placeholder + stored)
        counter.value += len(stored)
        counter.save()
    return int(counter.value)


def encode(kind: str, data: str, channel: str, number: int | None = None) -> bytes:
    """Return an event in the library's wire format; with a `number`, a listener can resume after it."""
    event_id = None if number is None else make_id({channel: number})
    return str(sse_encode_event(kind, data, event_id=event_id)).encode()


class DatabaseThread:
    """The one thread that listeners reach the database through; its connection stays open."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="events")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function` returns. Raises its errors; django.db.OperationalError if the database is away."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._call, function, *arguments)

    @staticmethod
    def _call(function: Callable[..., T], *arguments: object) -> T:
        try:
            return function(*arguments)
        except (OperationalError, InterfaceError):
            # The server was restarted or the connection cut: one fresh connection says which.
            connection.close()
            return function(*arguments)
