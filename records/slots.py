"""Slots: how many jobs are at work at once for a client, in a repository and on an endpoint, and what a job waits for.

A job holds one of each from when it is offered to its client (`jobs.offering`) until it ends, or its client does not take it.
How many there are is said by the client, repository or endpoint, else by the settings.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, F, OuterRef, Q, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from clients.compatibility import OLDEST_PROTOCOL, is_understood, speaks, understood
from records.models import ACTIVE_STATES, BackupRecord, JobRecord, RecoveryRecord, State

# Named states, so that the index of what is active is used.
HOLDS_SLOTS = Q(state__in=ACTIVE_STATES) & (Q(state=State.RUNNING) | Q(offered_at__isnull=False))
REPOSITORY_OF: dict[type[JobRecord], str] = {BackupRecord: "repository", RecoveryRecord: "backup_record__repository"}


@dataclass(slots=True)
class Held:
    """How many slots are held, by primary key of client, repository and endpoint."""

    clients: Counter[int] = field(default_factory=Counter)
    repositories: Counter[int] = field(default_factory=Counter)
    endpoints: Counter[int] = field(default_factory=Counter)

    def take(self, client: int, repository: int, endpoint: int, count: int = 1) -> None:
        self.clients[client] += count
        self.repositories[repository] += count
        self.endpoints[endpoint] += count


def held_slots() -> Held:
    """Count the slots that are held now."""
    held = Held()
    for model, repository in REPOSITORY_OF.items():
        rows = model._default_manager.filter(HOLDS_SLOTS, client__isnull=False).order_by()
        for row in rows.values_list("client", repository, f"{repository}__tenant__endpoint").annotate(Count("pk")):
            held.take(*row)
    return held


def limits(repository: str) -> dict[str, Coalesce]:
    """Return annotations `client_limit`, `repository_limit` and `endpoint_limit` of job records. `repository`: path to theirs."""
    return {
        "client_limit": Coalesce("client__max_jobs", Value(settings.CLIENT_JOBS)),
        "repository_limit": Coalesce(f"{repository}__max_jobs", Value(settings.REPOSITORY_JOBS)),
        "endpoint_limit": Coalesce(f"{repository}__tenant__endpoint__max_jobs", Value(settings.ENDPOINT_JOBS)),
    }


def is_there(now: datetime, prefix: str = "client__") -> Q:
    """Match records whose client is heard of, understood, and knows all that the job has."""
    heard = Q(**{f"{prefix}last_seen__gte": now - timedelta(seconds=settings.CLIENT_OFFLINE_S)})
    is_able = Q(needs_protocol=OLDEST_PROTOCOL) | Q(**{f"{prefix}protocol__gte": F("needs_protocol")})
    return heard & understood(prefix) & is_able


def run_goes_on() -> Exists:
    """Match backup records of whose plan another run holds its slots: runs of one plan come one after the other."""
    return Exists(BackupRecord.objects.filter(HOLDS_SLOTS, plan_uuid=OuterRef("plan_uuid")).exclude(pk=OuterRef("pk")))


def explain_waiting(records: Iterable[JobRecord]) -> None:
    """Set `waits_for` of each record: a sentence if it waits, else None. As many queries for any number of records."""
    waiting: dict[type[JobRecord], list[JobRecord]] = {}
    for record in records:
        if record.state == State.QUEUED:
            waiting.setdefault(type(record), []).append(record)
    held = held_slots() if waiting else Held()
    for model, rows in waiting.items():
        reasons = dict(_reasons(model, [row.pk for row in rows], held, timezone.now()))
        for row in rows:
            row.waits_for = reasons.get(row.pk)


def obstacle(record: JobRecord) -> str | None:
    """Return what keeps a queued job from being offered to its client, which is there; None: nothing."""
    now = timezone.now()
    row = _situations(type(record), [record.pk]).get()
    return _obstacle(row, held_slots(), now)


def _reasons(model: type[JobRecord], keys: Sequence[int], held: Held, now: datetime) -> Iterable[tuple[int, str]]:
    for row in _situations(model, keys):
        if not is_understood(row["protocol"]):
            yield row["pk"], _("its agent and the server do not understand each other until one of them is updated")
        elif not speaks(row["protocol"], row["needs_protocol"]):
            yield row["pk"], _too_old()
        elif row["offered_at"] is not None:
            yield row["pk"], _("it was offered to its client, which is to take it")
        elif (reason := _obstacle(row, held, now)) is not None:
            yield row["pk"], reason
        elif row["last_seen"] is None or row["last_seen"] < now - timedelta(seconds=settings.CLIENT_OFFLINE_S):
            yield row["pk"], _("its client does not answer")
        else:
            yield row["pk"], _("it is about to be offered to its client")


def _situations(model: type[JobRecord], keys: Sequence[int]) -> Any:
    repository = REPOSITORY_OF[model]
    names = {"repository_key": F(repository), "endpoint_key": F(f"{repository}__tenant__endpoint")}
    follows = {"follows": run_goes_on()} if model is BackupRecord else {}
    rows = model._default_manager.filter(pk__in=keys, state=State.QUEUED).order_by()
    told = {"last_seen": F("client__last_seen"), "protocol": F("client__protocol")}
    return rows.annotate(**limits(repository), **names, **follows, **told).values(
        "pk", "client", "needs_protocol", "offered_at", "not_before", *told, *names, *follows, *limits(repository)
    )


def _obstacle(row: dict[str, Any], held: Held, now: datetime) -> str | None:
    if not speaks(row["protocol"], row["needs_protocol"]):
        return _too_old()
    if row["not_before"] is not None and row["not_before"] > now:
        return _("it is not to begin before %(time)s") % {"time": date_format(timezone.localtime(row["not_before"]), "H:i:s")}
    if row.get("follows"):
        return _("another run of its backup plan goes on")
    at_work = held.clients[row["client"]]
    if at_work >= row["client_limit"]:
        return ngettext("%(count)d job of its client is running", "%(count)d jobs of its client are running", at_work) % {
            "count": at_work
        }
    at_work = held.repositories[row["repository_key"]]
    if at_work >= row["repository_limit"]:
        text = ngettext("%(count)d job is running in its repository", "%(count)d jobs are running in its repository", at_work)
        return text % {"count": at_work}
    at_work = held.endpoints[row["endpoint_key"]]
    if at_work >= row["endpoint_limit"]:
        text = ngettext("%(count)d job is running at its endpoint", "%(count)d jobs are running at its endpoint", at_work)
        return text % {"count": at_work}
    return None


def _too_old() -> str:
    return _("its agent is too old for this job: install the server's version of it on the host")
