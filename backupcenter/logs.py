"""The server's log lines: the job that a request or a task is about, and what never gets into them (`agent.logs`)."""

import logging
import re
from collections.abc import Callable
from typing import Any

from celery import signals
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from agent.logs import Redaction, about_job, enter_job, job_at_work, job_in, redact
from agent.tracing import JOB, note

__all__ = ["Redaction", "about_job", "name_job", "redact", "tidy_access_logs"]

ROUTINE = re.compile(r"/api/agent/(?:heartbeat|job/[^/?]+/progress)/?")

# Of a task's message: the job that its sender worked on.
HEADER = "backup_job"


class Routine(logging.Filter):
    """Leaves out of uvicorn's log what agents say over and over, as long as it goes well."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Of a client, a method, a path, the version of HTTP and a status.
        told = record.args
        if not isinstance(told, tuple) or len(told) != 5:
            return True
        return told[4] != 200 or ROUTINE.fullmatch(str(told[2])) is None


def tidy_access_logs() -> None:
    """Put the filters on the web servers' own logs, which have handlers of their own."""
    for name in ("uvicorn.access", "django.server", "gunicorn.access"):
        log = logging.getLogger(name)
        # The first spares the second most lines of a server with many hosts.
        for kind in (Routine, Redaction):
            if not any(isinstance(known, kind) for known in log.filters):
                log.addFilter(kind())


def name_job(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: what is logged meanwhile belongs to the job that an agent's request is about."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        job = job_in(request.path)
        with about_job(job):
            note(JOB, job)
            return get_response(request)

    return respond


@signals.before_task_publish.connect
def send_job(headers: dict[str, Any] | None = None, **_details: Any) -> None:
    """Let a task know the job that it is started for."""
    if headers is not None and (job := job_at_work()) is not None:
        headers[HEADER] = job


@signals.task_prerun.connect
def take_job(task: Any = None, **_details: Any) -> None:
    """Have the lines of a task belong to the job that it was started for, until the next one of this thread."""
    told = (task.request.headers or {}).get(HEADER)
    enter_job(told if isinstance(told, str) else None)
