"""What is traced, and what of it leaves the process. Importing this needs the packages of `requirements-tracing.txt`.

Spans are made by OpenTelemetry's own instrumentations, which put into them whatever they see: addresses with passwords in them,
texts of errors. So what leaves is a list of attributes that are known to be harmless, and nothing else.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from celery import signals
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status, TraceState, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes, AttributeValue

from agent.logs import job_at_work
from agent.tracing import JOB
from engine import __version__

# Requests that come all the time and say the same: patterns of addresses, separated by commas.
UNTRACED = r"/metrics/?$,/static/,/api/agent/heartbeat/?$,/api/agent/job/[^/]+/progress/?$"
# A query or a request by itself, as threads that look after something make them, is no story.
BEGINNINGS = {SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER}

ADDRESS = "url.full"
KEPT = {
    ADDRESS,
    JOB,
    "backup.maintenance_id",
    "celery.action",
    "celery.retries",
    "celery.state",
    "celery.task_name",
    "client.address",
    "db.name",
    "db.namespace",
    "db.query.text",
    "db.statement",
    "db.system",
    "db.system.name",
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "messaging.destination",
    "messaging.message.id",
    "server.address",
    "server.port",
    "url.path",
    "url.scheme",
    "user_agent.original",
}
# Of an error what it is; its text is written for the log, which masks secrets.
KEPT_OF_EVENTS = {"exception.type"}


def send_spans(service: str, rounds: frozenset[str]) -> None:
    """Send what is traced from now on to the collector that the environment names, and have log lines name their trace."""
    # The names of attributes that are settled by now.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    # Of a collector that does not answer one line for each batch, not one for each attempt.
    logging.getLogger(OTLPSpanExporter.__module__).setLevel(logging.ERROR)
    provider = TracerProvider(resource=_resource(service))
    provider.sampler = Beginnings(provider.sampler, rounds)
    provider.add_span_processor(JobOfSpans())
    provider.add_span_processor(BatchSpanProcessor(Cleaned(OTLPSpanExporter())))
    trace.set_tracer_provider(provider)
    # Without baggage: whoever sends a request could have it carried to every agent.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    logging.setLogRecordFactory(_naming_traces(logging.getLogRecordFactory()))


def trace_tasks() -> None:
    """Trace the tasks that this process runs."""
    Tasks().instrument()  # type: ignore[no-untyped-call]


@contextmanager
def sending_span(task: str) -> Iterator[dict[str, str]]:
    """Trace the sending of a task; yield the headers for its message."""
    tracer = trace.get_tracer(__name__)
    # What a round sends begins a trace of its own, as the round has none.
    context = Context() if _is_left_out(trace.get_current_span()) else None
    attributes = {"celery.action": "send", "celery.task_name": task}
    headers: dict[str, str] = {}
    with tracer.start_as_current_span(f"send/{task}", context, SpanKind.PRODUCER, attributes):
        propagate.inject(headers)
        yield headers


class Tasks(CeleryInstrumentor):
    """Celery's instrumentation without its spans of sending, of which those of a task that only others know never end.

    Nor do those of a message that the broker did not take. See `sending_span`.
    """

    def _instrument(self, **options: Any) -> None:
        super()._instrument(**options)  # type: ignore[no-untyped-call]
        signals.before_task_publish.disconnect(self._trace_before_publish)
        signals.after_task_publish.disconnect(self._trace_after_publish)


class Beginnings(Sampler):
    """Leaves out traces that nobody would look at; of the others the environment's own sampler decides."""

    def __init__(self, chosen: Sampler, rounds: frozenset[str]) -> None:
        self._chosen, self._rounds = chosen, {f"run/{task}" for task in rounds}

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        is_first = not trace.get_current_span(parent_context).get_span_context().is_valid
        if is_first and (kind not in BEGINNINGS or name in self._rounds):
            return SamplingResult(Decision.DROP)
        return self._chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"Beginnings{{{self._chosen.get_description()}}}"


class JobOfSpans(SpanProcessor):
    """Gives each span the job that is worked on when it begins, as log lines have it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if (job := job_at_work()) is not None:
            span.set_attribute(JOB, job)


class Cleaned(SpanExporter):
    """Hands on to another exporter what of each span may leave the process."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([cleaned(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def cleaned(span: ReadableSpan) -> ReadableSpan:
    """Return the span with no attribute but those that are known, and with the kinds of its errors, not their texts."""
    attributes = _only(KEPT, span.attributes)
    if ADDRESS in attributes:
        attributes[ADDRESS] = _place(str(attributes[ADDRESS]))
    events = [Event(event.name, _only(KEPT_OF_EVENTS, event.attributes), event.timestamp) for event in span.events]
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=[Link(link.context) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _only(known: set[str], attributes: Attributes) -> dict[str, AttributeValue]:
    return {name: value for name, value in (attributes or {}).items() if name in known}


def _place(address: str) -> str:
    """Return an address without its user, password and query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _resource(service: str) -> Resource:
    """Return what tells this process from others: what the environment says, for the rest what is known here."""
    return Resource({SERVICE_NAME: service, "service.version": __version__}).merge(_said_by_environment())


def _said_by_environment() -> Resource:
    said = Resource.create()
    # The SDK makes up a name where it is told none.
    made_up = str(said.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    return Resource({name: value for name, value in said.attributes.items() if not (made_up and name == SERVICE_NAME)})


def _is_left_out(span: trace.Span) -> bool:
    about = span.get_span_context()
    return about.is_valid and not about.trace_flags.sampled


def _naming_traces(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Return a maker of log records that name the trace to which they belong, if it is one that is sent."""

    def make_record(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        about = trace.get_current_span().get_span_context()
        if about.trace_flags.sampled:
            record.trace_id = format_trace_id(about.trace_id)
        return record

    return make_record
