"""The traps of the wire that concern this vendor, each by its number (WIRE 7)."""

from __future__ import annotations

import json

import httpx
import pytest

from policies.fit import fit
from providers.contract import (
    Accepted,
    FailureKind,
    Finished,
    InDoubt,
    NoEvidence,
    Pending,
    Refused,
    RemoteFile,
)
from providers.modelslab.catalogue import SVD
from tests.contract.modelslab.support import SECRET, render_request, until
from tests.support.sent import sent_of

pytestmark = pytest.mark.anyio

PICTURE = "https://pictures.example/1.png"


def sent_for(written, image_size=(1024, 576)):
    """The vendor's parameters for what a caller wrote."""
    fitted = fit(SVD, written, mode="exact", image_size=image_size)
    assert not fitted.refusals
    return fitted.wire


async def submit_against(answering, body, status=200):
    provider, seen = answering(httpx.Response(status, json=body))
    return await provider.submit(render_request(provider, PICTURE)), seen


async def check_against(answering, body, status=200):
    provider, seen = answering(httpx.Response(status, json=body))
    return await provider.check(provider.routes[0], {"id": "146"}), seen


def test_trap_02_the_motion_bucket_is_free_here():
    """20, the vendor's own sample, and 255 both pass: only the canonical range bounds it."""
    assert sent_for({"motion_bucket_id": 20})["motion_bucket_id"] == 20
    assert sent_for({"motion_bucket_id": 255})["motion_bucket_id"] == 255


async def test_trap_03_the_picture_is_a_link_without_a_redirect(bench):
    """The public route takes links only, and a redirecting one is refused as the caller's."""
    provider = bench.provider()
    assert provider.routes[0].image_forms == ("url",)
    outcome = await provider.submit(bench.request(provider, picture_url=f"{bench.site.url}/moved.png"))
    assert isinstance(outcome, Refused)
    assert outcome.kind is FailureKind.INVALID_REQUEST


def test_trap_04_any_number_of_frames_up_to_25_is_an_integer():
    """Not a text and not a set of two."""
    assert [sent_for({"num_frames": n})["num_frames"] for n in (1, 14, 16, 25)] == [1, 14, 16, 25]


def test_trap_05_the_noise_default_is_sent_and_not_the_vendor_s():
    """The vendor's default is unstated here and 0.5 on the dedicated server."""
    assert sent_for({})["noise_aug_strength"] == 0.02


def test_trap_06_the_rate_goes_to_16_and_is_always_sent():
    """A rate of 17 is not possible; the default travels explicitly."""
    assert sent_for({})["fps"] == 7
    assert fit(SVD, {"fps": 17}, mode="exact", image_size=(8, 8)).refusals


async def test_trap_07_a_seed_cannot_be_set_and_the_reported_one_is_kept_whole(answering):
    """Asking for a seed makes the route ineligible; the drawn seed exceeds int32."""
    assert fit(SVD, {"seed": 5}, mode="exact", image_size=(8, 8)).refusals
    assert "seed" not in sent_for({"seed": -1})
    outcome, _ = await check_against(
        answering, {"status": "success", "id": 146, "output": [PICTURE], "meta": {"seed": 3811131349}}
    )
    assert outcome.report.seed == 3811131349


async def test_trap_11_the_body_speaks_before_the_status(answering):
    """The same words mean the same in a 200, and a job accepted under an odd status is accepted."""
    refused, _ = await submit_against(answering, {"status": "error", "message": "Insufficient credits."}, 200)
    assert refused.kind is FailureKind.NO_CREDIT
    accepted, _ = await submit_against(answering, {"status": "processing", "id": 9}, 500)
    assert isinstance(accepted, Accepted)


async def test_trap_14_a_bad_request_may_be_accepted_and_fail_late(bench):
    """An accepted job that then fails is a failure of the job, not of the submit."""
    bench.sandbox.change({"outcome": "failed"})
    provider = bench.provider()
    request = bench.request(provider)
    accepted = await provider.submit(request)
    bench.clock.advance(10)
    outcome = await provider.check(request.route, accepted.token)
    assert outcome.kind is FailureKind.RENDER_FAILED


async def test_trap_15_every_submit_is_a_new_billed_job(bench):
    """Nothing deduplicates: two equal submits are two jobs and two charges, so that a doubt is never repeated."""
    provider = bench.provider()
    request = bench.request(provider)
    await provider.submit(request)
    await provider.submit(request)
    assert bench.sandbox.meter.submits_accepted == 2
    assert bench.sandbox.meter.charged_micros == 400_000
    bench.sandbox.faults.script("submit", "504_after_accept")
    assert isinstance(await provider.submit(request), InDoubt)
    assert bench.sandbox.meter.submits_received == 3


async def test_trap_17_the_wait_hint_is_in_the_body(answering):
    """Seconds under `retry_after`; a Retry-After header, which only a proxy sends, does not change them."""
    provider, _ = answering(
        httpx.Response(
            429,
            json={"status": "error", "message": "Rate limit exceeded.", "retry_after": 12},
            headers={"retry-after": "99"},
        )
    )
    assert (await provider.submit(render_request(provider, PICTURE))).retry_after_s == 12.0


@pytest.mark.parametrize("spelling", ["message", "messege"])
@pytest.mark.parametrize("text", ["Invalid API key", {"key": ["Invalid API key"]}])
@pytest.mark.parametrize("status", [200, 401])
async def test_trap_18_message_and_messege_text_and_object_in_any_status(answering, spelling, text, status):
    """Every form of the same refusal is the same refusal."""
    outcome, _ = await submit_against(answering, {"status": "error", spelling: text}, status)
    assert isinstance(outcome, Refused)
    assert outcome.kind is FailureKind.UNAUTHORIZED


@pytest.mark.parametrize("identity", [146, "146"])
@pytest.mark.parametrize("output", [[], ""])
@pytest.mark.parametrize("eta", [10, 10.0])
async def test_trap_18_ids_outputs_and_etas_in_either_type(answering, identity, output, eta):
    """Number or text, list or empty text, integer or float: one meaning."""
    body = {"status": "processing", "id": identity, "output": output, "eta": eta}
    accepted, _ = await submit_against(answering, body)
    assert (accepted.token, accepted.eta_s) == ({"id": "146"}, 10.0)
    pending, _ = await check_against(answering, body)
    assert pending == Pending(10.0)


async def test_trap_19_future_links_are_not_results(answering, bench):
    """A link to come answers 404 and is never handed on."""
    body = {"status": "processing", "id": 146, "output": [], "future_links": ["https://files.example/a.mp4"]}
    assert isinstance((await check_against(answering, body))[0], Pending)
    outcome, _ = await check_against(answering, body | {"status": "success"})
    assert isinstance(outcome, InDoubt)
    assert outcome.unrecognised


async def test_trap_20_a_swapped_model_is_reported(bench):
    """The public API runs another model silently: the report says which, so that it is not taken for what was asked."""
    bench.sandbox.change({"substitute_model": "wan2.2"})
    provider = bench.provider()
    request = bench.request(provider)
    accepted = await provider.submit(request)
    assert accepted.report.model == "wan2.2" != request.route.model
    bench.clock.advance(10)
    finished = await provider.check(request.route, accepted.token)
    assert finished.report.model == "wan2.2"


async def test_trap_20_a_swap_that_only_the_submit_told_is_not_forgotten(bench):
    """A finished job's reply may come without its meta: the token remembers the model and the seed."""
    bench.sandbox.change({"substitute_model": "wan2.2", "fetch_meta": False})
    provider = bench.provider()
    request = bench.request(provider)
    accepted = await provider.submit(request)
    bench.clock.advance(10)
    finished = await bench.provider().check(request.route, json.loads(json.dumps(accepted.token)))
    assert finished.report.model == "wan2.2"
    assert finished.report.seed == accepted.report.seed is not None


async def test_trap_20_a_reply_without_meta_reports_no_model(answering):
    """Silence is not a claim that the model was right."""
    outcome, _ = await check_against(answering, {"status": "success", "id": 146, "output": [PICTURE]})
    assert outcome.report.model is None


def test_trap_21_the_table_holds_the_page_s_own_limits():
    """The vendor's documents drift; the table follows the page this route was written from."""
    assert (SVD.capability("num_frames").maximum, SVD.capability("num_inference_steps").maximum) == (25, 50)
    assert SVD.model == "svd"


async def test_trap_22_mp4_is_asked_for_explicitly(bench):
    """Left alone, the vendor would deliver a GIF."""
    bench.sandbox.change({"latency": {"mean_s": 0}})
    provider = bench.provider()
    outcome = await provider.submit(bench.request(provider))
    assert outcome.files[0].url.endswith(".mp4")
    assert (await bench.http.get(outcome.files[0].url)).content[4:8] == b"ftyp"


def test_trap_23_the_size_keeps_the_picture_s_shape_inside_512():
    """A wide picture is asked for wide, in steps of 8; the model's native size is not possible here."""
    wire = sent_for({}, image_size=(1024, 576))
    assert (wire["width"], wire["height"]) == (512, 288)
    assert fit(SVD, {"width": 1024, "height": 576}, mode="exact", image_size=(8, 8)).refusals


def test_trap_24_guidance_is_two_numbers_and_strength_is_none():
    """Neither `guidance_scale` nor `strength` is ever sent."""
    wire = sent_for({"min_guidance_scale": 2, "max_guidance_scale": 3})
    assert (wire["min_guidance_scale"], wire["max_guidance_scale"]) == (2.0, 3.0)
    assert not {"guidance_scale", "strength"} & set(wire)


async def test_trap_25_the_queue_count_is_served_to_both_verbs(bench):
    """The page says GET with a body, the specification POST."""
    for verb in ("GET", "POST"):
        reply = await bench.http.request(
            verb, f"{bench.url}/api/v6/processing/request_count", json={"key": "modelslab-sandbox-key"}
        )
        assert reply.json()["processing_count"] == 0
    assert await bench.provider().processing_count() == 0


async def test_trap_26_a_webhook_is_asked_for_at_an_address_of_its_own_and_its_body_decides_nothing(bench):
    """What was called back is found again by the address alone; the verdict is the fetch's."""
    provider = bench.provider()
    request = bench.request(provider, attempt_id="7", callback_url=f"{bench.site.url}/hook/x")
    accepted = await provider.submit(request)
    assert isinstance(await provider.check(request.route, accepted.token), Pending)
    bench.clock.advance(10)
    await until(lambda: bench.site.calls)
    assert bench.site.calls[0]["track_id"] is None
    assert isinstance(await provider.check(request.route, accepted.token), Finished)


async def test_trap_27_booleans_that_come_back_as_words_are_not_needed(answering):
    """`yes` and `no` in the meta are neither trusted nor stumbled over."""
    meta = {"temp": "no", "instant_response": "yes", "model_id": "svd", "seed": "4"}
    outcome, _ = await check_against(answering, {"status": "success", "id": 146, "output": [PICTURE], "meta": meta})
    assert (outcome.report.model, outcome.report.seed) == ("svd", None)
    assert sent_for({"enhance_prompt": True})["enhance_prompt"] == "yes"


async def test_trap_33_a_retired_model_is_the_vendor_s_fault(answering):
    """The model's name is not the caller's: another route may still do it."""
    outcome, _ = await submit_against(answering, {"status": "error", "message": "Model not found: svd"}, 400)
    assert outcome.kind is FailureKind.MODEL_GONE


async def test_trap_34_a_moderation_block_is_told_apart(bench):
    """It is the caller's and final, never a render failure to be tried elsewhere."""
    bench.sandbox.change({"outcome": "moderated"})
    provider = bench.provider()
    request = bench.request(provider)
    accepted = await provider.submit(request)
    bench.clock.advance(10)
    assert (await provider.check(request.route, accepted.token)).kind is FailureKind.MODERATED


async def test_trap_35_no_cost_is_reported_and_the_wallet_alone_proves_little(bench):
    """The vendor returns no price; a wallet that fell does not say for which job."""
    provider = bench.provider(charged_at_submit=True)
    request = bench.request(provider)
    before = await provider.balance()
    accepted = await provider.submit(request)
    assert accepted.report.cost_micros is None
    bench.clock.advance(10)
    facts = {"sent_at": bench.clock.now() - 10, "until": bench.clock.now() - 5}
    attempt = sent_of(request, **facts, credits_before_micros=before.amount_micros)
    assert isinstance(await provider.lookup(attempt), NoEvidence)
    finished = await provider.check(request.route, accepted.token)
    assert finished.report.cost_micros is None


async def test_trap_36_the_client_s_own_defaults_are_refused(bench):
    """Thirty frames, the default of the vendor's client, are over the vendor's own limit."""
    reply = await bench.http.post(
        f"{bench.url}/api/v6/video/img2video",
        json={"key": "modelslab-sandbox-key", "model_id": "svd", "init_image": PICTURE, "num_frames": 30},
    )
    assert reply.json()["message"] == "num_frames must be between 1 and 25"


async def test_trap_37_results_are_public_links_fetched_without_the_key(bench):
    """The adapter hands the link on and sends nothing there; the file needs no key."""
    provider = bench.provider()
    request = bench.request(provider)
    accepted = await provider.submit(request)
    bench.clock.advance(10)
    finished = await provider.check(request.route, accepted.token)
    assert isinstance(finished, Finished)
    assert isinstance(finished.files[0], RemoteFile)
    assert "file" not in bench.sandbox.meter.calls
    assert "key" not in finished.files[0].url.rpartition("/")[2]
    assert (await bench.http.get(finished.files[0].url)).status_code == 200


async def test_trap_37_the_fetch_address_of_a_reply_is_never_called(answering):
    """The key goes only to the configured address, whatever `fetch_result` says."""
    outcome, seen = await submit_against(
        answering, {"status": "processing", "id": 146, "fetch_result": "https://evil.example/api/v6/video/fetch/146"}
    )
    provider, seen_after = answering(httpx.Response(302, headers={"location": "https://evil.example/"}))
    await provider.check(provider.routes[0], outcome.token)
    assert {request.url.host for request in (*seen, *seen_after)} == {"vendor.example"}
    assert SECRET in seen_after[0].content.decode()


@pytest.mark.parametrize("word", ["queued", "canceled", "done", "", None, 7])
async def test_trap_40_an_unknown_state_is_counted_and_not_guessed(answering, word):
    """A state nobody documented is in doubt on both verbs: neither success nor failure."""
    body = {"status": word, "id": 146, "output": [PICTURE]}
    for outcome in ((await submit_against(answering, body))[0], (await check_against(answering, body))[0]):
        assert isinstance(outcome, InDoubt)
        assert outcome.unrecognised
        assert not outcome.gone


async def test_a_refusal_in_new_words_is_still_a_refusal(bench):
    """`status: error` without an id is documented as a refusal: nothing runs, and the next route may be asked."""
    bench.sandbox.change({"refusal_text": "Server is busy, try again"})
    provider = bench.provider()
    outcome = await provider.submit(bench.request(provider))
    detail = "unrecognised refusal: HTTP 200: Server is busy, try again"
    assert outcome == Refused(FailureKind.SERVER_ERROR, detail, status=200)
    assert bench.sandbox.meter.submits_accepted == 0


@pytest.mark.parametrize(
    "more", [{"id": 146}, {"output": [PICTURE]}, {"status": "queued"}, {"status": ""}, {"status": None}], ids=str
)
async def test_an_error_that_may_hide_a_job_stays_in_doubt(answering, more):
    """With an id or a file, or in a state nobody documented, new words are not taken for a refusal."""
    outcome, _ = await submit_against(answering, {"status": "error", "message": "Server is busy", **more})
    assert isinstance(outcome, InDoubt)
    assert outcome.unrecognised


@pytest.mark.parametrize("status", [502, 504])
async def test_an_error_behind_a_gateway_status_stays_in_doubt(answering, status):
    """Whoever wrote the body of a 502 or 504, what happened behind it is not known."""
    outcome, _ = await submit_against(answering, {"status": "error", "message": "Server is busy"}, status)
    assert isinstance(outcome, InDoubt)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"message": "", "messege": "Invalid API key"}, FailureKind.UNAUTHORIZED),
        ({"message": None, "messege": "Invalid API key"}, FailureKind.UNAUTHORIZED),
        ({"message": [], "error": "Insufficient credits"}, FailureKind.NO_CREDIT),
        ({"error": "Insufficient credits"}, FailureKind.NO_CREDIT),
        ({"error": {"message": "Insufficient credits"}}, FailureKind.NO_CREDIT),
        ({"message": ["The init_image field is required."]}, FailureKind.INVALID_REQUEST),
        ({"message": ["Sorry.", "Invalid API key"]}, FailureKind.UNAUTHORIZED),
        ({"message": {"fps": ["too high"]}}, FailureKind.INVALID_REQUEST),
        ({"error": {"code": "E7"}}, FailureKind.SERVER_ERROR),
        ({}, FailureKind.SERVER_ERROR),
    ],
    ids=str,
)
async def test_the_reason_of_a_refusal_is_found_in_each_place_and_form(answering, said, kind):
    """An empty or missing `message` gives way to `messege` and then `error`; a list is read as its texts."""
    outcome, _ = await submit_against(answering, {"status": "error", **said})
    assert isinstance(outcome, Refused)
    assert outcome.kind is kind


async def test_another_job_s_reply_is_never_delivered(answering):
    """A fetch that answers with another id would hand one team's video to another."""
    outcome, _ = await check_against(answering, {"status": "success", "id": 147, "output": [PICTURE]})
    assert isinstance(outcome, InDoubt)
    assert outcome.unrecognised
