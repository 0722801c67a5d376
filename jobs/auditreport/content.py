"""What a month's report says, as JSON: figures and times (Unix seconds), no sentences, so that it can be read in any language."""

from collections import Counter, defaultdict
from datetime import date, datetime
from typing import Any
from uuid import UUID

from dateutil.relativedelta import relativedelta
from django.conf import settings
from django.db.models import Count, Max, QuerySet
from django.utils import timezone

from jobs.models import BackupPlan
from records.models import RESTORABLE_STATES, BackupRecord, DeletedRuns, DrillRecord, MaintenanceRun, State
from records.verification import CHECKS
from storage.models import Verification

PROBLEMS_TOLD = 5


def bounds(month: date) -> tuple[datetime, datetime]:
    """Return the first moment of the month, which is given by its first day, and of the next one, in the server's time zone."""
    first = datetime(month.year, month.month, 1)
    return timezone.make_aware(first), timezone.make_aware(first + relativedelta(months=1))


def collect(month: date, now: datetime) -> dict[str, Any]:
    """Return the month's figures as they are known now."""
    begin, end = bounds(month)
    runs, last = _runs(month, begin, end)
    drills = _drills(begin, end)
    names = _names(begin, end, month)
    plans = [
        {
            "uuid": str(uuid),
            "name": name,
            "runs": {State(state).name.lower(): count for state, count in sorted(runs[uuid].items())},
            "last_success": last.get(uuid),
            "drills": drills[uuid],
        }
        for uuid, name in sorted(names.items(), key=lambda item: (item[1], str(item[0])))
    ]
    return {
        "month": f"{month:%Y-%m}",
        "made_at": int(now.timestamp()),
        "is_complete": now >= end,
        "installation": settings.PUBLIC_URL,
        "plans": plans,
        "repositories": _repositories(begin, end),
    }


def _names(begin: datetime, end: datetime, month: date) -> dict[UUID, str]:
    """Return the plans that there are, or that did something in the month, by the name that they had last."""
    names: dict[UUID, str] = dict(DeletedRuns.objects.filter(month=month).values_list("plan_uuid", "plan_name"))
    names |= DrillRecord.objects.filter(end_time__gte=begin, end_time__lt=end).values_list("plan_uuid", "plan_name")
    ended = _ended(begin, end)
    names |= ended.order_by("plan_uuid", "plan_name").values_list("plan_uuid", "plan_name").distinct()
    names |= BackupPlan.objects.filter(created_at__lt=end).values_list("uuid", "backup_name")
    return names


def _runs(month: date, begin: datetime, end: datetime) -> tuple[defaultdict[UUID, Counter[int]], dict[UUID, int]]:
    """Return for each plan how many runs ended in which state, also those deleted since, and when the last good one ended."""
    runs: defaultdict[UUID, Counter[int]] = defaultdict(Counter)
    ended = _ended(begin, end).order_by()
    for uuid, state, count in ended.values_list("plan_uuid", "state").annotate(Count("pk")):
        runs[uuid][state] += count
    last = {}
    for uuid, moment in ended.filter(state__in=RESTORABLE_STATES).values_list("plan_uuid").annotate(Max("end_time")):
        last[uuid] = int(moment.timestamp())
    for deleted in DeletedRuns.objects.filter(month=month):
        runs[deleted.plan_uuid][deleted.state] += deleted.count
        if deleted.state in RESTORABLE_STATES:
            last[deleted.plan_uuid] = max(last.get(deleted.plan_uuid, 0), int(deleted.last_end.timestamp()))
    return runs, last


def _ended(begin: datetime, end: datetime) -> QuerySet[BackupRecord]:
    """Return the runs that ended in between, also those in the trash."""
    return BackupRecord._base_manager.filter(end_time__gte=begin, end_time__lt=end)


def _drills(begin: datetime, end: datetime) -> defaultdict[UUID, list[dict[str, Any]]]:
    found: defaultdict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for drill in DrillRecord.objects.filter(end_time__gte=begin, end_time__lt=end).order_by("pk"):
        found[drill.plan_uuid].append(
            {
                "id": drill.pk,
                "at": int((drill.start_time or drill.queued_at).timestamp()),
                "state": drill.state,
                "extent": drill.extent,
                "snapshot": drill.snapshot,
                "files": drill.files,
                "of_files": drill.of_files,
                "compared": drill.compared,
                "bytes": drill.bytes_restored,
                "mismatches": drill.mismatches,
                "duration_s": drill.duration_s,
                "age_s": drill.age_s,
                "command": bool(drill.command),
                "command_status": drill.command_status,
                "error": drill.error,
            }
        )
    return found


def _repositories(begin: datetime, end: datetime) -> list[dict[str, Any]]:
    """Return how the month's checks of each repository went, and what is known of it now."""
    found: dict[int, dict[str, Any]] = {}
    known = Verification.objects.select_related("repository__tenant__endpoint").filter(begun_at__lt=end)
    for verification in known.order_by("repository"):
        found[verification.repository_id] = {
            "location": verification.repository.location,
            "checks": 0,
            "failed": 0,
            "bytes_read": 0,
            "problems": [],
            "state": verification.state,
            "structure_at": _seconds(verification.structure_at),
            "data_since": _seconds(verification.data_since),
            "data_share": verification.data_share,
        }
    ended = MaintenanceRun.objects.filter(kind__in=CHECKS, end_time__gte=begin, end_time__lt=end, repository__in=found)
    for run in ended.order_by("pk").iterator():
        of_repository = found[run.repository_id]
        of_repository["checks"] += 1
        of_repository["bytes_read"] += run.result.get("bytes_read", 0)
        if run.state != State.SUCCESS:
            of_repository["failed"] += 1
            if len(of_repository["problems"]) < PROBLEMS_TOLD:
                of_repository["problems"].append(run.error)
    return list(found.values())


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
