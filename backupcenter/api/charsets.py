"""The charset of requests: the API speaks UTF-8, and refuses what is no encoding of text before Django fails over it."""

import codecs
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.utils.http import parse_header_parameters
from django.utils.translation import gettext as _

Scope = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

CHARSETS = {"utf-8", "ascii", "iso8859-1", "utf-8-sig"}


def refuse_exotic_charsets(application: Application) -> Application:
    """Return an ASGI application that answers 415 to charsets which are not even encodings of text, such as `hex`.

    Django would fail over them before its middleware is reached.
    """

    async def guarded(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or _is_text(_charset(scope)):
            await application(scope, receive, send)
            return
        body = json.dumps({"error": _("The request's charset must be UTF-8.")}, ensure_ascii=False).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 415, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return guarded


def _charset(scope: Scope) -> str | None:
    content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
    return parse_header_parameters(content_type)[1].get("charset")


def _is_text(charset: str | None) -> bool:
    """Whether Django may decode with it; a name that Python does not know is ignored by Django."""
    if not charset:
        return True
    try:
        return codecs.lookup(charset).name in CHARSETS
    except (LookupError, ValueError):
        return "\0" not in charset
