"""Log lines: the job that each belongs to, as JSON, and without secrets."""

import json
import logging
from typing import Any

import pytest
from celery import Celery

from agent.logs import JobField, JsonLines, Redaction, about_job, job_at_work
from backupcenter import logs


def written(message: object, *arguments: object, **fields: Any) -> dict[str, Any]:
    """Return the line as the server and the agent write it."""
    record = logging.getLogger("some").makeRecord("some", logging.INFO, "", 0, message, arguments, None, extra=fields)
    for each in (Redaction(), JobField()):
        each.filter(record)
    return dict(json.loads(JsonLines().format(record)))


@pytest.mark.parametrize(
    ("message", "job"),
    [
        ("job=backup-12 claimed", "backup-12"),
        ('127.0.0.1 - "POST /api/agent/job/recovery-3/finish HTTP/1.1" 200', "recovery-3"),
        ("a file named job=backup-12", "backup-1"),
        ("job=backup-12345678901234567890 is no job", "backup-1"),
        ("nothing", "backup-1"),
    ],
)
def test_a_line_belongs_to_the_job_that_it_names_or_that_is_worked_on(message: str, job: str) -> None:
    with about_job("backup-1"):
        assert written(message)["job"] == job
    assert written("nothing")["job"] is None


def test_a_line_has_its_fields_and_nothing_that_a_caller_adds() -> None:
    line = written("%s is %d", "a", 1, request="<WSGIRequest: GET '/login?password=secret'>")
    assert (line["message"], line["level"], line["logger"], "time" in line) == ("a is 1", "INFO", "some", True)
    assert "secret" not in json.dumps(line)


def test_secrets_are_masked_wherever_they_are() -> None:
    class Thing:
        def __str__(self) -> str:
            return "GET /api/event?token=secret"

    record = logging.getLogger("some").makeRecord("some", logging.ERROR, "", 0, "failed: %s", (Thing(),), None)
    JobField().filter(record)
    record.exc_text = "ValueError: /login?password=secret"
    text = JsonLines().format(record)
    assert "secret" not in text
    assert "ValueError" in text


def test_a_task_belongs_to_the_job_that_it_was_started_for() -> None:
    app = Celery("some", broker="memory://", set_as_current=False, fixups=[])
    seen: list[str | None] = []

    @app.task(name="look")
    def look() -> None:
        seen.append(job_at_work())

    def start(job: str | None) -> None:
        headers: dict[str, Any] = {}
        with about_job(job):
            logs.send_job(headers=headers)
        look.apply(headers=headers)

    with about_job(None):
        for job in ("backup-7", None):
            start(job)
    assert seen == ["backup-7", None]


@pytest.mark.parametrize(
    ("path", "status", "is_kept"),
    [
        ("/api/agent/heartbeat", 200, False),
        ("/api/agent/job/backup-12/progress", 200, False),
        ("/api/agent/heartbeat", 401, True),
        ("/api/agent/job/backup-12/progress", 409, True),
        ("/api/agent/job/backup-12/finish", 200, True),
        ("/api/agent/heartbeat?token=x", 200, True),
        ("/api/backup", 200, True),
    ],
)
def test_an_access_log_leaves_out_what_agents_say_over_and_over_if_it_is_not_refused(path: str, status: int, is_kept: bool) -> None:
    log, told = logging.getLogger("uvicorn.access"), ("[::1]:1", "POST", path, "1.1", status)
    record = log.makeRecord(log.name, logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', told, None)
    assert bool(log.filter(record)) == is_kept
