"""A job can be followed by one trace id: in its trace, in every line of the log, in replies, webhooks and exemplars."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from unittest.mock import patch

import pytest

import gateway.app
from gateway import webhooks
from gateway.telemetry.trace_context import Trace, span_id_of
from gateway.telemetry.tracing import Span
from gateway.webhooks import NewWebhook
from providers.contract import Failed, FailureKind, Pending, Refused
from tests.api.test_billing import Receiver, told
from tests.support.collector import tree_faults
from tests.support.fixtures import Start
from tests.support.logs import Logged, logged
from tests.support.scripted import Lost, Scripted
from tests.support.wire import Wire

pytestmark = pytest.mark.anyio

CALLER = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)


class Kept:
    """Stands where spans leave the process, and keeps them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        self.spans.append(span)

    async def close(self) -> None:
        return

    def of(self, trace_id: str) -> list[Row]:
        return [Row(span) for span in self.spans if span.trace.trace_id == trace_id]


class Row:
    """A span as a collector would show it."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.name, self.parent_id, self.span_id = span.name, span.parent_id, span.trace.span_id


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Every gateway of the test tells its spans here."""
    outlet = Kept()
    with patch.object(gateway.app, "open_outlet", lambda *_: outlet):
        yield outlet


@pytest.fixture
def log() -> Iterator[Logged]:
    with logged() as lines:
        yield lines


def failing_over() -> tuple[Scripted, Scripted]:
    """A vendor that is slow to say no, and one that fails a render; then the first one delivers."""
    alpha = Scripted(checks=[Pending(), Failed(FailureKind.RENDER_FAILED, "a word of the vendor's")])
    alpha.submits.append(Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=1.0))
    return alpha, Scripted("beta", price_micros=150_000)


async def test_a_failed_over_job_is_one_tree(start: Start, kept: Kept) -> None:
    """Request, job, both attempts and each of their steps, under the caller's own span, each with its error."""
    bench = await start(*failing_over())
    response = await bench.post(headers={"traceparent": str(CALLER)})
    job = await bench.ended(response.json()["id"])
    rows = kept.of(CALLER.trace_id)
    assert tree_faults(rows, {CALLER.span_id}) == []
    by_id = {row.span_id: row.span for row in rows}
    whole = by_id[span_id_of(job["id"])]
    assert (whole.name, whole.error) == ("job", None)
    assert by_id[whole.parent_id or ""].name == "POST /generate/video"
    first, second = (by_id[span_id_of(one["id"])] for one in job["attempts"])
    assert (first.error, second.error) == ("render_failed", None)
    assert [first.parent_id, second.parent_id] == [whole.trace.span_id] * 2
    assert first.attributes["gen_ai.provider.name"] == "alpha"
    assert second.attributes["gen_ai.request.model"] == "beta-model"
    assert (first.attributes["vidgate.attempt.submits"], first.kind) == (2, "client")
    assert [name for _, name in first.events] == ["submit", "retry", "submit", "accepted", "failed"]
    assert whole.began_at <= first.began_at <= first.ended_at <= second.began_at <= second.ended_at <= whole.ended_at
    under = [row.name for row in rows if row.parent_id == first.trace.span_id]
    assert under.count("submit alpha/one") == 2
    assert under.count("check alpha/one") == 2
    under = [row.name for row in rows if row.parent_id == second.trace.span_id]
    for step in ("submit beta/one", "check beta/one", "verify", "store", "write succeed"):
        assert step in under
    refused = next(row.span for row in rows if row.span.error == "rate_limited")
    assert refused.attributes["vidgate.outcome"] == "refused"


async def test_the_same_id_is_everywhere(start: Start, kept: Kept, log: Logged) -> None:
    """In the 202, in `GET /jobs/{id}`, in `traceresponse`, in every line of the log, in exemplars."""
    bench = await start(*failing_over())
    response = await bench.post(headers={"traceparent": str(CALLER)})
    job_id = response.json()["id"]
    answered = Trace.parse(response.headers["traceresponse"])
    assert answered is not None
    assert (answered.trace_id, answered.sampled) == (CALLER.trace_id, True)
    job = await bench.ended(job_id)
    assert response.json()["trace_id"] == job["trace_id"] == CALLER.trace_id
    lines = log.of_job(job_id)
    assert {line["trace_id"] for line in lines} == {CALLER.trace_id}
    assert {line["team"] for line in lines} == {bench.team_id}
    told = [line["event"] for line in lines]
    for move in ("job.admitted", "attempt.started", "attempt.retry", "attempt.failed", "job.succeeded"):
        assert move in told
    assert all({"route", "attempt"} <= line.keys() for line in lines if line["event"].startswith("attempt."))
    scraped = await bench.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    of_spend = [line for line in scraped.text.splitlines() if line.startswith("vidgate_spend_micro_usd_total{")]
    assert f'trace_id="{CALLER.trace_id}"' in of_spend[0]
    # While the trace is recorded, what is counted on the way points to it as well.
    calls = [line for line in scraped.text.splitlines() if line.startswith("vidgate_vendor_call_seconds_bucket{")]
    assert any(f'trace_id="{CALLER.trace_id}"' in line for line in calls)


async def test_a_webhook_goes_on_in_the_trace(start: Start, kept: Kept, log: Logged) -> None:
    """Its body names the trace, its header the span of the send, which stands under the job."""
    wire, receiver = Wire(), Receiver()
    wire.apps["hook.test"] = receiver.app
    with patch.object(gateway.app, "Outbound", wire.outbound()):
        bench = await start(Scripted())
    await bench.write(webhooks.add_webhook, NewWebhook("hook_1", bench.team_id, "https://hook.test/in", 1.0))
    response = await bench.post(headers={"traceparent": str(CALLER)})
    job = await bench.ended(response.json()["id"])
    await told(bench, receiver, 1)
    headers, body = receiver.got[0]
    assert json.loads(body)["data"]["trace_id"] == CALLER.trace_id
    await bench.when(lambda: any(span.name == "send webhook" for span in kept.spans))
    sent = next(span for span in kept.spans if span.name == "send webhook")
    assert headers["traceparent"] == str(sent.trace)
    assert sent.parent_id == span_id_of(job["id"])
    assert sent.attributes["http.response.status_code"] == 204
    delivered = next(line for line in log.lines() if line["event"] == "webhook.delivered")
    assert delivered["trace_id"] == CALLER.trace_id
    assert sent.attributes["vidgate.event.id"] == delivered["event_id"] == headers["webhook-id"]


async def test_a_process_that_takes_a_job_up_goes_on_in_its_trace(start: Start, kept: Kept, log: Logged) -> None:
    """The one that died told of its part; the next says that it took the job up, and tells the rest: one tree."""
    alpha = Scripted(trouble=Pending(), trouble_s=60.0)
    first = await start(alpha, jobs={"lease_s": 15, "heartbeat_s": 4})
    response = await first.post(headers={"traceparent": str(CALLER)})
    job_id = response.json()["id"]
    await first.clock.sleep(30)
    before = len(kept.spans)
    assert before > 0
    await first.crash()
    await first.stop()  # type: ignore[misc]
    again = await start(alpha, jobs={"lease_s": 15, "heartbeat_s": 4})
    job = await again.ended(job_id)
    assert (job["status"], job["trace_id"]) == ("succeeded", CALLER.trace_id)
    assert tree_faults(kept.of(CALLER.trace_id), {CALLER.span_id}) == []
    after = [span.name for span in kept.spans[before:] if span.trace.trace_id == CALLER.trace_id]
    assert {"claim", "check alpha/one", "write succeed", "job"} <= set(after)
    claimed = next(line for line in log.lines() if line["event"] == "job.claimed")
    assert (claimed["job"], claimed["team"], claimed["trace_id"]) == (job_id, first.team_id, CALLER.trace_id)


async def test_a_replay_names_the_trace_of_the_job(start: Start, kept: Kept) -> None:
    """The second request has a trace of its own; the answer is the first one's, to the byte."""
    bench = await start(Scripted())
    first = await bench.post(headers={"idempotency-key": "once", "traceparent": str(CALLER)})
    again = await bench.post(headers={"idempotency-key": "once"})
    assert again.json()["trace_id"] == first.json()["trace_id"] == CALLER.trace_id
    answered = Trace.parse(again.headers["traceresponse"])
    assert answered is not None
    assert answered.trace_id != CALLER.trace_id


async def test_problems_carry_their_trace_too(start: Start, kept: Kept) -> None:
    """A refusal tells the trace to ask about; one of the caller's making is no error of the service."""
    bench = await start(Scripted())
    response = await bench.post(headers={"traceparent": str(CALLER)}, nonsense=1)
    assert response.status_code == 422
    assert response.headers["traceresponse"].split("-")[1] == CALLER.trace_id
    (row,) = [row for row in kept.of(CALLER.trace_id) if row.name == "POST /generate/video"]
    assert (row.span.error, row.span.attributes["vidgate.problem"]) == (None, "unknown-field")
    assert row.span.attributes["http.response.status_code"] == 422
    assert row.parent_id == CALLER.span_id


async def test_a_stranger_cannot_have_anything_recorded(start: Start, kept: Kept) -> None:
    """Outside the share a sampled `traceparent` counts once its sender is known, whichever trace id it chose."""
    bench = await start(Scripted(), telemetry={"trace_ratio": 0.0})
    for trace_id in (CALLER.trace_id, "0" * 31 + "1", "f" * 16 + "0" * 15 + "1"):
        wish = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        for headers in ({"authorization": "Bearer vg_wrong"}, {"authorization": ""}):
            answer = await bench.client.get("/jobs", headers={**wish, **headers})
            assert (answer.status_code, answer.headers["traceresponse"][-3:]) == (401, "-00")
        assert (await bench.client.get("/openapi.json", headers=wish)).status_code == 200
        assert (await bench.client.get("/inputs/x.png", headers=wish)).status_code == 404
    assert kept.spans == []
    known = await bench.client.get("/jobs", headers={"traceparent": str(CALLER)})
    assert known.headers["traceresponse"].endswith("-01")
    assert [row.name for row in kept.of(CALLER.trace_id)] == ["GET /jobs"]


@pytest.mark.parametrize("header", [str(CALLER)[:-2] + "00", None], ids=["the caller says no", "outside the share"])
async def test_what_is_not_sampled_makes_no_span(start: Start, kept: Kept, log: Logged, header: str | None) -> None:
    """Not one, from the request to the bill; the id is there all the same."""
    bench = await start(*failing_over(), telemetry={"trace_ratio": 0.0})
    response = await bench.post(headers={"traceparent": header} if header else {})
    job = await bench.ended(response.json()["id"])
    assert kept.spans == []
    assert len(job["trace_id"]) == 32
    assert {line["trace_id"] for line in log.of_job(job["id"])} == {job["trace_id"]}


async def test_without_a_collector_nothing_is_recorded_and_all_can_be_followed(start: Start, log: Logged) -> None:
    """No endpoint is the default: the id is on the job and in the log; the reply says that nothing is recorded."""
    bench = await start(Scripted())
    response = await bench.post()
    job = await bench.ended(response.json()["id"])
    assert response.headers["traceresponse"].endswith("-00")
    assert {line["trace_id"] for line in log.of_job(job["id"])} == {job["trace_id"]}


async def test_probes_and_scrapes_are_not_traced(start: Start, kept: Kept) -> None:
    """They are asked for ever and by nobody in particular."""
    bench = await start(Scripted())
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await bench.client.get(path)).status_code == 200
    assert kept.spans == []
    await bench.client.get("/routes")
    assert [span.name for span in kept.spans] == ["GET /routes"]


async def test_spans_of_jobs_side_by_side_are_not_mixed_up(start: Start, kept: Kept) -> None:
    """Thirty at a time, with doubts and failovers: every span of a job is in that job's trace."""
    alpha = Scripted(looks_up=True)
    alpha.submits += [Lost(accepted=True), Refused(FailureKind.SERVER_ERROR, "500")] * 5
    bench = await start(alpha, Scripted("beta", price_micros=150_000))
    ids = await asyncio.gather(*(bench.submit() for _ in range(30)))
    jobs = [await bench.ended(job_id) for job_id in ids]
    traces = {job["id"]: job["trace_id"] for job in jobs}
    assert len(set(traces.values())) == 30
    seen = 0
    for span in kept.spans:
        job_id = span.attributes.get("vidgate.job.id")
        if job_id is not None:
            assert span.trace.trace_id == traces[str(job_id)]
            seen += 1
    assert seen > 30 * 6
    for job in jobs:
        assert tree_faults(kept.of(job["trace_id"]), {None}) == []
