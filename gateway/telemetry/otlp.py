"""Spans out of the process: OTLP over HTTP by OpenTelemetry's own SDK, from a thread beside the event loop.

A collector that is slow or away costs no job anything: spans wait in a queue of bounded length, and what does not fit
or is not taken is counted and forgotten. Certificates, a proxy and attributes of the resource can be given to the SDK
by its own environment variables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import set_span_in_context as in_context

from gateway.settings import TelemetrySection, read_headers
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Span

NAME = "vidgate"
PATH = "/v1/traces"
QUEUE_MAX = 8192
BATCH_MAX = 512
DELAY_S = 1.0
TIMEOUT_S = 3.0
# How long the end of the process waits for a collector.
FLUSH_S = 2.0
KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}


class OtlpOutlet:
    """Hands spans to the SDK's batch processor, no more at a time than its queue holds."""

    def __init__(self, settings: TelemetrySection, metrics: Metrics, origin: str) -> None:
        secret = settings.otlp_headers
        self._metrics = metrics
        self._exporter = _CountedExporter(
            OTLPSpanExporter(
                f"{settings.otlp_endpoint}{PATH}",
                headers=read_headers(secret.get_secret_value()) if secret is not None else {},
                timeout=TIMEOUT_S,
            ),
            metrics,
        )
        named = {"service.name": settings.service_name, "service.version": version(NAME), "service.instance.id": origin}
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what comes here was chosen before
            resource=Resource.create(named),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=QUEUE_MAX,
                max_export_batch_size=BATCH_MAX,
                schedule_delay_millis=DELAY_S * 1000,
            )
        )
        self._tracer = self._provider.get_tracer(NAME, version(NAME))
        self._handed = 0

    def put(self, span: Span) -> None:
        """Take a span, or count it as dropped while the queue is full."""
        if self._handed - self._exporter.taken >= QUEUE_MAX:
            self._metrics.count("vidgate_trace_spans", outcome="dropped")
            return
        self._handed += 1
        self._ids.trace_id, self._ids.span_id = int(span.trace.trace_id, 16), int(span.trace.span_id, 16)
        told = self._tracer.start_span(
            span.name,
            context=_parent(span),
            kind=KINDS[span.kind],
            attributes=span.attributes,
            start_time=_nanoseconds(span.began_at),
        )
        for at, name in span.events:
            told.add_event(name, timestamp=_nanoseconds(at))
        if span.error is not None:
            told.set_attribute("error.type", span.error)
            told.set_status(Status(StatusCode.ERROR))
        told.end(_nanoseconds(span.ended_at))

    async def close(self) -> None:
        """Send what is left, for as long as `FLUSH_S`; a collector that does not answer keeps nobody."""
        flush = asyncio.create_task(asyncio.to_thread(self._provider.force_flush))
        await asyncio.wait([flush], timeout=FLUSH_S)
        self._exporter.close()
        await asyncio.gather(flush, asyncio.to_thread(self._provider.shutdown), return_exceptions=True)


class _GivenIds(IdGenerator):
    """The ids of the record that is being handed on."""

    trace_id = 0
    span_id = 0

    def generate_span_id(self) -> int:
        return self.span_id

    def generate_trace_id(self) -> int:
        return self.trace_id


class _CountedExporter(SpanExporter):
    """Counts what the collector took and what it did not. `taken` is what has left the queue for good."""

    def __init__(self, inner: SpanExporter, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics
        self._closed = False
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE if self._closed else self._inner.export(spans)
        outcome = "exported" if result is SpanExportResult.SUCCESS else "failed"
        self._metrics.count("vidgate_trace_spans", len(spans), outcome=outcome)
        self.taken += len(spans)
        return result

    def close(self) -> None:
        """Try nothing more, and leave off what is being tried again."""
        self._closed = True
        self._inner.shutdown()

    def shutdown(self) -> None:
        """Part of the SDK's end, which `close` comes before."""


def _parent(span: Span) -> Context:
    if span.parent_id is None:
        return Context()
    parent = SpanContext(
        int(span.trace.trace_id, 16), int(span.parent_id, 16), is_remote=True, trace_flags=TraceFlags.get_default()
    )
    return in_context(NonRecordingSpan(parent), Context())


def _nanoseconds(at: float) -> int:
    return round(at * 1_000_000) * 1000  # a float of unix seconds is good for microseconds
