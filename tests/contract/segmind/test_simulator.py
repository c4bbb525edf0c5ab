"""The simulated vendor against WIRE 6: what each page checks and answers, and every switch while it runs."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from providers.segmind.simulator import SANDBOX_KEY, SegmindSwitches
from tests.contract.segmind.support import BODIES, HEADERS, IMAGE, Bench, get, picture, post

pytestmark = pytest.mark.anyio


async def test_the_two_ways_to_lack_a_key_are_told_apart(bench: Bench) -> None:
    """No key and a bad key have their own texts, on reads too, and a bearer token is no key."""
    for path in ("/v1/get-user-credits", "/v2/requests/x/status", "/inference-request/request-history"):
        nothing = await bench.http.get(f"{bench.url}{path}")
        bad = await bench.http.get(f"{bench.url}{path}", headers={"x-api-key": "SG_wrong"})
        bearer = await bench.http.get(f"{bench.url}{path}", headers={"authorization": f"Bearer {SANDBOX_KEY}"})
        assert [reply.status_code for reply in (nothing, bad, bearer)] == [401, 401, 401]
        assert "Missing Authorization or x-api-key" in nothing.json()["error"]
        assert "API key is invalid" in bad.json()["error"] == bearer.json()["error"]


async def test_a_wrong_verb_is_answered_in_html(bench: Bench) -> None:
    """405 is the one page that is not JSON, and it counts as no call."""
    wrong = [("GET", f"/{version}/svd") for version in ("v1", "v2")]
    wrong += [
        ("GET", "/upload-asset"),
        ("OPTIONS", "/v2/svd"),
        ("POST", "/generations/x.mp4"),
        ("PUT", "/assets/x.png"),
    ]
    wrong += [("POST", "/v1/get-user-credits"), ("DELETE", "/v2/requests/x"), ("POST", "/v2/requests/x/status")]
    wrong += [("POST", "/v1/requests/x"), ("POST", "/inference-request/request-history")]
    for verb, path in wrong:
        reply = await bench.http.request(verb, f"{bench.url}{path}", headers=HEADERS)
        assert reply.status_code == 405, path
        assert reply.headers["content-type"].startswith("text/html")
    assert bench.meter.calls == {}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_wrong_content_type_is_not_acceptable(bench: Bench, content_type: str | None) -> None:
    """Only JSON and forms are taken."""
    headers = HEADERS | ({"content-type": content_type} if content_type else {})
    reply = await bench.http.post(f"{bench.url}/v1/svd", headers=headers, content=b"{}")
    assert (reply.status_code, reply.json()) == (406, {"error": "Invalid content type"})


async def test_a_form_is_taken_too(bench: Bench) -> None:
    """multipart/form-data works, its numbers as text, the picture as a file."""
    reply = await bench.http.post(
        f"{bench.url}/v1/svd", headers=HEADERS, data={"fps": "5", "frames": "14"}, files={"image": picture()}
    )
    assert (reply.status_code, reply.headers["content-type"]) == (200, "video/mp4")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
async def test_a_malformed_body_is_a_bad_request(bench: Bench, body: bytes) -> None:
    """400 for what is not a JSON object."""
    headers = HEADERS | {"content-type": "application/json"}
    reply = await bench.http.post(f"{bench.url}/v2/svd", headers=headers, content=body)
    assert reply.status_code == 400


async def test_an_unknown_model_and_an_unknown_page_are_not_found(bench: Bench) -> None:
    """404 in JSON."""
    for path in ("/v1/nope", "/v2/nope", "/workflows-nowhere"):
        reply = await post(bench, path, image=IMAGE)
        assert reply.status_code == 404
        assert reply.json()["error"]


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("/v1/svd", {"image": None}, 400),
        ("/v1/svd", {"frames": 15}, 406),
        ("/v1/svd", {"frames": "14"}, 200),
        ("/v1/svd", {"frames": 14}, 200),
        ("/v1/svd", {"resize_method": "stretch"}, 406),
        ("/v1/svd", {"motion": 181}, 500),
        ("/v1/svd", {"motion": "CW"}, 500),
        ("/v1/svd", {"fps": 0}, 500),
        ("/v1/svd", {"misspelt": 1}, 200),
        ("/v1/motionctrl-svd", {"motion": "cw"}, 406),
        ("/v1/motionctrl-svd", {"motion": "Pan Up"}, 200),
        ("/v1/motionctrl-svd", {"motion_bucket_id": 126}, 500),
        ("/v1/motionctrl-svd", {"fps": 31}, 500),
        ("/v1/motionctrl-svd", {"motion_speed": 10.5}, 500),
        ("/v1/ssd-img2img", {"samples": 5}, 500),
        ("/v1/ssd-img2img", {"strength": 7.5}, 500),
        ("/v1/ssd-img2img", {"prompt": None}, 400),
        ("/v1/ssd-img2img", {}, 200),
    ],
)
async def test_bad_values_fail_as_documented(bench: Bench, path: str, changes: dict[str, Any], status: int) -> None:
    """A value outside a fixed set is 406 before anything runs; a number outside its range comes back as 500."""
    reply = await post(bench, path, **(BODIES[path.rpartition("/")[2]] | changes))
    assert reply.status_code == status, reply.text
    assert bench.meter.submits_accepted == (status == 200)


@pytest.mark.parametrize(("rule", "status"), [("500", 500), ("406", 406), ("clamp", 200)])
async def test_what_happens_to_a_number_outside_its_range_is_a_switch(bench: Bench, rule: str, status: int) -> None:
    """U5: refused in either way, or silently moved."""
    bench.switch(out_of_range=rule)
    assert (await post(bench, "/v1/svd", image=IMAGE, motion=255)).status_code == status


async def test_a_v2_submit_is_two_hundred_even_for_a_body_that_fails_later(bench: Bench) -> None:
    """The default of U6; the switch makes it fail at once."""
    reply = await post(bench, "/v2/svd", frames=15)
    assert reply.status_code == 200
    bench.clock.advance(5)
    status = await bench.http.get(reply.json()["status_url"], headers=HEADERS)
    result = await bench.http.get(reply.json()["response_url"], headers=HEADERS)
    assert (status.status_code, result.status_code) == (422, 422)
    assert status.json()["status"] == result.json()["status"] == "FAILED"
    assert set(status.json()["metrics"]) == {"inference_time", "queue_time", "total_time"}
    bench.switch(v2_validation="submit")
    assert (await post(bench, "/v2/svd", frames=15)).status_code == 400
    assert (await post(bench, "/v2/svd", image=IMAGE, frames=15)).status_code == 406
    assert bench.meter.charged_micros == 0


async def test_a_run_goes_through_its_states_and_its_record_expires(bench: Bench) -> None:
    """QUEUED, PROCESSING, COMPLETED, and 404 an hour later; the file lives a week."""
    submitted = (await post(bench, "/v2/svd", image=IMAGE, seed=3)).json()
    name = submitted["request_id"]
    assert submitted["status"] == "QUEUED"
    assert submitted["poll_url"] == f"{bench.url}/v1/requests/{name}"
    assert submitted["status_url"] == f"{bench.url}/v2/requests/{name}/status"
    assert submitted["response_url"] == f"{bench.url}/v2/requests/{name}"
    states = []
    for wait_s in (0, 1, 10):
        bench.clock.advance(wait_s)
        states.append((await get(bench, f"/v2/requests/{name}/status")).json())
    assert [state["status"] for state in states] == ["QUEUED", "PROCESSING", "COMPLETED"]
    assert states[0]["metrics"] == {}
    assert "output" not in states[2]
    result = (await get(bench, f"/v2/requests/{name}")).json()
    assert result["output"] == result["video"]["url"]
    assert (result["seed"], result["error"]) == ("3", None)
    assert result["video"]["file_size"] == str(len((await bench.file(result["output"])).content))
    assert result["metrics"]["cost"] == pytest.approx(0.1659)
    bench.clock.advance(3_590)
    assert (await get(bench, f"/v2/requests/{name}/status")).status_code == 200
    bench.clock.advance(11)
    for path in (f"/v2/requests/{name}/status", f"/v2/requests/{name}", f"/v1/requests/{name}"):
        gone = await get(bench, path)
        assert (gone.status_code, gone.json()) == (404, {"error": f"Request {name} not found"})
    assert (await bench.file(result["output"])).status_code == 200
    bench.clock.advance(7 * 86_400)
    assert (await bench.file(result["output"])).status_code == 403


async def test_an_unknown_request_looks_like_an_expired_one(bench: Bench) -> None:
    """The reply is the same (trap 13)."""
    reply = await get(bench, "/v2/requests/00000000-0000-4000-8000-000000000000")
    assert reply.status_code == 404
    assert reply.json() == {"error": "Request 00000000-0000-4000-8000-000000000000 not found"}


async def test_the_poll_url_answers_like_the_result(bench: Bench) -> None:
    """U7: a page of its own, with its own status for a failed run."""
    bench.switch(failure_rate=1.0, poll_url_failed_status=200)
    submitted = (await post(bench, "/v2/svd", image=IMAGE)).json()
    bench.clock.advance(30)
    reply = await bench.http.get(submitted["poll_url"], headers=HEADERS)
    assert (reply.status_code, reply.json()["status"]) == (200, "FAILED")


async def test_every_post_is_a_new_run_and_only_success_is_charged(bench: Bench) -> None:
    """No deduplication; the invoice has a line for each success with its id, price and time."""
    first, second = [(await post(bench, "/v2/svd", image=IMAGE, seed=1)).json()["request_id"] for _ in range(2)]
    assert first != second
    bench.switch(failure_rate=1.0)
    await post(bench, "/v2/svd", image=IMAGE)
    assert bench.meter.invoice == []
    bench.clock.advance(60)
    assert [charge.request_id for charge in bench.meter.invoice] == [first, second]
    assert [charge.amount_micros for charge in bench.meter.invoice] == [165_900, 165_900]
    assert {charge.at for charge in bench.meter.invoice} == {bench.clock.now() - 60 + 10.4}
    assert bench.meter.submits_accepted == 3


async def test_a_cut_off_call_is_answered_504_and_billed_only_if_switched(bench: Bench) -> None:
    """U4: the documents say that only HTTP 200 is billed."""
    for billed in (False, True):
        bench.switch(v1_cutoff_s=5.0, bill_gateway_errors=billed)
        assert (await post(bench, "/v1/svd", image=IMAGE)).status_code == 504
        bench.clock.advance(60)
    assert len(bench.meter.invoice) == 1


async def test_inline_results_use_the_key_that_is_switched(bench: Bench) -> None:
    """U2: `base64: true` wraps the file in JSON on v1 and does nothing on v2 unless switched."""
    wrapped = await post(bench, "/v1/svd", image=IMAGE, base64=True)
    assert base64.b64decode(wrapped.json()["image"])[4:8] == b"ftyp"
    bench.switch(v1_base64_key="video", v2_base64_inline=True)
    assert set((await post(bench, "/v1/svd", image=IMAGE, base64=True)).json()) == {"video"}
    submitted = (await post(bench, "/v2/svd", image=IMAGE, base64=True)).json()
    bench.clock.advance(30)
    result = (await bench.http.get(submitted["response_url"], headers=HEADERS)).json()
    assert base64.b64decode(result["output"])[4:8] == b"ftyp"


async def test_prices_may_follow_the_marked_parameters(bench: Bench) -> None:
    """U9: fps and motion, samples and steps, in proportion."""
    bench.switch(price_follows_parameters=True)
    price = bench.simulator.vendor.price_micros
    assert price("svd", {"fps": 14, "motion": 127}) == 331_800
    assert price("ssd-img2img", {"samples": 4, "num_inference_steps": 50}) == 3_310 * 8
    assert price("motionctrl-svd", {"fps": 30}) == 89_300


async def test_a_busy_account_waits_in_the_queue(bench: Bench) -> None:
    """U8: with a concurrency limit the second run starts when the first is done."""
    bench.switch(concurrency_max=1)
    for _ in range(2):
        await post(bench, "/v2/svd", image=IMAGE)
    first, second = bench.simulator.vendor.runs.values()
    assert second.starts_at == pytest.approx(first.done_at + 0.4)


async def test_motionctrl_repeats_its_fixed_seed_and_may_take_minus_one_literally(bench: Bench) -> None:
    """Trap 7 and U10: no seed is the same seed every time; -1 draws one unless switched."""
    bench.switch(motionctrl_random_seed=False)
    seeds = []
    for body in ({}, {}, {"seed": -1}):
        reply = await post(bench, "/v1/motionctrl-svd", **BODIES["motionctrl-svd"], **body)
        seeds.append(reply.headers["x-seed-value"])
    assert seeds == ["985445", "985445", "-1"]
    bench.switch(motionctrl_random_seed=True, motionctrl_playback_fps=10)
    drawn = await post(bench, "/v1/motionctrl-svd", **BODIES["motionctrl-svd"], seed=-1)
    assert int(drawn.headers["x-seed-value"]) > 0


async def test_a_random_seed_is_reported_so_that_it_can_be_replayed(bench: Bench) -> None:
    """Seed -1 draws one, named in the header on v1 and as text in the v2 body."""
    first, second = [(await post(bench, "/v1/svd", image=IMAGE)).headers["x-seed-value"] for _ in range(2)]
    assert first != second


async def test_pictures_are_judged_as_switched(bench: Bench) -> None:
    """U10, U11: data URIs, large pictures, pictures that are none."""
    uri = f"data:image/png;base64,{IMAGE}"
    assert (await post(bench, "/v1/svd", image=uri)).status_code == 200
    bench.switch(accepts_data_uri=False, picture_pixels_max=64 * 48 - 1)
    assert (await post(bench, "/v1/svd", image=uri)).status_code == 500
    assert (await post(bench, "/v1/svd", image=IMAGE)).status_code == 500
    assert (await post(bench, "/v1/svd", image=base64.b64encode(b"no picture").decode())).status_code == 500
    assert (await post(bench, "/v1/svd", image="%%%")).status_code == 500


async def test_a_redirecting_link_is_followed_only_if_switched(bench: Bench, site: str) -> None:
    """U11."""
    link = f"{site}/moved.png"
    assert (await post(bench, "/v1/svd", image=link)).status_code == 500
    bench.switch(follows_redirects=True)
    assert (await post(bench, "/v1/svd", image=link)).status_code == 200


async def test_the_credit_page_has_its_hyphen_and_free_credit_goes_first(bench: Bench) -> None:
    """`free-credits` (trap 30)."""
    assert (await get(bench, "/v1/get-user-credits")).json() == {"credits": 100.0, "free-credits": 1.0}
    await post(bench, "/v1/svd", image=IMAGE)
    assert (await get(bench, "/v1/get-user-credits")).json() == {"credits": 100.0, "free-credits": 0.8341}


async def test_the_rate_limit_has_a_reset_time_and_no_retry_after(bench: Bench) -> None:
    """Trap 17."""
    bench.switch(requests_per_minute=1)
    await post(bench, "/v2/svd", image=IMAGE)
    reply = await post(bench, "/v2/svd", image=IMAGE)
    assert reply.status_code == 429
    assert reply.headers["x-rate-limit-reset-at-utc"] == "2027-01-15T08:01:00Z"
    assert "retry-after" not in reply.headers


async def test_the_history_shows_running_finished_and_failed_requests(bench: Bench) -> None:
    """Newest first, filtered and paged, with inputs as sent less the picture."""
    await post(bench, "/v2/svd", image=IMAGE, seed=1)
    bench.clock.advance(60)
    bench.switch(failure_rate=1.0)
    await post(bench, "/v2/motionctrl-svd", **BODIES["motionctrl-svd"])
    bench.clock.advance(60)
    await post(bench, "/v2/svd", image="https://pictures.example/a.png")
    page = (await get(bench, "/inference-request/request-history")).json()
    assert [row["model_status"] for row in page["data"]] == ["PENDING", "FAILED", "COMPLETED"]
    assert page["data"][2]["request_body"] == {"seed": 1}
    assert page["data"][0]["request_body"] == {"image": "https://pictures.example/a.png"}
    assert page["data"][2]["credits_deduction"] == pytest.approx(0.1659)
    assert page["data"][1]["error"]
    filtered = await get(bench, "/inference-request/request-history", status="FAILED", model_name="motion")
    assert len(filtered.json()["data"]) == 1
    second = await get(bench, "/inference-request/request-history", page=2, per_page=2)
    assert len(second.json()["data"]) == 1
    long = await get(bench, "/inference-request/request-history", from_date="2026-01-01", to_date="2027-01-15")
    assert long.status_code == 400


async def test_a_file_needs_no_key_and_exists_only_when_it_is_done(bench: Bench) -> None:
    """Output links are public and unguessable (trap 37)."""
    await post(bench, "/v2/svd", image=IMAGE)
    (run,) = bench.simulator.vendor.runs.values()
    link = f"{bench.url}/generations/{run.file_names()[0]}"
    assert (await bench.file(link)).status_code == 403
    bench.clock.advance(60)
    assert (await bench.file(link)).status_code == 200
    assert (await bench.file(f"{bench.url}/generations/guess.mp4")).status_code == 403


async def test_everything_is_set_while_it_runs(bench: Bench) -> None:
    """The sandbox pages change settings, script faults, move the clock and show the meter and the invoice."""
    settings = (await bench.http.get(f"{bench.url}/_sandbox/settings")).json()
    assert set(settings) == set(SegmindSwitches.model_fields)
    changed = await bench.http.patch(f"{bench.url}/_sandbox/settings", json={"retired": ["svd"], "speed": 50})
    assert changed.status_code == 200
    assert (await post(bench, "/v2/svd", image=IMAGE)).status_code == 410
    wrong = await bench.http.patch(f"{bench.url}/_sandbox/settings", json={"retired": [], "speed": 0})
    assert wrong.status_code == 422
    assert bench.simulator.vendor.switches.retired == ("svd",), "all or none"
    await bench.http.patch(f"{bench.url}/_sandbox/settings", json={"retired": []})
    scripted = {"operation": "submit", "fault": "502_after_accept", "count": 1}
    assert (await bench.http.post(f"{bench.url}/_sandbox/faults", json=scripted)).json()["pending"] == {
        "submit": ["502_after_accept"]
    }
    assert (await post(bench, "/v2/svd", image=IMAGE)).status_code == 502
    moved = await bench.http.post(f"{bench.url}/_sandbox/clock", json={"advance_s": 60})
    assert moved.json() == {"now": bench.clock.now()}
    meter = (await bench.http.get(f"{bench.url}/_sandbox/meter")).json()
    assert (meter["submits_received"], meter["submits_accepted"], meter["charged_micros"]) == (2, 1, 165_900)
    invoice = (await bench.http.get(f"{bench.url}/_sandbox/invoice")).json()["charges"]
    assert [charge["amount_micros"] for charge in invoice] == [165_900]


async def test_a_speed_shortens_every_wait(bench: Bench) -> None:
    """At 100, ten seconds of rendering take a tenth of one."""
    bench.switch(speed=100)
    started = bench.clock.now()
    await post(bench, "/v1/svd", image=IMAGE)
    assert bench.clock.now() - started == pytest.approx(0.104, abs=1e-3)


async def test_cached_clips_are_one_file_whatever_the_picture(bench: Bench) -> None:
    """For load tests: one clip per frame count and rate."""
    bench.switch(clip="cached")
    other = base64.b64encode(picture() + b"\x00").decode()
    first, second = [(await post(bench, "/v1/svd", image=image)).content for image in (IMAGE, other)]
    assert first == second
