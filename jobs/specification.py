"""What an agent is told of a job once it has claimed it: what to read, where to write, and the keys. The only way out for them."""

import json
import posixpath
import shlex
from typing import Any

from django.conf import settings

from jobs.commands import commands_for_agent
from records.models import BackupRecord, JobRecord, RecoveryRecord
from records.pacing import lease_s
from storage.models import Repository
from storage.repositories import repository_access


def job_specification(record: JobRecord) -> dict[str, Any]:
    """Return the specification of a claimed job, as JSON takes it; it holds secrets."""
    assert isinstance(record, BackupRecord | RecoveryRecord)
    backup = record if isinstance(record, BackupRecord) else record.backup_record
    assert backup is not None, "a backup record with an active recovery cannot be deleted"
    repository = Repository.objects.select_related("tenant__endpoint").get(pk=backup.repository_id)
    common = {
        "job": record.job,
        "attempt": record.attempt,
        "kind": record.KIND,
        "lease_s": lease_s(),
        "repository": repository_access(repository, repository.tenant.agent_credentials),
    }
    if isinstance(record, RecoveryRecord):
        return {**common, "recovery": _recovery(record, backup)}
    return {**common, "backup": _backup(record)}


def paths_for_agent(root: str, data: dict[str, Any]) -> dict[str, list[str]]:
    """Return what a plan's data include and exclude as an agent takes it. `root`: of the client."""
    return {
        "include": [_absolute(root, path) for path in data.get("include", [])],
        # A pattern without a slash in it is meant for every directory; with one it is a path like those above.
        "exclude": [
            pattern if "/" not in pattern or pattern.startswith("!") else _absolute(root, pattern)
            for pattern in data.get("exclude", [])
        ],
    }


def _backup(record: BackupRecord) -> dict[str, Any]:
    assert record.client is not None
    data = json.loads(record.backup_detail["backup_data"])
    root = record.client.root
    started = record.start_time or record.queued_at
    return {
        **paths_for_agent(root, data),
        "host": record.client.hostname,
        "tags": [f"plan-{record.plan_uuid}"],
        "plan": {"uuid": str(record.plan_uuid), "name": record.plan_name},
        "time": int(started.timestamp()),
        **commands_for_agent(data),
    }


def _recovery(record: RecoveryRecord, backup: BackupRecord) -> dict[str, Any]:
    assert record.client is not None
    data = json.loads(record.recovery_data)
    if record.is_drill:
        return _drill(backup, data)
    return {
        "snapshot": backup.snapshot,
        "destination": _absolute(record.client.root, data["destination"]),
        "include": [_absolute(backup.client.root if backup.client else "/", path) for path in data.get("include") or []],
        "overwrite": data.get("overwrite", "if-changed"),
        "verify": data.get("verify", True),
        "dry_run": record.is_dry_run,
    }


def _drill(backup: BackupRecord, data: dict[str, Any]) -> dict[str, Any]:
    """Return what is drilled: without a destination, which the agent has of its own."""
    command = shlex.split(data["command"])
    return {
        "snapshot": backup.snapshot,
        "drill": {
            "extent": data["extent"],
            "sample_bytes": settings.DRILL_SAMPLE_MIB << 20,
            "limit_bytes": settings.DRILL_GIB << 30,
        },
        "checks": [{"command": command, "timeout_s": settings.DRILL_COMMAND_S}] if command else [],
    }


def _absolute(root: str, path: str) -> str:
    return posixpath.normpath(posixpath.join("/", root, path))
