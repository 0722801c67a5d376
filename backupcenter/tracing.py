"""Traces of the server's processes, if they are wanted (`agent.tracing`).

A trace goes on from a request to the task that it starts, and to the agent's requests about its job: the headers of the messages
and of the requests carry it. Beat is left out: what it starts, or the job that comes of it, begins a trace.
"""

from django.conf import settings

from agent.tracing import JOB, note, sending, turn_on

__all__ = ["JOB", "note", "sending", "trace_web", "trace_worker"]

# Tasks that come more often than that begin no trace: they mostly find nothing to do.
ROUND_S = 60.0


def trace_web() -> None:
    """Trace requests; to be called when Django is set up, and before a handler takes its middleware from the settings."""

    def instrument() -> None:
        from opentelemetry.instrumentation.django import DjangoInstrumentor

        from agent.spans import UNTRACED

        DjangoInstrumentor().instrument(excluded_urls=UNTRACED)
        _trace_queries()

    turn_on("backupcenter-web", instrument)


def trace_worker() -> None:
    """Trace tasks."""

    def instrument() -> None:
        from agent.spans import trace_tasks

        trace_tasks()
        _trace_queries()

    turn_on("backupcenter-worker", instrument, rounds())


def rounds() -> frozenset[str]:
    """Return the tasks that beat starts more often than once a minute."""
    schedule = settings.CELERY_BEAT_SCHEDULE.values()
    return frozenset(
        each["task"] for each in schedule if isinstance(each["schedule"], float) and each["schedule"] < ROUND_S
    )


def _trace_queries() -> None:
    """Trace PostgreSQL's part: its statements, without what they are about. SQLite's is part of the Python that waits for it."""
    if settings.DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
        from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

        PsycopgInstrumentor().instrument()
