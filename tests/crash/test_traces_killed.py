"""Traces as a collector gets them from real processes: one tree over a failover and a SIGKILL, and no job waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry.trace_context import Trace, span_id_of
from providers.registry import plugins
from tests.support.collector import Collector, Received, collecting, tree_faults
from tests.support.pictures import picture_base64
from tests.support.processes import Stand, stand

CALLER = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
KEY = "collector-key-0123456789"
SERVER, CLIENT = 2, 3


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as taking:
        yield taking


def tracing(folder: Path, collector: Collector, *, render_s: float = 0.3) -> Any:
    """A vendor with two routes, and gateways that send their spans to the collector."""
    switches = {
        "latency": {model: {"kind": "constant", "mean_s": render_s} for model in ("svd",)},
        "queue": {"kind": "constant", "mean_s": 0.0},
    }
    telemetry = {"otlp_endpoint": collector.url, "otlp_headers": f"x-collector-key={KEY}", "service_name": "video"}
    return stand(folder, switches=switches, sections={"telemetry": telemetry})


def post(running: Stand) -> str:
    """Have a job admitted in the caller's trace; its id."""
    response = running.client.post(
        "/generate/video", json={"image": picture_base64()}, headers={"traceparent": str(CALLER)}
    )
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def lines_of(running: Stand, job_id: str) -> list[dict[str, Any]]:
    """What the gateways logged of a job."""
    lines = [json.loads(line) for line in running.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("job") == job_id]


def whole(collector: Collector, job_id: str) -> list[Received]:
    """The spans of the trace, once the job's own is there, which is told last."""
    job_span = span_id_of(job_id)
    collector.until(lambda spans: any(span.span_id == job_span for span in spans))
    return collector.of(CALLER.trace_id)


def test_a_failed_over_job_arrives_as_one_tree(tmp_path: Path, collector: Collector) -> None:
    """By protobuf over HTTP with the collector's key: request, job, two attempts, the first with its error."""
    with tracing(tmp_path, collector) as running:
        section = (plugins()["segmind"].simulator_settings or dict)(running.vendor.url)
        both = {**section, "routes": ("segmind/svd", "segmind/svd-sync")}
        running.sections = {**running.sections, "providers": {"segmind": both}}
        running.start()
        running.spoil("submit", "500")
        job = running.ended(post(running))
        spans = whole(collector, job["id"])
        assert [one["state"] for one in job["attempts"]] == ["failed", "succeeded"], job
        assert job["trace_id"] == CALLER.trace_id
        assert {line["trace_id"] for line in lines_of(running, job["id"])} == {CALLER.trace_id}
    assert tree_faults(spans, {CALLER.span_id}) == []
    by_id = {span.span_id: span for span in spans}
    first, second = (by_id[span_id_of(one["id"])] for one in job["attempts"])
    assert (first.failed, first.attributes["error.type"], first.kind) == (True, "server_error", CLIENT)
    assert (second.failed, second.kind) == (False, CLIENT)
    assert first.parent_id == second.parent_id == span_id_of(job["id"])
    assert first.attributes["gen_ai.provider.name"] == "segmind"
    assert second.attributes["vidgate.route"] == job["route"]
    edge = by_id[by_id[span_id_of(job["id"])].parent_id]
    assert (edge.name, edge.kind, edge.parent_id) == ("POST /generate/video", SERVER, CALLER.span_id)
    assert all(span.began_ns <= span.ended_ns for span in spans)
    assert {headers["x-collector-key"] for headers in collector.headers} == {KEY}


def test_a_killed_gateways_job_goes_on_in_its_trace(tmp_path: Path, collector: Collector) -> None:
    """SIGKILL while the vendor works: the spans of both processes are one tree, and its logs have the one id."""
    with tracing(tmp_path, collector, render_s=4.0) as running:
        first = running.start()
        job_id = post(running)
        # What the first process did has left it: its spans go out every second.
        collector.until(lambda spans: {"POST /generate/video", "submit segmind/svd"} <= {span.name for span in spans})
        first.kill()
        second = running.start()
        job = running.ended(job_id)
        spans = whole(collector, job_id)
        assert (job["status"], job["trace_id"], len(job["attempts"])) == ("succeeded", CALLER.trace_id, 1)
        lines = lines_of(running, job_id)
        assert second.stop() == 0
    assert tree_faults(spans, {CALLER.span_id}) == []
    sent_by = {span.name: span.instance for span in spans}
    assert sent_by["POST /generate/video"] != sent_by["job"] == sent_by["claim"]
    assert {"job.admitted", "job.claimed", "job.succeeded"} <= {line["event"] for line in lines}
    assert {line["trace_id"] for line in lines} == {CALLER.trace_id}


@pytest.mark.parametrize("status", [503, None], ids=["refuses", "is not there"])
def test_a_lost_collector_hurts_no_job(tmp_path: Path, collector: Collector, status: int | None) -> None:
    """The job is made and billed as ever, what could not be sent is counted, and the process ends in time."""
    if status is None:
        gone = Collector(url="http://127.0.0.1:9")
    else:
        collector.status, gone = status, collector
    with tracing(tmp_path, gone) as running:
        gateway = running.start()
        assert running.ended(post(running))["status"] == "succeeded"

        def failed() -> bool:
            text = running.client.get("/metrics").text
            return 'vidgate_trace_spans_total{outcome="failed"}' in text

        running.until(failed)
        assert gateway.stop() == 0
        assert KEY not in running.log()
    assert collector.spans == []
