"""The simulated vendor's strictness: each doubt is a switch, and one that cannot work is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.segmind.support import BODIES, HEADERS, IMAGE, Bench, picture, post

pytestmark = pytest.mark.anyio


async def test_inline_results_are_asked_for_by_a_number_too_and_svd_may_give_them_unasked(bench: Bench) -> None:
    """Trap 8: S0 writes `1` for true and makes it the default of /v1/svd, which S2 denies."""
    assert set((await post(bench, "/v1/svd", image=IMAGE, base64=1)).json()) == {"image"}
    assert (await post(bench, "/v1/svd", image=IMAGE, base64=0)).content[4:8] == b"ftyp"
    assert (await post(bench, "/v1/svd", image=IMAGE, base64=2)).status_code == 500
    assert (await post(bench, "/v1/svd", image=IMAGE)).content[4:8] == b"ftyp"
    bench.switch(v1_svd_base64_default=True)
    assert set((await post(bench, "/v1/svd", image=IMAGE)).json()) == {"image"}
    assert (await post(bench, "/v1/svd", image=IMAGE, base64=False)).content[4:8] == b"ftyp"
    motionctrl = await post(bench, "/v1/motionctrl-svd", **BODIES["motionctrl-svd"])
    assert motionctrl.content[4:8] == b"ftyp"


async def test_the_form_of_several_samples_is_a_switch(bench: Bench) -> None:
    """Trap 29: nobody knows how v1 answers for more than one picture."""
    body = BODIES["ssd-img2img"] | {"samples": 3}
    assert len((await post(bench, "/v1/ssd-img2img", **body)).json()["output"]) == 3
    bench.switch(v1_samples_reply="base64")
    assert len((await post(bench, "/v1/ssd-img2img", **body)).json()["image"]) == 3
    bench.switch(v1_samples_reply="first")
    assert (await post(bench, "/v1/ssd-img2img", **body)).content.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("field", ["motion", "fps", "motion_bucket_id", "cond_aug"])
async def test_fields_that_motionctrl_calls_required_must_be_written(bench: Bench, field: str) -> None:
    """Trap 28: they have defaults all the same, which the switch gives them."""
    body = {name: value for name, value in BODIES["motionctrl-svd"].items() if name != field}
    assert (await post(bench, "/v1/motionctrl-svd", **body)).json() == {"error": f"{field} is a required field"}
    bench.switch(required_enforced=False)
    assert (await post(bench, "/v1/motionctrl-svd", **body)).status_code == 200


async def test_the_words_for_a_value_outside_its_set_are_a_switch(bench: Bench) -> None:
    """U5: each value is named once, whatever forms it is taken in."""
    refused = await post(bench, "/v1/svd", image=IMAGE, frames=16)
    assert refused.json() == {"error": "frames must be one of: 14, 25"}
    bench.switch(enum_text="Invalid {field}: pick {choices}")
    assert (await post(bench, "/v1/svd", image=IMAGE, frames=16)).json() == {"error": "Invalid frames: pick 14, 25"}


async def test_refusals_of_the_caller_have_two_envelopes(bench: Bench) -> None:
    """WIRE 1.6: the page on authentication shows another form than the gateway's."""
    bench.switch(auth_envelope="auth", forbidden=("svd",), requests_per_minute=1)
    missing = await bench.http.get(f"{bench.url}/v1/get-user-credits")
    bad = await bench.http.get(f"{bench.url}/v1/get-user-credits", headers={"x-api-key": "SG_wrong"})
    forbidden = await post(bench, "/v2/svd", image=IMAGE)
    await post(bench, "/v2/ssd-img2img", **BODIES["ssd-img2img"])
    limited = await post(bench, "/v2/ssd-img2img", **BODIES["ssd-img2img"])
    symbols = {missing: "invalid_token", bad: "invalid_api_key", forbidden: "insufficient_scope"}
    for reply, symbol in (symbols | {limited: "rate_limit_exceeded"}).items():
        assert set(reply.json()) == {"error", "error_description", "status_code"}
        assert (reply.json()["error"], reply.json()["status_code"]) == (symbol, reply.status_code)


@pytest.mark.parametrize("endpoint", ["v1/svd", "v2/svd", "v1/motionctrl-svd", "v1/ssd-img2img"])
async def test_base64_is_taken_where_switched(bench: Bench, endpoint: str, site: str) -> None:
    """U11: the newer pages show links only; an address that takes no base64 still takes a link."""
    everywhere = bench.simulator.vendor.switches.base64_taken_by
    bench.switch(base64_taken_by=[other for other in everywhere if other != endpoint], v2_validation="submit")
    body = BODIES[endpoint.partition("/")[2]]
    name = next(name for name in body if name.endswith("image"))
    states = []
    for picture_sent in (IMAGE, f"{site}/picture.png"):
        await post(bench, f"/{endpoint}", **(body | {name: picture_sent}))
        bench.clock.advance(60)
        states.append(list(bench.simulator.vendor.runs.values())[-1].state(bench.clock.now()))
    assert states == ["FAILED", "COMPLETED"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"latency": {"sdv": {"mean_s": 1}}}, "there is no model 'sdv'; there are: motionctrl-svd"),
        ({"prices_micros": {"svd": -1}}, "greater than or equal to 0"),
        ({"prices_micros": {"sdv": 1}}, "there is no model 'sdv'"),
        ({"retired": ["sdv"]}, "there is no model 'sdv'"),
        ({"fault_rates": {"submit": {"nonsense": 1.0}}}, "there is no fault 'nonsense'; there are: 429"),
        ({"fault_rates": {"submitt": {"429": 1.0}}}, "there is no operation 'submitt'; there are: balance"),
        ({"fault_rates": {"submit": {"429": 0.7, "500": 0.7}}}, "add up to 1 at most"),
        ({"credit_text": "You have {foo}"}, "there is no placeholder 'foo'; there are: balance, price"),
        ({"enum_text": "{field} of {"}, "encountered in format string"),
        ({"enum_text": "{balance}"}, "there are: choices, field"),
        ({"base64_taken_by": ["v3/svd"]}, "there is no address 'v3/svd'"),
        ({"credit_text": "You have {"}, "encountered in format string"),
        ({"credit_text": "You have {balance:d}"}, "a placeholder is a name alone"),
        ({"v1_content_type": "video/mp4\n"}, "v1_content_type: string should match pattern"),
        ({"poll_url_failed_status": 7}, "greater than or equal to 200"),
        ({"v1_cutoff_s": -1}, "greater than or equal to 0"),
    ],
)
async def test_a_switch_that_could_not_work_is_refused_with_a_sentence(
    bench: Bench, changes: dict[str, Any], sentence: str
) -> None:
    """What would break a later call is refused when it is set, and changes nothing."""
    before = bench.simulator.vendor.switches
    reply = await bench.http.patch(f"{bench.url}/_sandbox/settings", json=changes)
    assert reply.status_code == 422
    assert sentence in reply.text
    assert bench.simulator.vendor.switches == before


async def test_a_number_without_end_is_no_setting(bench: Bench) -> None:
    """JSON has no infinity, but readers of it do."""
    for body in (b'{"hang_s": Infinity}', b'{"speed": NaN}'):
        assert (await bench.http.patch(f"{bench.url}/_sandbox/settings", content=body)).status_code == 422


async def test_models_that_are_not_named_keep_their_published_latency_and_price(bench: Bench) -> None:
    """Setting one model does not take the others away."""
    bench.switch(latency={"svd": {"mean_s": 1}}, prices_micros={"svd": 1})
    reply = await post(bench, "/v2/motionctrl-svd", **BODIES["motionctrl-svd"])
    assert reply.status_code == 200
    switches = bench.simulator.vendor.switches
    assert (switches.latency["svd"].mean_s, switches.latency["motionctrl-svd"].mean_s) == (1, 62.74)
    assert (switches.prices_micros["svd"], switches.prices_micros["motionctrl-svd"]) == (1, 89_300)


async def test_a_body_nested_without_end_is_malformed(bench: Bench) -> None:
    """It is refused as any malformed body, and the sandbox's own pages take it for nothing."""
    headers = HEADERS | {"content-type": "application/json"}
    deep = b"[" * 200_000
    assert (await bench.http.post(f"{bench.url}/v2/svd", headers=headers, content=deep)).status_code == 400
    assert (await bench.http.post(f"{bench.url}/upload-asset", headers=headers, content=deep)).status_code == 400
    form = await bench.http.post(f"{bench.url}/v1/svd", headers=HEADERS, data={"fps": deep}, files={"image": picture()})
    assert form.status_code == 500
    assert (await bench.http.patch(f"{bench.url}/_sandbox/settings", content=deep)).status_code == 200
    huge = (await post(bench, "/v1/svd", image=IMAGE, fps=10**400)).status_code
    assert huge == 500
    assert bench.meter.submits_accepted == 0
