"""Another model or another seed than ordered: seen, booked to whom it belongs, and told."""

from __future__ import annotations

from collections import deque

import pytest
from starlette.responses import JSONResponse

from tests.e2e.conftest import Begin
from tests.support.vendors import receipt

pytestmark = pytest.mark.anyio

SVD_MICROS, MODELSLAB_MICROS = 165_900, 200_000
SWAPPING_FIRST = {"order": ["modelslab/svd", "segmind/svd"], "only": ["modelslab/svd", "segmind/svd"]}


@pytest.mark.parametrize("tells_again", [True, False], ids=["told at the end too", "told at submit only"])
async def test_trap_20_a_swapped_model_is_the_operators_cost(begin: Begin, tells_again: bool) -> None:
    """wan2.2 in place of svd is not what was ordered: the team gets and pays the other vendor's svd alone."""
    world = await begin()
    world.modelslab.switch(substitute_model="wan2.2", fetch_meta=tells_again)
    job = await world.made(routing=SWAPPING_FIRST, fps=7)
    assert job["status"] == "succeeded", job
    failed, delivered = job["attempts"]
    assert (failed["route"], failed["failure"]["kind"]) == ("modelslab/svd", "not_as_ordered")
    assert failed["failure"]["detail"] == "the vendor ran 'wan2.2' instead of 'svd'"
    assert delivered["route"] == job["route"] == "segmind/svd"
    assert job["result"]["deviations"] == []
    assert job["bill"]["price_micros"] == world.segmind.charged_micros() == SVD_MICROS
    balances = await world.gateway.balances()
    assert balances["loss"] == world.modelslab.charged_micros() == MODELSLAB_MICROS


async def test_a_swapped_model_is_delivered_where_the_operator_accepts_it(begin: Begin) -> None:
    """With media.accept_other_model the result counts, says which model made it, and notes the difference."""
    world = await begin(media={"accept_other_model": True})
    world.modelslab.switch(substitute_model="wan2.2")
    job = await world.made(routing=SWAPPING_FIRST, fps=7)
    assert (job["status"], job["route"], len(job["attempts"])) == ("succeeded", "modelslab/svd", 1)
    assert job["result"]["model"] == "wan2.2"
    assert job["result"]["deviations"] == ["the vendor ran 'wan2.2' instead of 'svd'"]
    assert job["bill"]["price_micros"] == world.modelslab.charged_micros() == MODELSLAB_MICROS
    assert (await world.gateway.balances()).get("loss", 0) == 0


async def test_only_swapped_models_cost_the_team_nothing(begin: Begin) -> None:
    """Where every attempt comes back from another model, the job ends free of charge and each render is a loss."""
    world = await begin(sections={"modelslab": {}})
    world.modelslab.switch(substitute_model="wan2.2")
    job = await world.made(width=128, height=96, routing={"pin": "modelslab/svd", "deadline_s": 60})
    assert job["status"] in {"failed", "expired"}, job
    assert {one["failure"]["kind"] for one in job["attempts"]} == {"not_as_ordered"}
    assert job["bill"]["price_micros"] == 0
    assert (await world.gateway.balances())["loss"] == world.modelslab.charged_micros()


@pytest.mark.parametrize("route", ["segmind/svd", "segmind/svd-sync"])
async def test_trap_07_another_seed_than_asked_is_a_deviation_of_the_result(begin: Begin, route: str) -> None:
    """The video is delivered and billed; that it cannot be repeated with the asked seed is said, with the true one."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(honours_seed=False)
    job = await world.made(pin=route, seed=4711)
    assert job["status"] == "succeeded", job
    used = job["result"]["seed"]
    assert used != 4711
    assert receipt(job)["seed"]["sent"] == 4711
    assert job["result"]["deviations"] == [f"the vendor reports seed {used} instead of 4711"]
    assert job["attempts"][0]["seed"] == used
    assert job["bill"]["price_micros"] == world.segmind.charged_micros() == SVD_MICROS


async def test_a_seed_that_vidgate_drew_is_compared_as_well(begin: Begin) -> None:
    """For -1 vidgate draws the seed: the receipt shows it, the vendor gets it, and nothing deviates."""
    world = await begin(sections={"segmind": {}})
    job = await world.made(pin="segmind/svd")
    (sent,) = world.segmind.posted("/v2/svd")
    line = receipt(job)["seed"]
    assert line["sent"] == sent["seed"] == job["result"]["seed"] >= 0
    assert (line["asked"], line["outcome"]) == (None, "defaulted")
    assert job["result"]["deviations"] == []


async def test_a_seed_that_the_vendor_draws_itself_is_told_and_no_deviation(begin: Begin) -> None:
    """ModelsLab takes no seed: a concrete one is refused, and the one it reports is the result's."""
    world = await begin(sections={"modelslab": {}})
    refused = await world.send(pin="modelslab/svd", seed=7)
    assert refused.status_code == 422
    job = await world.made(pin="modelslab/svd", seed=-1, width=128, height=96)
    assert job["result"]["seed"] >= 2**31
    assert job["result"]["deviations"] == []


async def test_trap_40_a_state_that_nobody_knows_ends_at_the_published_deadline(begin: Begin) -> None:
    """A word that is in no documentation is neither success nor failure: asked again, then given up at no cost.

    What the vendor charged is no suspicion, because its balance fell by it: it is the operator's loss.
    """
    world = await begin(sections={"segmind": {}}, jobs={"in_doubt_s": 300}, polling={"delay_max_s": 60})
    dreaming = deque(JSONResponse({"status": "DREAMING"}) for _ in range(1_000))
    world.segmind.tap.instead["/v2/requests/"] = dreaming
    job = await world.made(pin="segmind/svd")
    assert job["status"] == "expired", job
    assert job["attempts"][0]["failure"]["kind"] == "lost"
    assert job["bill"]["price_micros"] == 0
    assert world.segmind.sandbox.meter.submits_received == 1
    assert 1 < world.segmind.polls() < 100
    assert (await world.gateway.balances())["loss"] == world.segmind.charged_micros() == SVD_MICROS


BLOCKS = {
    "modelslab": {"outcome": "moderated"},
    "segmind": {"moderation_rate": 1.0, "moderation_text": "RAI: blocked"},
}


@pytest.mark.parametrize("first", BLOCKS)
async def test_trap_34_a_content_block_is_never_shopped_around(begin: Begin, first: str) -> None:
    """What one vendor blocked is not sent to the other one: the job fails, free for the team."""
    world = await begin()
    world.vendors[first].switch(**BLOCKS[first])
    second = next(name for name in BLOCKS if name != first)
    job = await world.made(routing={"order": [f"{first}/svd", f"{second}/svd"]}, fps=7)
    assert job["status"] == "failed", job
    assert [one["failure"]["kind"] for one in job["attempts"]] == ["moderated"]
    assert job["bill"]["price_micros"] == 0
    assert world.vendors[second].sandbox.meter.submits_received == 0


@pytest.mark.parametrize("outcome", ["failed", "error"])
async def test_a_render_that_fails_goes_to_the_next_vendor(begin: Begin, outcome: str) -> None:
    """Both of a vendor's words for failure are understood, and the team pays for the one that was delivered."""
    world = await begin()
    world.modelslab.switch(outcome=outcome)
    job = await world.made(routing=SWAPPING_FIRST, fps=7)
    assert (job["status"], job["route"]) == ("succeeded", "segmind/svd")
    assert job["attempts"][0]["failure"]["kind"] == "render_failed"
    assert job["bill"]["price_micros"] == world.segmind.charged_micros() == SVD_MICROS


async def test_one_picture_for_an_order_of_three_is_not_the_order(begin: Begin) -> None:
    """A v1 reply that holds only the first of three samples is a loss; the other route delivers all three."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(v1_samples_reply="first")
    routes = ["segmind/ssd-img2img", "segmind/ssd-img2img-async"]
    job = await world.made("image", prompt="a hill", samples=3, routing={"order": routes, "only": routes})
    assert job["status"] == "succeeded", job
    failed, delivered = job["attempts"]
    assert failed["failure"] == {"kind": "not_as_ordered", "detail": "1 of 3 pictures were delivered"}
    assert (failed["route"], delivered["route"]) == ("segmind/ssd-img2img", "segmind/ssd-img2img-async")
    assert len(job["result"]["files"]) == 3
    assert (await world.gateway.balances())["loss"] == world.segmind.charged_micros() - job["bill"]["price_micros"]
