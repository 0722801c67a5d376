"""What agents say most often: how far they are, with which they renew their leases.

A thousand jobs are a hundred reports a second at times, so one of a job that runs as it should is a single statement of the
database. Django would take longer to put three of its own together than the database takes to carry them out.
"""

from typing import Any

from django.db import connection
from django.utils import timezone

from records.events import emit_progress
from records.lifecycle import find_job, job_named, take_back
from records.models import BackupRecord, JobRecord, State
from records.pacing import lease_end


def report_progress(
    client_id: int, job: str, attempt: int, progress: dict[str, Any], course: dict[str, Any] | None = None
) -> JobRecord | None:
    """Renew the lease of a client's job, note its progress and tell the listeners; None if the client has no such job.

    `course`: all that the attempt's agent has told of it so far, None: no more than before. The record that is returned knows
    whether the job is to be cancelled, and little else. Raises StaleAttempt.
    """
    said: dict[str, Any] = {"lease_until": lease_end(timezone.now()), "progress": progress}
    if course is not None:
        said["course"] = course
    record = _renew(client_id, job, attempt, said)
    if record is None:
        record = find_job(client_id, job)
        if record is None:
            return None
        take_back(record, attempt, said)
    for name, value in {**said, "state": State.RUNNING, "attempt": attempt}.items():
        setattr(record, name, value)
    emit_progress(record, has_news=course is not None)
    return record


def _renew(client_id: int, job: str, attempt: int, said: dict[str, Any]) -> JobRecord | None:
    """Note what was said of a job that runs as that attempt; None if there is none."""
    named = job_named(job)
    if named is None:
        return None
    model, pk = named
    fields = [field for field in model._meta.concrete_fields if field.name in said]
    values = [field.get_db_prep_save(said[field.name], connection) for field in fields]
    given = ", ".join(f'"{field.column}" = %s' for field in fields)
    wanted = "id, cancel_requested" + (", plan_uuid" if model is BackupRecord else "")
    # What is put into the text are names of the model's own.
    which = "id = %s AND client_id = %s AND state = %s AND attempt = %s"
    statement = f'UPDATE "{model._meta.db_table}" SET {given} WHERE {which} RETURNING {wanted}'  # noqa: S608  # nosec B608
    renewed: list[JobRecord] = list(model._default_manager.raw(statement, [*values, pk, client_id, State.RUNNING.value, attempt]))
    return renewed[0] if renewed else None
