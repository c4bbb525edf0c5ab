"""Spans over the wire: what a collector reads, and that one which is slow, full or missing keeps nobody."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

import gateway.telemetry.export
from gateway.config_checks import relations
from gateway.settings import Settings, TelemetrySection, read_headers
from gateway.telemetry import otlp
from gateway.telemetry.export import TracingError, open_outlet
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace_context import Trace
from gateway.telemetry.tracing import Span
from tests.support.collector import collecting

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
SPAN = Span(
    "submit a/b",
    "client",
    TRACE,
    "1122334455667788",
    1_700_000_000.25,
    1_700_000_001.5,
    {"vidgate.job.id": "job_1", "vidgate.attempt.number": 2},
    "rate_limited",
    ((1_700_000_000.5, "retry"),),
)


def settings(**telemetry: Any) -> Settings:
    return Settings.model_validate({"security": {"signing_secret": "x" * 24}, "telemetry": telemetry})


def outlet(endpoint: str, **telemetry: Any) -> tuple[otlp.OtlpOutlet, Metrics]:
    metrics = Metrics()
    return otlp.OtlpOutlet(TelemetrySection(otlp_endpoint=endpoint, **telemetry), metrics, "bus_1"), metrics


def counted(metrics: Metrics, outcome: str) -> float:
    value = metrics.registry.get_sample_value("vidgate_trace_spans_total", {"outcome": outcome})
    return value or 0.0


def test_a_collector_reads_what_was_told() -> None:
    """Ids, parent, kind, times to the microsecond, attributes, error, events, and who sent it."""
    with collecting() as collector:
        sending, metrics = outlet(collector.url, otlp_headers="x-key=a%20b", service_name="video")
        sending.put(SPAN)
        sending.put(replace(SPAN, trace=TRACE.at("aa00000000000001"), parent_id=None, error=None, kind="server"))
        asyncio.run(sending.close())
        one, other = collector.spans
    assert (one.name, one.trace_id, one.span_id) == (SPAN.name, TRACE.trace_id, TRACE.span_id)
    assert (one.parent_id, one.kind, one.failed) == ("1122334455667788", 3, True)
    assert (one.began_ns, one.ended_ns) == (1_700_000_000_250_000_000, 1_700_000_001_500_000_000)
    assert one.attributes == {"vidgate.job.id": "job_1", "vidgate.attempt.number": 2, "error.type": "rate_limited"}
    assert (one.events, one.instance) == (("retry",), "bus_1")
    assert (other.parent_id, other.kind, other.failed) == ("", 2, False)
    assert collector.headers[0]["x-key"] == "a b"
    assert (counted(metrics, "exported"), counted(metrics, "failed")) == (2, 0)


def test_a_full_queue_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst over the bound is forgotten at once; what has its place arrives."""
    monkeypatch.setattr(otlp, "QUEUE_MAX", 100)
    monkeypatch.setattr(otlp, "BATCH_MAX", 100)
    monkeypatch.setattr(otlp, "DELAY_S", 3600.0)
    with collecting() as collector, collector.came:  # the collector does not answer as long as this holds its lock
        sending, metrics = outlet(collector.url)
        for number in range(250):
            sending.put(replace(SPAN, trace=TRACE.at(f"{number + 1:016x}")))
        assert counted(metrics, "dropped") == 150
        collector.came.release()
        try:
            asyncio.run(sending.close())
        finally:
            collector.came.acquire()
        assert len(collector.spans) == 100
        assert counted(metrics, "exported") == 100


def test_a_collector_that_never_answers_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and says nothing: the end waits for a moment and counts what was lost."""
    monkeypatch.setattr(otlp, "FLUSH_S", 0.2)
    monkeypatch.setattr(otlp, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        sending, metrics = outlet(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        began_s = time.monotonic()
        for number in range(600):
            sending.put(replace(SPAN, trace=TRACE.at(f"{number + 1:016x}")))
        assert time.monotonic() - began_s < 5  # a put never waits
        asyncio.run(sending.close())
        assert time.monotonic() - began_s < 20
    assert counted(metrics, "failed") == 600


def test_an_endpoint_without_the_packages_is_refused_with_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the check of the configuration and at the start; without an endpoint nobody asks for them."""
    monkeypatch.setattr(gateway.telemetry.export, "PACKAGE", "opentelemetry_that_is_not_there.exporter")
    asked = settings(otlp_endpoint="http://collector:4318")
    (problem,) = relations(asked)
    assert problem.path == ("telemetry", "otlp_endpoint")
    assert "pip install 'vidgate[otel]'" in problem.detail
    with pytest.raises(TracingError, match=r"telemetry\.otlp_endpoint needs .*vidgate\[otel\]"):
        open_outlet(asked.telemetry, Metrics(), "bus_1")
    assert relations(settings()) == []
    assert open_outlet(settings().telemetry, Metrics(), "bus_1") is None


@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317", "http://", "http://me:key@collector:4318"])
def test_an_endpoint_that_is_none_is_refused(url: str) -> None:
    """A scheme that is not HTTP, no host, a key in the address."""
    with pytest.raises(ValidationError, match=r"such as http://collector:4318"):
        settings(otlp_endpoint=url)


def test_the_path_of_traces_may_be_written_or_not() -> None:
    """Both are in use."""
    for url in ("https://collector/otlp", "https://collector/otlp/", "https://collector/otlp/v1/traces"):
        assert settings(otlp_endpoint=url).telemetry.otlp_endpoint == "https://collector/otlp"


def test_headers_are_pairs_and_a_bad_one_is_not_repeated() -> None:
    """In OpenTelemetry's own form; the fault is told without the secret."""
    assert read_headers("Authorization=Bearer%20abc, x-team = video ,") == {
        "authorization": "Bearer abc",
        "x-team": "video",
    }
    for text in ("just-a-key-0123", "=value-0123", "  "):
        with pytest.raises(ValidationError, match="name=value") as refused:
            settings(otlp_headers=text)
        assert "0123" not in str(refused.value.errors(include_input=False))
    assert "hidden-0123" not in repr(settings(otlp_headers="a=hidden-0123"))
