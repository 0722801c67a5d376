"""`GET /api/event`: the ASGI application that streams events, answered before Django sees the request.

Django would hold a thread and a database connection for each listener as long as it listens. The wire format is that
of django-eventstream: server-sent events with ids like `events:12`, `stream-open`, `stream-reset`, `keep-alive`, and
resuming by `Last-Event-ID`. What is read from where is `records.broadcast`; who may listen is `records.visitors`.
"""

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.http.request import split_domain_port, validate_host
from django.utils.translation import gettext as _
from django_eventstream.utils import parse_last_event_id

from records.broadcast import Hub
from records.event_log import current_number, encode
from records.events import CHANNEL
from records.visitors import Visitor, admit, still_admitted

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

KEEP_ALIVE_S = 15.0
# A listener that does not take what it is sent for so long is gone, or might as well be.
SEND_TIMEOUT_S = 60.0
ADMISSION_INTERVAL_S = 30.0

KEEP_ALIVE = b"event: keep-alive\ndata:\n\n"
# Proxies and browsers that wait for a first buffer get one.
PADDING = b":" + b" " * 2048 + b"\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class BadEventId(Exception):
    """The id to resume after is none that this stream gave."""


class EventStream:
    """The application; one instance serves all listeners of a process."""

    def __init__(self) -> None:
        self._hub = Hub()
        self._visitors: Counter[Visitor] = Counter()
        self._refused: set[Visitor] = set()
        self._doorkeeper: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _refuse(send, 405, _("Only GET is possible here."), (b"allow", b"GET"))
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not validate_host(split_domain_port(headers.get("host", ""))[0], settings.ALLOWED_HOSTS):
            # As Django does, which never sees this request: another site's name may have been made to lead here.
            await _refuse(send, 400, _("The request is malformed."))
            return
        query = scope["query_string"].decode("latin-1")
        try:
            visitor = await self._hub.database.run(admit, headers, query)
            if visitor is None:
                message = _("Log in again: the token is missing, wrong or expired.")
                await _refuse(send, 401, message, (b"www-authenticate", b"Token"))
                return
            resume_after = _resume_after(headers, query)
            await self._hub.start()
        except BadEventId:
            await _refuse(send, 400, _("Last-Event-ID is none that this stream gave."))
            return
        except DatabaseFailure:
            log.exception("no listener can be admitted")
            await _refuse(send, 503, _("The database does not answer."), (b"retry-after", b"5"))
            return
        try:
            self._enter(visitor)
            await _until_disconnected(receive, self._stream(send, visitor, resume_after))
        finally:
            self._depart(visitor)

    async def _stream(self, send: Send, visitor: Visitor, resume_after: int | None) -> None:
        """Send events from the one after `resume_after` (None: from now on) until the visitor is refused."""
        number = self._hub.number if resume_after is None else resume_after
        progress = self._hub.progress_count
        await _send(send, {"type": "http.response.start", "status": 200, "headers": HEADERS})
        await _send_body(send, PADDING + encode("stream-open", "", CHANNEL, number))
        if number > self._hub.number and number > (newest := await self._hub.database.run(current_number, CHANNEL)):
            # An id of a database that was since replaced by an older one.
            number = newest
            await _send_body(send, _reset(number))
        while visitor not in self._refused:
            news, newest = self._hub.news, self._hub.number
            events = await self._hub.after(number)
            updates = self._hub.progress_after(progress)
            progress = self._hub.progress_count
            bodies = [event.body for event in events] + updates
            if number < newest and (not events or events[0].number != number + 1):
                bodies.insert(0, _reset(events[0].number - 1 if events else newest))
            number = events[-1].number if events else max(number, newest)
            if bodies:
                await _send_body(send, b"".join(bodies))
            elif not await _happens(news, KEEP_ALIVE_S):
                await _send_body(send, KEEP_ALIVE)
        await _send_body(send, encode("stream-error", json.dumps({"condition": "forbidden"}), CHANNEL))
        await _send(send, {"type": "http.response.body", "body": b""})

    def _enter(self, visitor: Visitor) -> None:
        self._visitors[visitor] += 1
        self._refused.discard(visitor)
        if self._doorkeeper is None or self._doorkeeper.done():
            self._doorkeeper = asyncio.create_task(self._watch_admissions())

    def _depart(self, visitor: Visitor) -> None:
        self._visitors[visitor] -= 1
        if not self._visitors[visitor]:
            del self._visitors[visitor]
            self._refused.discard(visitor)
        if not self._visitors and self._doorkeeper:
            self._doorkeeper.cancel()
            self._doorkeeper = None

    async def _watch_admissions(self) -> None:
        while True:
            await asyncio.sleep(ADMISSION_INTERVAL_S)
            asked = set(self._visitors)
            try:
                self._refused |= asked - await self._hub.database.run(still_admitted, asked)
            except DatabaseFailure as error:
                log.warning("listeners' tokens are checked later, the database is away: %s", error)


def _resume_after(headers: dict[str, str], query: str) -> int | None:
    """Return the number of the last event that the listener has; None: it begins now. Raises BadEventId."""
    asked = headers.get("last-event-id") or parse_qs(query).get("lastEventId", [""])[-1]
    if not asked:
        return None
    try:
        number = int(parse_last_event_id(asked)[CHANNEL])
    except (ValueError, KeyError) as error:
        raise BadEventId from error
    if not 0 <= number < 1 << 63:
        raise BadEventId
    return number


def _reset(number: int) -> bytes:
    """Return the library's word that events before `number` are no longer to be had."""
    return encode("stream-reset", json.dumps({"channels": [CHANNEL]}), CHANNEL, number)


async def _until_disconnected(receive: Receive, streaming: Coroutine[Any, Any, None]) -> None:
    """Run `streaming` to its end, or to the client's."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    stream, gone = asyncio.ensure_future(streaming), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({stream, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stream.cancel()
        gone.cancel()
        outcomes = await asyncio.gather(stream, gone, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, TimeoutError):
            raise outcome


async def _happens(event: asyncio.Event, timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    return event.is_set()


async def _send(send: Send, message: Message) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send(message)


async def _send_body(send: Send, body: bytes) -> None:
    await _send(send, {"type": "http.response.body", "body": body, "more_body": True})


async def _refuse(send: Send, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error": error}, ensure_ascii=False).encode()
    common = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*common, *headers]})
    await send({"type": "http.response.body", "body": body})
