"""The hub of a web process: follows the event log once, for all of its listeners.

Redis wakes it, and every few seconds it looks by itself, so that a lost message or a missing Redis costs seconds and
never an event. It keeps the newest events, already encoded; a listener holds no queue, only the number it has read up
to, and one that is slow or resumes reads the rest from the log. So memory does not grow with listeners or bursts, and
nothing is delivered twice.
"""

import asyncio
import contextlib
import json
import logging
from collections import OrderedDict
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseFailure
from redis import RedisError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from records.event_log import DatabaseThread, LoggedEvent, current_number, encode, events_after
from records.events import CHANNEL, REDIS_CHANNEL
from records.models import State

log = logging.getLogger(__name__)

BATCH = 100
# Kept in memory, at some 300 bytes each.
RECENT = 2_000
# How long an event may take to arrive when Redis says nothing.
LOOK_INTERVAL_S = 5.0
REDIS_BACK_OFF_S = (0.2, 5.0)
# Progress of a job that nobody has reported for this many other jobs is forgotten.
PROGRESS_JOBS = 10_000
PROGRESS_BYTES = 16_384
# From these no job goes on; a lost one may.
FINAL_STATES = (State.SUCCESS, State.WARNINGS, State.FAILED, State.CANCELLED)


class Hub:
    """What the listeners of one event loop share."""

    def __init__(self) -> None:
        self.database = DatabaseThread()
        self.number = 0
        self._recent: list[LoggedEvent] = []
        self._progress: OrderedDict[str, tuple[int, bytes, bool]] = OrderedDict()
        self.progress_count = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._look = asyncio.Event()
        self._news = asyncio.Event()
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Begin to follow the log, unless it is followed already. Raises django.db.Error."""
        async with self._starting:
            if not self._tasks:
                self.number = await self.database.run(current_number, CHANNEL)
                self._tasks = [asyncio.create_task(self._follow_log()), asyncio.create_task(self._follow_redis())]

    @property
    def news(self) -> asyncio.Event:
        """Is set as soon as anything arrives after this was asked; ask before reading, or news in between is missed."""
        return self._news

    async def after(self, number: int) -> list[LoggedEvent]:
        """Return the next events after `number`, at most a batch; from the log if they are not so recent."""
        if number >= self.number:
            return []
        first = self._recent[0].number if self._recent else self.number + 1
        if number + 1 >= first:
            start = number + 1 - first
            return self._recent[start : start + BATCH]
        return await self.database.run(events_after, CHANNEL, number, BATCH)

    def progress_after(self, count: int) -> list[bytes]:
        """Return the newest progress of each job that was reported after `count`, oldest first."""
        found: list[bytes] = []
        for counted, body, _has_ended in reversed(self._progress.values()):
            if counted <= count:
                break
            found.append(body)
        return found[::-1]

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _follow_log(self) -> None:
        while True:
            self._look.clear()
            try:
                while events := await self.database.run(events_after, CHANNEL, self.number, BATCH):
                    self._append(events)
            except DatabaseFailure as error:
                log.warning("listeners hear of events late, the database is away: %s", error)
                await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._look.wait()

    def _append(self, events: list[LoggedEvent]) -> None:
        if self._recent and events[0].number != self._recent[-1].number + 1:
            # `after` counts on numbers without gaps.
            self._recent.clear()
        self._recent += events
        if len(self._recent) > 2 * RECENT:
            del self._recent[:-RECENT]
        self.number = events[-1].number
        self._tell()

    async def _follow_redis(self) -> None:
        shortest, longest = REDIS_BACK_OFF_S
        pause = shortest
        while True:
            try:
                async with self._redis() as redis, redis.pubsub() as subscription:
                    await subscription.subscribe(REDIS_CHANNEL)
                    async for message in subscription.listen():
                        pause = shortest
                        self._heard(message)
            except (RedisError, OSError) as error:
                log.warning("not connected to Redis, next try in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    @staticmethod
    def _redis() -> Redis:
        options: dict[str, Any] = {"socket_connect_timeout": 5, "socket_keepalive": True}
        return Redis(**{**settings.EVENTSTREAM_REDIS, **options, "retry": Retry(NoBackoff(), 0)})

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] != "message":
            # Subscribed, maybe once more: what was said meanwhile is in the log.
            self._look.set()
            return
        try:
            event = json.loads(message["data"])
            if event["channel"] != CHANNEL:
                return
            if event["pub_id"] is not None:
                # The log alone says what happened: agents can reach Redis too, and must not speak for the server.
                self._look.set()
            elif event["event_type"] == "progress" and len(event["data"]) <= PROGRESS_BYTES:
                self._note_progress(event["data"])
        except (ValueError, TypeError, KeyError, RecursionError):
            log.warning("a message on Redis is not an event")

    def _note_progress(self, data: str) -> None:
        said = json.loads(data)
        job = f"{said['record']['kind']}-{said['record']['id']}"
        if job in self._progress and self._progress[job][2]:
            # A report and the end of the job may have overtaken each other on their way here.
            return
        self.progress_count += 1
        self._progress[job] = (self.progress_count, encode("progress", data, CHANNEL), said["state"] in FINAL_STATES)
        self._progress.move_to_end(job)
        if len(self._progress) > PROGRESS_JOBS:
            self._progress.popitem(last=False)
        self._tell()
