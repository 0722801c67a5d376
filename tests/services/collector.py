"""A collector of traces: it keeps the spans that are sent to it by OTLP over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collected(NamedTuple):
    """A span. `trace`, `id`, `parent`: in hexadecimal digits, "" for no parent; `service`: which process made it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]


class Collector(ThreadingHTTPServer):
    """`spans`: all that came; `raw`: what was sent, as text to be searched."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Collected] = []
        self.raw: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which a process sends its traces here, soon."""
        address = f"http://127.0.0.1:{self.server_port}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def named(self, service: str, name: str) -> list[Collected]:
        return [span for span in self.spans if (span.service, span.name) == (service, name)]

    def trace_of(self, span: Collected) -> set[tuple[str, str]]:
        """Return service and name of all spans of a span's trace."""
        return {(each.service, each.name) for each in self.spans if each.trace == span.trace}


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.raw.append(str(sent))
        for group in sent.resource_spans:
            service = _values(group.resource.attributes)["service.name"]
            for span in (span for scope in group.scope_spans for span in scope.spans):
                ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                self.server.spans.append(Collected(service, span.name, *ids, _values(span.attributes)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector for the length of the block."""
    with Collector() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()
