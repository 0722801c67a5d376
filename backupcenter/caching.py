"""What is kept for later, and what is not.

The cache is in Redis and holds JSON: Django's own serializer unpickles, and agents can write to Redis too. Answers are kept by
nobody on their way unless they say otherwise, as static files do.
"""

import json
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase


class JSONSerializer:
    """For the option `serializer` of Django's Redis cache. Numbers stay such that Redis can count with them."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


def keep_no_answers(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: browsers and proxies store no answer, since nearly each tells of people, hosts, files or keys."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return respond
