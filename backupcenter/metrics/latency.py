"""How long requests take, by route: a histogram of this process, or of all that share a directory (docs/metrics.md)."""

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from prometheus_client import Histogram

LATENCY = Histogram(
    "backupcenter_request_duration_seconds",
    "How long requests took, until their answer began.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=None,
)
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}

Respond = Callable[[HttpRequest], HttpResponseBase]


def measure(get_response: Respond) -> Respond:
    def respond(request: HttpRequest) -> HttpResponseBase:
        begun = time.perf_counter()
        response = get_response(request)
        match = request.resolver_match
        # Nothing that a caller could make up without end.
        method = request.method if request.method in METHODS else "other"
        labels = (method, match.route if match else "", str(response.status_code))
        LATENCY.labels(*labels).observe(time.perf_counter() - begun)
        return response

    return respond
