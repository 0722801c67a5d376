"""`/metrics`, for who has the token of the settings or of an account."""

from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.authentication import BearerAuthentication, TokenAuthentication
from backupcenter.metrics.fleet import Fleet
from backupcenter.metrics.latency import LATENCY


@require_safe
def show_metrics(request: HttpRequest) -> HttpResponse:
    if not _may_scrape(request):
        return HttpResponse("401\n", status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(generate_latest(_registry()), content_type=CONTENT_TYPE_LATEST)


@cache
def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Fleet())
    if settings.METRICS_ARE_SHARED:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(LATENCY)
    return registry


def _may_scrape(request: HttpRequest) -> bool:
    said = request.headers.get("Authorization", "")
    if settings.METRICS_TOKEN and constant_time_compare(said, f"Bearer {settings.METRICS_TOKEN}"):
        return True
    try:
        # Any account may read.
        return any(way().authenticate(Request(request)) for way in (BearerAuthentication, TokenAuthentication))
    except AuthenticationFailed:
        return False
