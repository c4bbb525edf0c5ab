"""The simulated vendor by itself: its habits and their switches, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import av
import httpx
import pytest
from PIL import Image

from providers.contract import Accepted
from providers.modelslab.simulator.switches import SANDBOX_KEY
from tests.contract.modelslab.support import Bench, picture, until

pytestmark = pytest.mark.anyio

SUBMIT = "/api/v6/video/img2video"
ENTERPRISE_SUBMIT = "/api/v1/enterprise/video/img2video"


async def post(bench: Bench, path: str, **fields: object) -> httpx.Response:
    return await bench.http.post(bench.url + path, json={"key": SANDBOX_KEY, **fields})


async def submit(bench: Bench, path: str = SUBMIT, **fields: object) -> httpx.Response:
    usual = {"model_id": "svd", "init_image": f"{bench.site.url}/picture.png", "instant_response": True}
    return await post(bench, path, **(usual | fields))


async def fetch(bench: Bench, identity: object) -> dict:
    return (await post(bench, f"/api/v6/video/fetch/{identity}")).json()


async def test_a_job_goes_from_processing_to_a_playable_clip(bench):
    """Submit, fetch and download work as documented, and the clip has the frames that were asked for."""
    first = (await submit(bench, num_frames=5, fps=8, width=64, height=48, output_type="mp4")).json()
    assert (first["status"], first["output"], first["eta"]) == ("processing", [], 10)
    assert isinstance(first["id"], int)
    assert first["fetch_result"] == f"{bench.url}/api/v6/video/fetch/{first['id']}"
    assert (await fetch(bench, first["id"]))["status"] == "processing"
    assert (await bench.http.get(first["future_links"][0])).status_code == 404
    bench.clock.advance(10)
    done = await fetch(bench, first["id"])
    assert done["status"] == "success"
    assert done["output"] == first["future_links"]
    assert done["generationTime"] == 10.0
    assert done["meta"]["seed"] >= 2**31
    assert (done["meta"]["temp"], done["meta"]["instant_response"]) == ("no", "yes")
    assert SANDBOX_KEY not in json.dumps(done)
    for link in (done["output"][0], done["proxy_links"][0]):
        clip = await bench.http.get(link)
        assert clip.headers["content-type"] == "video/mp4"
        with av.open(io.BytesIO(clip.content)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, float(stream.average_rate)) == (64, 48, 8.0)
            assert sum(1 for _ in container.decode(stream)) == 5


async def test_without_an_output_type_the_result_is_a_gif(bench):
    """The vendor's example is a GIF where no format was asked for; a switch makes it MP4."""
    bench.sandbox.change({"latency": {"mean_s": 0}})
    body = (await submit(bench, num_frames=2, width=16, height=16)).json()
    clip = await bench.http.get(body["output"][0])
    assert body["output"][0].endswith(".gif")
    assert clip.content[:4] == b"GIF8"
    bench.sandbox.change({"default_output_type": "mp4"})
    assert (await submit(bench, num_frames=2)).json()["output"][0].endswith(".mp4")


async def test_a_submit_that_waits_answers_with_the_result(bench):
    """Without `instant_response` the vendor holds the line for some time and may answer success at once."""
    waiting = asyncio.ensure_future(submit(bench, instant_response=False))
    await until(lambda: bench.sandbox.meter.submits_accepted == 1)
    bench.clock.advance(10)
    assert (await waiting).json()["status"] == "success"
    bench.sandbox.change({"submit_wait_s": 3})
    waiting = asyncio.ensure_future(submit(bench, instant_response=False))
    await until(lambda: bench.sandbox.meter.submits_accepted == 2)
    bench.clock.advance(3)
    assert (await waiting).json()["status"] == "processing"


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"empty_output": "text"}, lambda body: body["output"] == ""),
        ({"eta_form": "float"}, lambda body: isinstance(body["eta"], float)),
        ({"message_field": "messege"}, lambda body: "messege" in body and "message" not in body),
        ({"id_form": "text"}, lambda body: body["id"] == "146"),
        ({"substitute_model": "wan2.2"}, lambda body: body["meta"]["model_id"] == "wan2.2"),
    ],
)
async def test_the_forms_of_a_processing_reply_can_be_switched(bench, changes, check):
    """Each spelling and type seen in the wild can be had."""
    reply = await bench.http.patch(f"{bench.url}/_sandbox/settings", json=changes)
    assert reply.status_code == 200
    assert check((await submit(bench)).json())


@pytest.mark.parametrize("errors", ["http", "body"])
@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"key": ""}, 401, "API key required"),
        ({"key": "wrong-key"}, 401, "Invalid API key"),
        ({"init_image": None}, 400, "init_image is required"),
        ({"model_id": None}, 400, "model_id is required"),
        ({"model_id": "gen9"}, 400, "Model not found"),
        ({"num_frames": 26}, 400, "num_frames must be between 1 and 25"),
        ({"num_frames": "many"}, 400, "num_frames must be a number"),
        ({"num_frames": 2.5}, 400, "num_frames must be an integer"),
        ({"num_inference_steps": 51}, 400, "num_inference_steps must be"),
        ({"fps": 17}, 400, "fps must be between"),
        ({"width": 520}, 400, "width must be between"),
        ({"height": 500}, 400, "height must be divisible by 8"),
        ({"min_guidance_scale": 0.5}, 400, "min_guidance_scale must be between"),
        ({"noise_aug_strength": 1.5}, 400, "noise_aug_strength must be between"),
        ({"clip_skip": 3}, 400, "clip_skip must be between"),
        ({"enhance_prompt": "maybe"}, 400, "enhance_prompt must be one of"),
        ({"latent_interpolation_method": "cubic"}, 400, "latent_interpolation_method must be one of"),
        ({"output_type": "base64"}, 400, "output_type must be"),
        ({"webhook": "http://hooks.example/x"}, 400, "webhook must be an https URL"),
        ({"init_image": "http://127.0.0.1:1/none.png"}, 400, "Unable to fetch image"),
        ({"init_image": "iVBORw0K"}, 400, "init_image is invalid"),
    ],
)
async def test_a_bad_request_is_refused_in_either_form(bench, errors, fields, status, words):
    """Documented errors come with their HTTP code or inside a 200, and start nothing."""
    bench.sandbox.change({"errors": errors})
    reply = await submit(bench, **fields)
    assert reply.status_code == (status if errors == "http" else 200)
    assert reply.json()["status"] == "error"
    assert words in reply.json()["message"]
    counts = bench.sandbox.meter.counts()
    assert (counts["submits_received"], counts["submits_rejected"], counts["submits_accepted"]) == (1, 1, 0)


async def test_every_submit_can_be_refused_in_words_of_choice(bench):
    """A sentence that no page of the vendor holds comes as 200 and `status: error`, and starts nothing."""
    bench.sandbox.change({"refusal_text": "Server is busy"})
    reply = await submit(bench)
    assert (reply.status_code, reply.json()) == (200, {"status": "error", "message": "Server is busy"})
    assert bench.sandbox.meter.counts()["submits_rejected"] == 1


@pytest.mark.parametrize(("track_id", "taken"), [(None, True), (7, True), ("job-7", False), (True, False)])
async def test_the_track_id_can_be_taken_as_an_integer_only(bench, track_id, taken):
    """The page calls it an integral value; by default anything is echoed."""
    assert (await submit(bench, track_id=track_id)).status_code == 200
    bench.sandbox.change({"track_id": "integer"})
    reply = await submit(bench, track_id=track_id)
    assert reply.status_code == (200 if taken else 400)
    assert taken or reply.json()["message"] == "track_id must be an integer"


async def test_an_account_that_takes_only_integers_takes_our_submits(bench):
    """The adapter sends no track id, so that neither form of the page refuses it."""
    bench.sandbox.change({"track_id": "integer"})
    provider = bench.provider()
    assert isinstance(await provider.submit(bench.request(provider)), Accepted)


@pytest.mark.parametrize("path", [SUBMIT, ENTERPRISE_SUBMIT])
async def test_the_fetch_address_of_a_reply_is_of_the_server_that_took_the_job(bench, path):
    """A client that follows `fetch_result` reaches the job where it was taken."""
    first = (await submit(bench, path)).json()
    assert first["fetch_result"] == f"{bench.url}{path.removesuffix('img2video')}fetch/{first['id']}"
    reply = await bench.http.post(first["fetch_result"], json={"key": SANDBOX_KEY})
    assert reply.json()["id"] == first["id"]


async def test_validation_may_come_as_an_object(bench):
    """Some clients found an object of field to list where the message should be."""
    bench.sandbox.change({"validation_message": "object"})
    assert (await submit(bench, fps=17)).json()["message"] == {"fps": ["fps must be between 1 and 16"]}


async def test_a_picture_behind_a_redirect_or_that_is_none_is_refused(bench):
    """The link must lead straight to a picture."""
    for path in ("moved.png", "page"):
        reply = await submit(bench, init_image=f"{bench.site.url}/{path}")
        assert reply.json()["message"] == "init_image is invalid"


async def test_a_body_that_is_not_json_is_an_invalid_request(bench):
    """The recorded answer to a malformed request, not a crash."""
    for content in (b"", b"[1]", b"[" * 50_000, b"\xff"):
        reply = await bench.http.post(bench.url + SUBMIT, content=content)
        assert reply.json() == {"status": "error", "message": "Invalid API Request"}


async def test_the_enterprise_server_takes_base64_and_can_answer_with_it(bench):
    """The dedicated server takes bytes in, with or without a prefix, and gives them out where asked."""
    bench.sandbox.change({"latency": {"mean_s": 0}})
    encoded = base64.b64encode(picture()).decode()
    for image in (encoded, f"data:image/png;base64,{encoded}"):
        body = (
            await submit(
                bench, ENTERPRISE_SUBMIT, init_image=image, output_type="base64", num_frames=2, width=16, height=16
            )
        ).json()
        assert base64.b64decode(body["output"][0])[4:8] == b"ftyp"
    assert (await submit(bench, ENTERPRISE_SUBMIT, min_guidance_scale=0)).json()["status"] == "success"
    done = await post(bench, f"/api/v1/enterprise/video/fetch/{body['id']}")
    assert done.json()["status"] == "success"


async def test_the_queue_is_full_at_the_plan_s_limit_and_empties_one_after_another(bench):
    """Five may wait; the sixth is refused with a hint in the body; renders run one after another."""
    jobs = [(await submit(bench)).json() for _ in range(5)]
    assert [job["eta"] for job in jobs] == [10, 20, 30, 40, 50]
    full = await submit(bench)
    assert (full.status_code, full.json()["retry_after"]) == (429, 30)
    assert "retry-after" not in full.headers
    assert (await post(bench, "/api/v6/processing/request_count")).json()["processing_count"] == 5
    bench.clock.advance(10)
    assert (await fetch(bench, jobs[0]["id"]))["status"] == "success"
    assert (await fetch(bench, jobs[1]["id"]))["status"] == "processing"
    assert (await submit(bench)).status_code == 200
    assert bench.sandbox.meter.submits_accepted == 6


async def test_the_queue_is_counted_per_key(bench):
    """Another account has a queue and a wallet of its own, and cannot see the first one's jobs."""
    bench.sandbox.change({"keys": (SANDBOX_KEY, "another-key"), "queue_max": 1})
    job = (await submit(bench)).json()
    assert (await submit(bench)).status_code == 429
    assert (await submit(bench, key="another-key")).status_code == 200
    reply = await bench.http.post(f"{bench.url}/api/v6/video/fetch/{job['id']}", json={"key": "another-key"})
    assert reply.json()["message"] == "Request not found"


async def test_more_workers_render_side_by_side(bench):
    """With two workers the third job starts when the first ends."""
    bench.sandbox.change({"workers": 2})
    assert [(await submit(bench)).json()["eta"] for _ in range(4)] == [10, 10, 20, 20]


@pytest.mark.parametrize(
    ("charge", "outcome", "refund", "at_submit", "at_end"),
    [
        ("submit", "success", False, 200_000, 200_000),
        ("submit", "failed", False, 200_000, 200_000),
        ("submit", "failed", True, 200_000, 0),
        ("success", "success", False, 0, 200_000),
        ("success", "failed", False, 0, 0),
    ],
)
async def test_the_charge_moment_can_be_switched(bench, charge, outcome, refund, at_submit, at_end):
    """Charged at submit or at success, given back on failure or not: invoice and wallet agree."""
    bench.sandbox.change({"charge": charge, "outcome": outcome, "refund_on_failed": refund})
    await submit(bench)
    assert bench.sandbox.meter.charged_micros == at_submit
    bench.clock.advance(10)
    wallet = (await post(bench, "/api/wallet_balance")).json()
    assert bench.sandbox.meter.charged_micros == at_end
    assert wallet == {"status": "success", "data": {"balance": (10_000_000 - at_end) / 1e6, "currency": "USD"}}


async def test_an_abandoned_job_is_charged_without_anybody_asking(bench):
    """A job that no one fetches is on the invoice all the same."""
    bench.sandbox.change({"charge": "success"})
    await submit(bench)
    bench.clock.advance(10)
    await until(lambda: bench.sandbox.meter.invoice)
    assert (await bench.http.get(f"{bench.url}/_sandbox/invoice")).json()["charges"] == [
        {"request_id": "146", "model": "svd", "amount_micros": 200_000, "at": 1_800_000_010.0}
    ]


async def test_an_empty_wallet_refuses(bench):
    """The account runs dry when less than one price is left."""
    bench.sandbox.change({"credit_micros": 350_000})
    assert (await submit(bench)).status_code == 200
    reply = await submit(bench)
    assert (reply.status_code, "Insufficient credits" in reply.json()["message"]) == (402, True)


@pytest.mark.parametrize(("outcome", "status"), [("failed", "failed"), ("error", "error"), ("moderated", "failed")])
async def test_a_job_can_fail_in_each_form(bench, outcome, status):
    """Failed, error and moderated differ on the wire, and none leaves a file."""
    bench.sandbox.change({"outcome": outcome})
    job = (await submit(bench)).json()
    bench.clock.advance(10)
    assert (await fetch(bench, job["id"]))["status"] == status
    assert (await bench.http.get(job["future_links"][0])).status_code == 404


async def test_records_and_files_expire_by_the_clock(bench):
    """The record and the file are forgotten each in its time; a temporary file after a day."""
    bench.sandbox.change({"record_ttl_s": 100, "file_ttl_s": 1000})
    kept = (await submit(bench, num_frames=2, width=16, height=16)).json()
    temporary = (await submit(bench, num_frames=2, width=16, height=16, temp=True)).json()
    bench.sandbox.change({"temporary_file_ttl_s": 50})
    bench.clock.advance(20)
    assert (await fetch(bench, kept["id"]))["status"] == "success"
    bench.clock.advance(60)
    assert (await bench.http.get(kept["future_links"][0])).status_code == 200
    assert (await bench.http.get(temporary["future_links"][0])).status_code == 404
    bench.clock.advance(30)
    assert await fetch(bench, kept["id"]) == await fetch(bench, 999_999)
    bench.clock.advance(1000)
    assert (await bench.http.get(kept["future_links"][0])).status_code == 404


async def test_an_unknown_id_answers_as_recorded_or_as_documented(bench):
    """A `failed` with an empty id in a 200, or a 404."""
    assert (await fetch(bench, "none"))["id"] == ""
    bench.sandbox.change({"unknown_id": "documented"})
    reply = await post(bench, "/api/v6/video/fetch/1")
    assert (reply.status_code, reply.json()) == (404, {"status": "error", "message": "Video not found"})


async def test_a_fetch_may_leave_the_meta_out(bench):
    """The recorded fetch of a finished job had neither meta nor generation time."""
    bench.sandbox.change({"fetch_meta": False, "latency": {"mean_s": 0}})
    job = (await submit(bench)).json()
    assert set(await fetch(bench, job["id"])) == {"status", "id", "output", "proxy_links"}


async def test_uploads_become_links_for_a_day(bench):
    """Pictures and videos have their own field; what is no data URI is refused; links end after a day."""
    uri = "data:image/png;base64," + base64.b64encode(picture()).decode()
    reply = (await post(bench, "/api/v6/base64_to_url", base64_string=uri)).json()
    link = reply["output"][0]
    stored = await bench.http.get(link)
    assert (stored.content, stored.headers["content-type"]) == (picture(), "image/png")
    assert (await submit(bench, init_image=link)).json()["status"] == "processing"
    assert (await post(bench, "/api/v6/video/base64_to_url", init_obj=uri)).json()["status"] == "success"
    for bad in ("", "iVBORw0K", "data:image/png;base64,***"):
        assert (await post(bench, "/api/v6/base64_to_url", base64_string=bad)).status_code == 400
    bench.clock.advance(86_400)
    assert (await bench.http.get(link)).status_code == 404


async def test_the_clock_and_the_faults_can_be_steered_over_http(bench):
    """The admin pages reach this simulator too."""
    await bench.http.post(f"{bench.url}/_sandbox/faults", json={"operation": "fetch", "fault": "500"})
    job = (await submit(bench)).json()
    assert (await post(bench, f"/api/v6/video/fetch/{job['id']}")).status_code == 500
    await bench.http.post(f"{bench.url}/_sandbox/clock", json={"advance_s": 10})
    assert (await fetch(bench, job["id"]))["status"] == "success"
    meter = (await bench.http.get(f"{bench.url}/_sandbox/meter")).json()
    assert meter["calls"] == {"fetch": 2, "submit": 1}


async def test_a_cached_clip_does_not_depend_on_the_picture(bench):
    """For load tests one clip serves every job of the same frames and rate."""
    bench.sandbox.change({"clip": "cached", "latency": {"mean_s": 0}})
    jobs = [(await submit(bench, num_frames=2, width=16, height=16)).json() for _ in range(2)]
    clips = [(await bench.http.get(job["output"][0])).content for job in jobs]
    assert clips[0] == clips[1]
    assert Image.open(io.BytesIO(clips[0])).n_frames == 2
