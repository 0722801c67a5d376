"""Traces of the agent and of the server for an OpenTelemetry collector: off unless the environment names one.

While they are off nothing of OpenTelemetry is imported, and what is here does nothing. What begins a trace, and what of it leaves
the process, is said in `agent.spans`.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
JOB = "backup.job_id"

_is_on = False


def trace_agent() -> None:
    """Trace the agent's tasks and its requests to the server, if that is wanted."""

    def instrument() -> None:
        from opentelemetry.instrumentation.requests import RequestsInstrumentor

        from agent.spans import UNTRACED, trace_tasks

        trace_tasks()
        RequestsInstrumentor().instrument(excluded_urls=UNTRACED)

    turn_on("backupcenter-agent", instrument)


def turn_on(service: str, instrument: Callable[[], None], rounds: frozenset[str] = frozenset()) -> None:
    """Send traces from now on if the environment names a collector; say so if the packages for that are missing.

    `service`: what this process is called there; `instrument` wraps the libraries that it uses; `rounds`: tasks that begin no
    trace.
    """
    global _is_on
    wanted = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if _is_on or wanted is None:
        return
    try:
        from agent.spans import send_spans

        send_spans(service, rounds)
        instrument()
    except ImportError as error:
        remedy = "pip install -r requirements-tracing.txt, or on an agent's host its wheel with the extra [tracing]"
        log.error("%s is set, but nothing is traced: a package is missing (%s). What helps: %s", wanted, error, remedy)
        return
    _is_on = True
    log.info("traces of %s are sent to the collector that %s names", service, wanted)


def note(name: str, value: str | int | None) -> None:
    """Give what is traced at the moment an attribute; None: none."""
    if not _is_on or value is None:
        return
    from opentelemetry.trace import get_current_span

    get_current_span().set_attribute(name, value)


@contextmanager
def sending(task: str) -> Iterator[dict[str, str]]:
    """Trace the sending of a task by its name; yield the headers that have the task go on with the trace."""
    if not _is_on:
        yield {}
        return
    from agent.spans import sending_span

    with sending_span(task) as headers:
        yield headers
