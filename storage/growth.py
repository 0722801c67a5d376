"""How much is stored, how fast it grows, and when a quota is full.

Each day the used bytes of every tenant (as its store says) and repository (as its files are listed) are kept. The growth is the
median of the slopes between all pairs of the last samples (Theil-Sen): a prune that gives back half, or one large first backup,
does not bend it as it would bend a line of least squares.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from itertools import combinations
from statistics import median

from django.db.models import Exists, OuterRef, QuerySet
from django.dispatch import Signal
from django.utils import timezone

from engine.backends.patience import Patience
from engine.errors import EngineError
from engine.store import FileKind
from storage.models import Repository, Tenant, UsageSample
from storage.repositories import repository_store

log = logging.getLogger(__name__)

LISTED_AT_ONCE = 8
KEPT = timedelta(days=400)
# What the growth is judged by, and how much of it there must be before it says anything.
WINDOW = timedelta(days=90)
LEAST_SAMPLES = 5
LEAST_SPAN = timedelta(days=7)
# A quota that is full in a time farther away than this is not worth a date.
HORIZON = timedelta(days=3650)
# Percent of the quota, each told once until less is used again.
WARNED_AT = (80, 90)
# Sent with `tenant` and `percent` when its use has come to one of WARNED_AT.
quota_reached = Signal()


def growth_per_day(samples: Sequence[tuple[date, int]]) -> int | None:
    """Return by how many bytes a day it grows (negative: shrinks), from samples in any order; None: too few to say."""
    days = [(day.toordinal(), used) for day, used in sorted(samples)]
    if len(days) < LEAST_SAMPLES or days[-1][0] - days[0][0] < LEAST_SPAN.days:
        return None
    return round(median((used - before) / (day - since) for (since, before), (day, used) in combinations(days, 2)))


def full_at(used: int | None, quota: int | None, per_day: int | None, now: datetime) -> datetime | None:
    """Return when the quota is full at this growth; None: not known, without a quota, or not within ten years."""
    if used is None or quota is None:
        return None
    if used >= quota:
        return now
    if per_day is None or per_day <= 0:
        return None
    left = timedelta(days=min((quota - used) / per_day, HORIZON.days + 1))
    return now + left if left <= HORIZON else None


def sample_usage(now: datetime | None = None) -> int:
    """Keep today's used bytes of the tenants and repositories of which they are not kept yet; return of how many."""
    moment = now or timezone.now()
    today = timezone.localdate(moment)
    taken = UsageSample.objects.filter(day=today)
    tenants = list(Tenant.objects.filter(used__isnull=False, refresh_error="").exclude(
        Exists(taken.filter(tenant=OuterRef("pk"), repository=None))
    ))  # fmt: skip
    rows = Repository.objects.exclude(repository_id="").exclude(Exists(taken.filter(repository=OuterRef("pk"))))
    repositories = list(rows.select_related("tenant__endpoint"))
    with ThreadPoolExecutor(LISTED_AT_ONCE, thread_name_prefix="usage") as pool:
        sizes = list(pool.map(_stored_bytes, repositories))
    UsageSample.objects.bulk_create(
        [
            *(UsageSample(tenant=tenant, day=today, used=tenant.used) for tenant in tenants if tenant.used is not None),
            *(
                UsageSample(tenant=repository.tenant, repository=repository, day=today, used=size)
                for repository, size in zip(repositories, sizes, strict=True)
                if size is not None
            ),
        ],
        ignore_conflicts=True,
    )
    UsageSample.objects.filter(day__lt=today - KEPT).delete()
    for tenant in tenants:
        per_day = growth_per_day(list(_recent(today).filter(tenant=tenant, repository=None).values_list("day", "used")))
        Tenant.objects.filter(pk=tenant.pk).update(
            growth_per_day=per_day, full_at=full_at(tenant.used, tenant.quota, per_day, moment)
        )
    for repository, size in zip(repositories, sizes, strict=True):
        if size is not None:
            per_day = growth_per_day(list(_recent(today).filter(repository=repository).values_list("day", "used")))
            Repository.objects.filter(pk=repository.pk).update(used=size, used_at=moment, growth_per_day=per_day)
    return len(tenants) + sum(size is not None for size in sizes)


def used_percent(tenant: Tenant) -> int | None:
    """Return how much of its quota a tenant uses; None: not known, or it has none."""
    if tenant.used is None or not tenant.quota:
        return None
    return 100 * tenant.used // tenant.quota


def warn_of_quota(tenant: Tenant) -> None:
    """Send `quota_reached` when the use has come to 80 or 90 percent since it was last below."""
    percent = used_percent(tenant) or 0
    reached = max((level for level in WARNED_AT if percent >= level), default=0)
    # Only one of several that look at once changes the row.
    told = Tenant.objects.filter(pk=tenant.pk).exclude(quota_told=reached)
    if reached > tenant.quota_told and told.filter(quota_told__lt=reached).update(quota_told=reached):
        quota_reached.send_robust(Tenant, tenant=tenant, percent=percent)
    elif reached < tenant.quota_told:
        told.update(quota_told=reached)
    tenant.quota_told = reached


def _recent(today: date) -> QuerySet[UsageSample]:
    return UsageSample.objects.filter(day__gt=today - WINDOW)


def _stored_bytes(repository: Repository) -> int | None:
    """Return the bytes of all files of a repository; None: its store does not answer, which its tenant's page says."""
    try:
        store = repository_store(repository, Patience())
        try:
            return sum(size for kind in FileKind if kind is not FileKind.CONFIG for _name, size in store.list(kind))
        finally:
            store.close()
    except EngineError as error:
        log.warning("repository=%d usage not sampled: %s", repository.pk, error)
        return None
