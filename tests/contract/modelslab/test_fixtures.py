"""Every documented reply of the vendor, as recorded, through the adapter: each comes out as one typed outcome."""

from __future__ import annotations

import json
from random import Random

import httpx
import pytest
import respx

from providers.contract import (
    FAULTS,
    Accepted,
    Balance,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    InlineFile,
    Pending,
    Refused,
    RemoteFile,
    SourceImage,
    Tools,
)
from providers.modelslab import PLUGIN
from tests.contract.modelslab.support import FIXTURES, SECRET, HandClock, http_response, recorded, render_request

LINK = "https://files.example/video_generations/ddde786a.mp4"

REFUSALS = {
    "submit_field_required": FailureKind.INVALID_REQUEST,
    "submit_validation_object": FailureKind.INVALID_REQUEST,
    "submit_out_of_range": FailureKind.INVALID_REQUEST,
    "submit_malformed": FailureKind.INVALID_REQUEST,
    "submit_model_not_found": FailureKind.MODEL_GONE,
    "submit_unable_to_fetch_image": FailureKind.INVALID_REQUEST,
    "submit_image_redirects": FailureKind.INVALID_REQUEST,
    "submit_invalid_key": FailureKind.UNAUTHORIZED,
    "submit_invalid_key_in_200": FailureKind.UNAUTHORIZED,
    "submit_no_key": FailureKind.UNAUTHORIZED,
    "submit_no_credit": FailureKind.NO_CREDIT,
    "submit_no_credit_in_200": FailureKind.NO_CREDIT,
    "submit_premium_only": FailureKind.FORBIDDEN,
    "submit_queue_full": FailureKind.RATE_LIMITED,
    "submit_queue_full_in_200": FailureKind.RATE_LIMITED,
    "submit_server_error": FailureKind.SERVER_ERROR,
    "submit_unavailable": FailureKind.UNAVAILABLE,
    "submit_moderated": FailureKind.MODERATED,
    "submit_failed": FailureKind.RENDER_FAILED,
}
ACCEPTED = {
    "submit_processing": ("146", 10.0, "svd"),
    "submit_processing_legacy": ("146", 416.94, None),
    "submit_processing_text_id": ("abc123-def456", 30.0, None),
    "submit_other_model": ("147", 60.0, "wan2.2"),
}
FAILURES = {
    "fetch_failed": FailureKind.RENDER_FAILED,
    "fetch_failed_as_error": FailureKind.RENDER_FAILED,
    "fetch_moderated": FailureKind.MODERATED,
}
FINISHED = ("submit_success", "submit_success_gif", "fetch_success", "fetch_success_full")
PENDING = {"fetch_processing": 7.5, "fetch_processing_legacy": None}
GONE = ("fetch_unknown_id", "fetch_unknown_id_documented")
ASK_AGAIN = ("fetch_rate_limited", "fetch_invalid_key", "fetch_server_error", "fetch_bad_gateway")
AMBIGUOUS = ("submit_bad_gateway", "submit_gateway_timeout")
OTHERS = ("wallet_balance", "request_count", "upload", "webhook_success", "webhook_failed")

pytestmark = pytest.mark.anyio


def test_every_recorded_reply_is_expected_somewhere():
    """A fixture that no test reads is a fixture that proves nothing."""
    expected = {*REFUSALS, *ACCEPTED, *FAILURES, *FINISHED, *PENDING, *GONE, *ASK_AGAIN, *AMBIGUOUS, *OTHERS}
    assert {path.stem for path in FIXTURES.glob("*.json")} == expected


async def submitted(answering, name):
    provider, seen = answering(http_response(recorded(name)))
    outcome = await provider.submit(render_request(provider, "https://pictures.example/1.png"))
    assert len(seen) == 1
    return outcome


async def fetched(answering, name):
    provider, seen = answering(http_response(recorded(name)))
    outcome = await provider.check(provider.routes[0], {"id": "146"})
    assert [request.url.path for request in seen] == ["/api/v6/video/fetch/146"]
    return outcome


@pytest.mark.parametrize(("name", "kind"), REFUSALS.items())
async def test_a_refused_submit_is_refused_with_the_documented_reason(answering, name, kind):
    """A refusal is never taken for an accepted job, whichever HTTP code carries it."""
    outcome = await submitted(answering, name)
    assert isinstance(outcome, Refused)
    assert outcome.kind is kind
    assert outcome.status == recorded(name)["status"]


@pytest.mark.parametrize("name", ["submit_queue_full", "submit_queue_full_in_200"])
async def test_a_full_queue_says_how_long_to_wait_in_the_body(answering, name):
    """The vendor's wait hint is in the body and is handed on in seconds."""
    assert (await submitted(answering, name)).retry_after_s == 30.0


@pytest.mark.parametrize(("name", "expected"), ACCEPTED.items())
async def test_an_accepted_submit_gives_a_token_an_eta_and_the_model_reported(answering, name, expected):
    """The id is kept as text, the eta as seconds, and the model only where the vendor said it."""
    identity, eta_s, model = expected
    outcome = await submitted(answering, name)
    assert isinstance(outcome, Accepted)
    assert outcome.token["id"] == identity
    assert outcome.token.get("model") == model
    assert json.loads(json.dumps(outcome.token)) == outcome.token
    assert (outcome.eta_s, outcome.report.model, outcome.report.request_id) == (eta_s, model, identity)


@pytest.mark.parametrize("name", FINISHED)
async def test_a_delivered_result_is_the_output_link(answering, name):
    """The first link is the vendor's own file, of whatever kind."""
    outcome = await (submitted if name.startswith("submit") else fetched)(answering, name)
    assert isinstance(outcome, Finished)
    assert outcome.files == (RemoteFile(recorded(name)["body"]["output"][0]),)
    assert outcome.report.request_id == "146"
    assert outcome.report.cost_micros is None


async def test_the_report_reads_seed_model_and_time_from_the_example_of_the_page(answering):
    """The seed the vendor drew is beyond int32 and is kept whole."""
    report = (await submitted(answering, "submit_success")).report
    assert (report.seed, report.model, report.inference_s) == (3811131349, "svd", 8.49)


@pytest.mark.parametrize(("name", "eta_s"), PENDING.items())
async def test_a_job_at_work_is_pending(answering, name, eta_s):
    """Processing again, with an empty output in either form, is not an answer."""
    assert await fetched(answering, name) == Pending(eta_s)


@pytest.mark.parametrize(("name", "kind"), FAILURES.items())
async def test_a_failed_job_is_failed_with_its_kind(answering, name, kind):
    """The vendor's word that a job failed is final, and a moderation block is told apart."""
    outcome = await fetched(answering, name)
    assert isinstance(outcome, Failed)
    assert outcome.kind is kind
    assert FAULTS[kind] in {"vendor", "caller"}


@pytest.mark.parametrize("name", GONE)
async def test_an_id_that_the_vendor_does_not_know_is_gone(answering, name):
    """Both forms of not found end the asking without a verdict on the job."""
    outcome = await fetched(answering, name)
    assert isinstance(outcome, InDoubt)
    assert outcome.gone
    assert not outcome.unrecognised


@pytest.mark.parametrize("name", ASK_AGAIN)
async def test_trouble_with_the_fetch_says_nothing_about_the_job(answering, name):
    """A refused or broken read leaves the job as it was."""
    outcome = await fetched(answering, name)
    assert isinstance(outcome, InDoubt)
    assert not outcome.gone
    assert not outcome.unrecognised
    assert outcome.retry_after_s == recorded(name).get("body", {}).get("retry_after")


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_a_gateway_error_on_submit_is_in_doubt(answering, name):
    """A 502 or 504 may hide an accepted job, so that it is never taken for a refusal."""
    outcome = await submitted(answering, name)
    assert isinstance(outcome, InDoubt)
    assert outcome.status == recorded(name)["status"]
    assert not outcome.unrecognised


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("refused"), Refused),
        (httpx.ConnectTimeout("slow"), Refused),
        (httpx.ReadTimeout("slow"), InDoubt),
        (httpx.ReadError("reset"), InDoubt),
        (httpx.RemoteProtocolError("half a reply"), InDoubt),
        (httpx.WriteError("reset"), InDoubt),
    ],
)
async def test_only_a_submit_that_never_left_counts_as_refused(answering, error, expected):
    """A connection that was never made is a refusal; anything later is in doubt."""
    provider, _ = answering(error)
    outcome = await provider.submit(render_request(provider, "https://pictures.example/1.png"))
    assert isinstance(outcome, expected)
    if isinstance(outcome, Refused):
        assert outcome.kind is FailureKind.UNAVAILABLE
    checked = await provider.check(provider.routes[0], {"id": "1"})
    assert isinstance(checked, InDoubt)
    assert not checked.gone


async def test_what_is_sent_is_the_table_plus_constants(answering):
    """The body is the fitted parameters, the picture, the key and the documented constants, and nothing else."""
    provider, seen = answering(http_response(recorded("submit_processing")))
    request = render_request(provider, "https://pictures.example/1.png", written={"num_frames": 25, "fps": 16})
    await provider.submit(request)
    body = json.loads(seen[0].content)
    assert str(seen[0].url) == "https://vendor.example/api/v6/video/img2video"
    assert body == {
        **request.parameters,
        "key": SECRET,
        "model_id": "svd",
        "init_image": "https://pictures.example/1.png",
        "output_type": "mp4",
        "instant_response": True,
        "temp": False,
        "webhook": None,
        "track_id": None,
    }
    assert body["num_frames"] == 25
    assert SECRET not in str(seen[0].url)
    assert SECRET not in str(seen[0].headers)


async def test_the_enterprise_account_speaks_to_its_own_server_and_takes_bytes(answering):
    """The dedicated server has its own paths and accepts base64."""
    provider, seen = answering(http_response(recorded("submit_processing")), enterprise=True)
    await provider.submit(render_request(provider, "", data=b"\x89PNG\r\n"))
    await provider.check(provider.routes[0], {"id": "9"})
    assert [request.url.path for request in seen] == [
        "/api/v1/enterprise/video/img2video",
        "/api/v1/enterprise/video/fetch/9",
    ]
    assert json.loads(seen[0].content)["init_image"] == "iVBORw0K"


async def test_the_wallet_and_the_queue_are_read():
    """Balance in micro-USD and the number at work, each from its own address."""
    settings = PLUGIN.settings.model_validate({"api_key": SECRET, "base_url": "https://vendor.example/api/"})
    with respx.mock(assert_all_called=True) as vendor:
        wallet = vendor.post("https://vendor.example/api/wallet_balance", json={"key": SECRET}).mock(
            return_value=http_response(recorded("wallet_balance"))
        )
        vendor.post("https://vendor.example/api/v6/processing/request_count", json={"key": SECRET}).mock(
            return_value=http_response(recorded("request_count"))
        )
        async with httpx.AsyncClient() as client:
            provider = PLUGIN.build(settings, Tools(client, HandClock(), Random(1)))
            assert await provider.balance() == Balance(43_600_000)
            assert await provider.processing_count() == 3
        assert wallet.call_count == 1


async def test_an_upload_gives_the_link_and_respects_the_size_limit(answering):
    """A picture is sent as a data URI; one over 5 MB is not sent at all."""
    provider, seen = answering(http_response(recorded("upload")), upload=True)
    small = SourceImage("image/png", 8, 8, data=b"\x89PNG\r\n")
    assert await provider.upload(small) == "https://files.example/uploads/77.png"
    assert json.loads(seen[0].content)["base64_string"] == "data:image/png;base64,iVBORw0K"
    assert await provider.upload(SourceImage("image/png", 8, 8, data=bytes(5_000_001))) is None
    assert len(seen) == 1


async def test_a_result_inside_the_reply_is_decoded(answering):
    """Base64 in the output list, with or without a data prefix, is the file itself; a stray word is not."""
    for text in ("data:video/mp4;base64," + "AAAA" * 100, "AAAA" * 100):
        body = {"status": "success", "id": 1, "output": [text]}
        provider, _ = answering(httpx.Response(200, json=body))
        outcome = await provider.check(provider.routes[0], {"id": "1"})
        assert outcome.files == (InlineFile(bytes(300)),)
    provider, _ = answering(httpx.Response(200, json={"status": "success", "id": 1, "output": "none"}))
    outcome = await provider.check(provider.routes[0], {"id": "1"})
    assert isinstance(outcome, InDoubt)
    assert outcome.unrecognised
