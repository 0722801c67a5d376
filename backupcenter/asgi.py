"""The ASGI application: the event stream at `/api/event`, Django for everything else."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

from backupcenter.api.charsets import refuse_exotic_charsets

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backupcenter.settings")

django = refuse_exotic_charsets(get_asgi_application())

# Models can be imported only after Django is set up.
from records.stream import EventStream  # noqa: E402

events = EventStream()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].rstrip("/") == "/api/event":
        await events(scope, receive, send)
    else:
        await django(scope, receive, send)
