"""A collector on loopback: takes OTLP over HTTP as a real one does, reads the protobuf and keeps the spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

PATH = "/v1/traces"


@dataclass(frozen=True)
class Received:
    """One span as it came over the wire; `instance` is the process that sent it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Any]
    failed: bool
    events: tuple[str, ...]
    instance: str


@dataclass
class Collector:
    """What has come so far, and how the next posts are answered."""

    url: str = ""
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    @property
    def spans(self) -> list[Received]:
        return [span for body in list(self.bodies) for span in read(body)]

    def of(self, trace_id: str) -> list[Received]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def until(self, true: Any, within_s: float = 20.0) -> list[Received]:
        """All spans, once they are as they should be."""
        with self.came:
            assert self.came.wait_for(lambda: true(self.spans), within_s), [span.name for span in self.spans]
        return self.spans


def read(body: bytes) -> Iterator[Received]:
    """The spans of one request."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        about = values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=span.kind,
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    attributes=values(span.attributes),
                    failed=span.status.code == Status.STATUS_CODE_ERROR,
                    events=tuple(event.name for event in span.events),
                    instance=about["service.instance.id"],
                )


def values(pairs: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    return getattr(pair.value, pair.value.WhichOneof("value"))


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector for the length of the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            right = self.path == PATH and self.headers["content-type"] == "application/x-protobuf"
            with collector.came:
                status = collector.status if right else 404
                if status == 200:
                    collector.bodies.append(body)
                    collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                collector.came.notify_all()
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)


def tree_faults(spans: list[Any], roots: set[Any]) -> list[str]:
    """Spans whose parent is neither a span that came nor one of `roots`, and ids that came twice."""
    ids = [span.span_id for span in spans]
    strays = [f"{span.name} has no parent" for span in spans if span.parent_id not in {*ids, *roots}]
    return strays + [f"{span.name} came twice" for span in spans if ids.count(span.span_id) > 1]
