"""The ASGI application: the event stream at `/api/event`, Django for everything else."""

import os
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler

from backupcenter.api.charsets import refuse_exotic_charsets

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backupcenter.settings")


class Handler(ASGIHandler):
    """Django, with the whole way of a request through middleware and view in one thread.

    None of them is asynchronous, and Django would change between the event loop and the thread a dozen times for each request.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)
        chain: Any = self._middleware_chain  # type: ignore[has-type]
        self._middleware_chain = sync_to_async(chain, thread_sensitive=True)


django.setup(set_prefix=False)
pages = refuse_exotic_charsets(Handler())

# Models can be imported only after Django is set up.
from records.stream import EventStream  # noqa: E402

events = EventStream()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].rstrip("/") == "/api/event":
        await events(scope, receive, send)
    else:
        await pages(scope, receive, send)
