"""Traces: when there are any, what begins one, and what of it leaves the process."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from celery import signals
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from agent import spans, tracing
from agent.logs import JsonLines, about_job
from backupcenter.tracing import rounds

SECRET = "planted-1Xq"


class Sent:
    """What an exporter was given, by a provider that is nobody else's."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(spans.Beginnings(ParentBased(ALWAYS_ON), frozenset({"jobs.tick"})))
        provider.add_span_processor(spans.JobOfSpans())
        provider.add_span_processor(SimpleSpanProcessor(spans.Cleaned(self.exporter)))
        self.tracer = provider.get_tracer("tests")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    made = Sent()
    monkeypatch.setattr(trace, "get_tracer", lambda *_names: made.tracer)
    return made


def test_nothing_of_tracing_is_imported_unless_a_collector_is_named() -> None:
    code = (
        "import sys, backupcenter.asgi, agent.app, agent.tracing, backupcenter.tracing as tracing;"
        "agent.tracing.trace_agent(); tracing.trace_web(); tracing.trace_worker(); tracing.note('backup.job_id', 'backup-1');"
        "print([name for name in sys.modules if name.startswith(WANTED)])"
    )
    # redis' own client imports the metrics of the SDK wherever it is installed.
    wanted = ("agent.spans", "google.protobuf", *(f"opentelemetry.{name}" for name in ("exporter", "instrumentation", "sdk.trace")))
    code = f"WANTED = {wanted};" + code
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment = {**kept, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("variable", tracing.ENDPOINTS)
def test_a_collector_that_is_named_without_the_packages_is_told_in_the_log(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.delitem(sys.modules, "agent.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    tracing.trace_agent()
    (line,) = caplog.messages
    assert line.startswith(f"{variable} is set, but nothing is traced: a package is missing (")
    assert "pip install -r requirements-tracing.txt" in line
    with tracing.sending("agent.run_job") as headers:
        assert headers == {}


def test_requests_messages_and_tasks_begin_traces_and_rounds_do_not(sent: Sent) -> None:
    for name, kind in {
        "GET": SpanKind.SERVER,
        "run/jobs.report": SpanKind.CONSUMER,
        "run/jobs.tick": SpanKind.CONSUMER,
        "SELECT": SpanKind.CLIENT,
        "inside": SpanKind.INTERNAL,
    }.items():
        with sent.tracer.start_as_current_span(name, kind=kind), sent.tracer.start_as_current_span(f"in {name}"):
            pass
    assert sent.names == ["in GET", "GET", "in run/jobs.report", "run/jobs.report"]


def test_only_what_beat_starts_all_the_time_is_a_round() -> None:
    assert {"jobs.tick", "jobs.watch", "clients.guard_broker", "records.notify"} <= rounds()
    assert not rounds() & {"jobs.report", "jobs.apply_retention", "records.sync_records", "records.run_maintenance"}


def test_a_message_goes_on_with_the_trace_that_it_is_sent_in(sent: Sent) -> None:
    request_span = sent.tracer.start_as_current_span("POST", kind=SpanKind.SERVER)
    with request_span, about_job("backup-7"), spans.sending_span("agent.run_job") as headers:
        pass
    message, request = sent.spans
    assert request.context is not None
    assert message.context is not None
    assert message.parent is not None
    assert (message.parent.span_id, message.name) == (request.context.span_id, "send/agent.run_job")
    assert (message.attributes or {})[tracing.JOB] == "backup-7"
    assert headers["traceparent"].split("-")[1:3] == [f"{message.context.trace_id:032x}", f"{message.context.span_id:016x}"]


def test_a_message_that_a_round_sends_begins_a_trace(sent: Sent) -> None:
    with sent.tracer.start_as_current_span("run/jobs.tick", kind=SpanKind.CONSUMER), spans.sending_span("agent.run_job") as headers:
        pass
    (message,) = sent.spans
    assert message.parent is None
    assert message.context is not None
    assert headers["traceparent"].split("-")[1] == f"{message.context.trace_id:032x}"


def test_a_message_that_cannot_be_sent_is_no_part_of_what_follows(sent: Sent) -> None:
    with pytest.raises(OSError, match=SECRET), spans.sending_span("agent.run_job"):
        raise OSError(SECRET)
    assert not trace.get_current_span().get_span_context().is_valid
    (message,) = sent.spans
    assert message.status.status_code == StatusCode.ERROR


def test_celerys_own_spans_of_sending_are_not_made() -> None:
    before = len(signals.before_task_publish.receivers), len(signals.task_prerun.receivers)
    spans.trace_tasks()
    try:
        assert (len(signals.before_task_publish.receivers), len(signals.task_prerun.receivers)) == (before[0], before[1] + 1)
    finally:
        spans.Tasks().uninstrument()
    assert (len(signals.before_task_publish.receivers), len(signals.task_prerun.receivers)) == before


def test_what_leaves_is_known_to_be_harmless(sent: Sent) -> None:
    attributes = {
        "url.full": f"http://user:{SECRET}@host:80/login?password={SECRET}#{SECRET}",
        "url.query": f"password={SECRET}",
        "http.request.header.authorization": (f"Token {SECRET}",),
        "celery.retry.reason": SECRET,
        "db.user": SECRET,
        "http.route": "login",
    }
    request = sent.tracer.start_as_current_span("GET", kind=SpanKind.SERVER, attributes=attributes)
    with pytest.raises(ValueError, match=SECRET), request:
        raise ValueError(SECRET)
    (span,) = sent.spans
    assert dict(span.attributes or {}) == {"url.full": "http://host:80/login", "http.route": "login"}
    (event,) = span.events
    assert dict(event.attributes or {}) == {"exception.type": "ValueError"}
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert SECRET not in span.to_json()


def test_a_log_line_names_the_trace_that_it_is_written_in(sent: Sent) -> None:
    make = spans._naming_traces(logging.LogRecord)

    def written() -> dict[str, object]:
        return dict(json.loads(JsonLines().format(make("some", logging.INFO, "", 0, "message", (), None))))

    with sent.tracer.start_as_current_span("GET", kind=SpanKind.SERVER) as span:
        assert written()["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    with sent.tracer.start_as_current_span("left out"):
        assert "trace_id" not in written()
    assert "trace_id" not in written()
