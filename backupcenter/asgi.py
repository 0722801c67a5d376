"""The ASGI application: the event stream at `/api/event`, Django for everything else."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import IO, Any

import django
from asgiref.sync import sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.http.response import HttpResponseBase

from backupcenter.api.charsets import refuse_exotic_charsets
from backupcenter.background import work_in_background
from backupcenter.tracing import trace_web

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backupcenter.settings")


class Handler(ASGIHandler):
    """Django, with the whole way of a request through middleware and view in one thread.

    None of them is asynchronous, and Django would change between the event loop and the thread a dozen times for each request.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)
        chain: Any = self._middleware_chain  # type: ignore[has-type]
        self._middleware_chain = sync_to_async(chain, thread_sensitive=True)


class AgentHandler(ASGIHandler):
    """Django for agents, who send many short requests: a few threads answer one after the other, each in one go.

    So a thousand agents that report at once wait in line, and do not keep each other from being answered. Nothing here streams:
    who reads slowly would hold a thread.
    """

    THREADS = 8

    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(self.THREADS, thread_name_prefix="agents")

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with closing(body):
            response = await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, scope, body)
            await self.send_response(response, send)

    def _answer(self, scope: Any, body: IO[bytes]) -> HttpResponseBase:
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        response = refusal if request is None else BaseHandler.get_response(self, request)
        assert response is not None  # either there is a request or a refusal of it
        response.close()
        return response


django.setup(set_prefix=False)
trace_web()
pages = refuse_exotic_charsets(Handler())
agents = refuse_exotic_charsets(AgentHandler())

# Models can be imported only after Django is set up.
from records.stream import EventStream  # noqa: E402

events = EventStream()
work_in_background()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].rstrip("/") == "/api/event":
        await events(scope, receive, send)
    elif scope["type"] == "http" and scope["path"].startswith("/api/agent/"):
        await agents(scope, receive, send)
    else:
        await pages(scope, receive, send)
