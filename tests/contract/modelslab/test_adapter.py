"""The adapter against the simulated vendor: every parameter, the wallet, evidence, uploads, webhooks."""

from __future__ import annotations

import asyncio
import io
import json

import av
import httpx
import pytest

from providers.contract import (
    Accepted,
    Balance,
    Failed,
    FailureKind,
    Finished,
    HasBalance,
    HasCancel,
    HasLookup,
    HasUpload,
    InDoubt,
    NoEvidence,
    NotFound,
    Pending,
    Refused,
    SentAttempt,
    SourceImage,
)
from tests.contract.modelslab.support import Bench, picture, recorded, render_request, until
from tests.support.sent import sent_of

pytestmark = pytest.mark.anyio

EVERYTHING = {
    "motion_bucket_id": 200,
    "num_frames": 25,
    "noise_aug_strength": 0.3,
    "fps": 16,
    "seed": -1,
    "width": 64,
    "height": 48,
    "num_inference_steps": 50,
    "min_guidance_scale": 1.5,
    "max_guidance_scale": 4.0,
    "prompt": "a boat on a lake",
    "negative_prompt": "people",
    "enhance_prompt": True,
    "latent_interpolation_method": "slerp",
    "clip_skip": 2,
}


async def run(bench: Bench, provider, **changes) -> Finished:
    """Submit, wait and check until the end."""
    request = bench.request(provider, **changes)
    accepted = await provider.submit(request)
    assert isinstance(accepted, Accepted), accepted
    assert await provider.check(request.route, accepted.token) == Pending(10.0)
    bench.clock.advance(10)
    finished = await provider.check(request.route, json.loads(json.dumps(accepted.token)))
    assert isinstance(finished, Finished), finished
    return finished


async def test_every_parameter_of_the_page_goes_through_and_comes_back_in_the_meta(bench):
    """What was asked is what the vendor says it used, and the clip has its frames, rate and size."""
    provider = bench.provider()
    finished = await run(bench, provider, written=EVERYTHING)
    reply = await bench.http.post(
        f"{bench.url}/api/v6/video/fetch/{finished.report.request_id}", json={"key": "modelslab-sandbox-key"}
    )
    meta = reply.json()["meta"]
    assert {name: meta[name] for name in EVERYTHING if name != "seed"} == {
        name: value for name, value in EVERYTHING.items() if name != "seed"
    } | {"enhance_prompt": "yes"}
    assert finished.report.seed == meta["seed"]
    clip = (await bench.http.get(finished.files[0].url)).content
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (64, 48, 16.0)
        assert sum(1 for _ in container.decode(stream)) == 25
    assert bench.sandbox.meter.submits_accepted == 1
    assert bench.sandbox.meter.charged_micros == 200_000


@pytest.mark.parametrize(
    "changes",
    [
        {"errors": "body"},
        {"message_field": "messege", "empty_output": "text", "eta_form": "float", "fetch_meta": False},
        {"id_form": "text"},
    ],
)
async def test_the_vendor_s_other_spellings_change_nothing(bench, changes):
    """A job ends the same whichever form the vendor answers in."""
    bench.sandbox.change(changes)
    finished = await run(bench, bench.provider())
    assert finished.report.request_id == "146"


async def test_the_enterprise_account_sends_bytes(bench):
    """The dedicated server is handed base64 and delivers a link."""
    provider = bench.provider(enterprise=True)
    finished = await run(bench, provider, data=picture(), written={"min_guidance_scale": 0})
    assert finished.files[0].url.endswith(".mp4")


async def test_an_instant_success_needs_no_fetch(bench):
    """A submit that is answered with the result is finished."""
    bench.sandbox.change({"latency": {"mean_s": 0}})
    provider = bench.provider()
    outcome = await provider.submit(bench.request(provider))
    assert isinstance(outcome, Finished)
    assert outcome.report.model == "svd"
    assert outcome.files[0].url.endswith(".mp4")


@pytest.mark.parametrize("errors", ["http", "body"])
async def test_each_refusal_of_the_vendor_is_a_refusal_and_accepts_nothing(bench, errors):
    """Wrong key, empty wallet, full queue and a redirecting picture each have their kind; nothing runs."""
    bench.sandbox.change({"errors": errors})
    stranger = bench.provider(api_key="somebody-elses-key")
    outcome = await stranger.submit(bench.request(stranger))
    assert (outcome.kind, "somebody" in outcome.detail) == (FailureKind.UNAUTHORIZED, False)
    provider = bench.provider()
    cases = [
        ({"credit_micros": 100_000}, FailureKind.NO_CREDIT, None),
        ({"credit_micros": 10_000_000, "queue_max": 0}, FailureKind.RATE_LIMITED, 30.0),
    ]
    for changes, kind, retry_after_s in cases:
        bench.sandbox.change(changes)
        outcome = await provider.submit(bench.request(provider))
        assert isinstance(outcome, Refused)
        assert (outcome.kind, outcome.retry_after_s) == (kind, retry_after_s)
    assert bench.sandbox.meter.submits_accepted == 0
    assert bench.sandbox.meter.charged_micros == 0


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("failed", FailureKind.RENDER_FAILED),
        ("error", FailureKind.RENDER_FAILED),
        ("moderated", FailureKind.MODERATED),
    ],
)
async def test_each_failure_of_a_job_is_its_failure(bench, outcome, kind):
    """Failed, error and moderated end the job with their kind."""
    bench.sandbox.change({"outcome": outcome})
    provider = bench.provider()
    request = bench.request(provider)
    accepted = await provider.submit(request)
    bench.clock.advance(10)
    ended = await provider.check(request.route, accepted.token)
    assert isinstance(ended, Failed)
    assert ended.kind is kind


async def test_a_forgotten_job_is_gone(bench):
    """After the record has expired asking again cannot help, and no verdict is made up."""
    bench.sandbox.change({"record_ttl_s": 60})
    provider = bench.provider()
    request = bench.request(provider)
    accepted = await provider.submit(request)
    for unknown_id in ("recorded", "documented"):
        bench.sandbox.change({"unknown_id": unknown_id})
        bench.clock.advance(80)
        outcome = await provider.check(request.route, accepted.token)
        assert isinstance(outcome, InDoubt)
        assert outcome.gone


async def test_a_token_without_an_id_is_gone(bench):
    """A damaged token asks nobody."""
    provider = bench.provider()
    for token in ({}, {"id": "../wallet_balance"}, {"id": None}):
        outcome = await provider.check(provider.routes[0], token)
        assert isinstance(outcome, InDoubt)
        assert outcome.gone
    assert bench.sandbox.meter.calls == {}


async def test_the_abilities_are_those_of_the_vendor(bench):
    """Balance and lookup always, upload where configured, cancel never (there is none)."""
    plain, uploading = bench.provider(), bench.provider(upload=True)
    for provider in (plain, uploading):
        assert isinstance(provider, HasBalance)
        assert isinstance(provider, HasLookup)
        assert not isinstance(provider, HasCancel)
    assert not isinstance(plain, HasUpload)
    assert isinstance(uploading, HasUpload)


async def test_an_uploaded_picture_can_be_rendered(bench):
    """The link that the vendor gives for an upload is one it takes as input."""
    provider = bench.provider(upload=True)
    link = await provider.upload(SourceImage("image/png", 64, 48, data=picture()))
    assert link.startswith(f"{bench.url}/uploads/")
    await run(bench, provider, picture_url=link)
    bench.sandbox.faults.script("upload", "500")
    assert await provider.upload(SourceImage("image/png", 64, 48, data=picture())) is None
    assert await provider.upload(SourceImage("image/png", 64, 48, url=link)) is None


async def test_the_balance_follows_the_charges(bench):
    """The wallet after a job is the wallet before it less the price."""
    provider = bench.provider()
    assert await provider.balance() == Balance(10_000_000)
    await run(bench, provider)
    assert await provider.balance() == Balance(9_800_000)
    bench.sandbox.faults.script("balance", "500")
    assert await provider.balance() is None


async def test_the_queue_is_counted_until_the_vendor_throttles(bench):
    """Thirty questions a minute are answered."""
    provider = bench.provider()
    await provider.submit(bench.request(provider))
    assert [await provider.processing_count() for _ in range(31)] == [1] * 30 + [None]
    bench.clock.advance(61)
    assert await provider.processing_count() == 0


async def sent(bench: Bench, provider, fault: str | None) -> SentAttempt:
    """Submit under a fault and hand over what is known of it."""
    before = await provider.balance()
    if fault:
        bench.sandbox.faults.script("submit", fault)
    request = bench.request(provider)
    at = bench.clock.now()
    await provider.submit(request)
    return sent_of(request, sent_at=at, until=bench.clock.now(), credits_before_micros=before.amount_micros)


async def looked_up(bench: Bench, provider, attempt: SentAttempt):
    """Look up while the clock runs on."""
    lookup = asyncio.ensure_future(provider.lookup(attempt))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not lookup.done()
    bench.clock.advance(5)
    return await lookup


@pytest.mark.parametrize(
    ("charged_at_submit", "charge", "fault", "verdict"),
    [
        (True, "submit", "502_before_accept", NotFound),
        (True, "submit", "502_after_accept", NoEvidence),
        (None, "submit", "504_before_accept", NoEvidence),
        (None, "submit", "504_after_accept", NoEvidence),
        (False, "success", "504_before_accept", NotFound),
        (False, "success", "504_after_accept", NoEvidence),
    ],
)
async def test_a_lookup_never_clears_a_submit_that_was_accepted(bench, charged_at_submit, charge, fault, verdict):
    """NotFound comes only for a submit that the vendor did not take; it creates no work."""
    bench.sandbox.change({"charge": charge})
    provider = bench.provider(charged_at_submit=charged_at_submit)
    attempt = await sent(bench, provider, fault)
    evidence = await looked_up(bench, provider, attempt)
    assert isinstance(evidence, verdict), evidence
    assert not (isinstance(evidence, NotFound) and bench.sandbox.meter.submits_accepted)
    assert bench.sandbox.meter.submits_received == 1


async def test_a_lookup_without_a_wallet_proves_nothing(bench):
    """An unreadable wallet is no evidence either way."""
    provider = bench.provider(charged_at_submit=True)
    attempt = await sent(bench, provider, "502_before_accept")
    bench.sandbox.faults.script("balance", "502_before_accept")
    assert isinstance(await looked_up(bench, provider, attempt), NoEvidence)


@pytest.mark.parametrize(("times", "calls"), [("once", 1), ("twice", 2), ("never", 0)])
async def test_the_webhook_is_a_hint_that_may_come_twice_or_never(bench, times, calls):
    """The unsigned call names the job; the fetch is what tells."""
    bench.sandbox.change({"webhook": times, "webhook_id_form": "text"})
    provider = bench.provider()
    request = bench.request(provider, attempt_id="attempt-77", callback_url=f"{bench.site.url}/hook/unguessable")
    accepted = await provider.submit(request)
    bench.clock.advance(10)
    await until(lambda: bench.sandbox.meter.calls.get("webhook", 0) == calls and len(bench.site.calls) == calls)
    for body, headers in zip(bench.site.calls, bench.site.headers, strict=True):
        assert body["id"] == accepted.token["id"]
        assert set(body) >= set(recorded("webhook_success")["body"])
        assert not [name for name in headers if "signature" in name]
    assert isinstance(await provider.check(request.route, accepted.token), Finished)


async def test_a_failed_job_calls_back_too(bench):
    """A failure is announced in the documented form and is still only a hint."""
    bench.sandbox.change({"outcome": "error"})
    provider = bench.provider()
    await provider.submit(bench.request(provider, callback_url=f"{bench.site.url}/hook/x"))
    bench.clock.advance(10)
    await until(lambda: bench.site.calls)
    assert bench.site.calls[0]["status"] == "failed"
    assert bench.site.calls[0]["id"] == 146
    assert set(bench.site.calls[0]) >= set(recorded("webhook_failed")["body"])


@pytest.mark.parametrize(
    ("settings", "callback", "sent_webhook"),
    [
        ({"webhook_over_http": False}, "http://site.test/hook/x", None),
        ({"webhook_over_http": False}, "https://site.test/hook/x", "https://site.test/hook/x"),
        ({"webhook_over_http": True}, "http://127.0.0.1:1/hook/x", "http://127.0.0.1:1/hook/x"),
        ({"webhook": False}, "https://site.test/hook/x", None),
        ({}, None, None),
    ],
)
async def test_a_callback_that_the_vendor_would_refuse_is_not_sent(answering, settings, callback, sent_webhook):
    """A hint is not worth a refused job: plain HTTP goes only to simulators."""
    provider, seen = answering(httpx.Response(200, json={"status": "processing", "id": 1}), **settings)
    await provider.submit(render_request(provider, "https://pictures.example/1.png", callback_url=callback))
    assert json.loads(seen[0].content)["webhook"] == sent_webhook
