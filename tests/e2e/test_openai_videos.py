"""A server of OpenAI's `/v1/videos` through the whole gateway: made, verified, billed; lost, and made elsewhere."""

from __future__ import annotations

import asyncio
import io

import av
import pytest

from tests.e2e.conftest import Begin
from tests.support.vendors import receipt, refusals

pytestmark = pytest.mark.anyio

SMALL = {"num_frames": 4, "fps": 8, "width": 64, "height": 64}
RENDER_S = 20.0
SECOND_USD_MICROS = 690


async def test_a_clip_is_made_verified_and_billed_by_the_servers_seconds(begin: Begin) -> None:
    """Its frames, rate and size are those asked for; the time that the server tells is what is charged."""
    world = await begin(sections={"openai_videos": {}})
    job = await world.made(pin="openai_videos/i2v", **SMALL)
    assert (job["status"], job["route"], len(job["attempts"])) == ("succeeded", "openai_videos/i2v", 1), job
    with av.open(io.BytesIO((await world.content(job)).content)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.width, stream.average_rate) == (4, 64, 8)
    assert job["bill"]["price_micros"] == RENDER_S * SECOND_USD_MICROS
    assert job["attempts"][0]["cost_source"] == "measured"
    assert receipt(job)["prompt"]["outcome"] == "defaulted"


async def test_what_a_model_does_not_take_is_refused(begin: Begin) -> None:
    """As it was declared."""
    models = {"i2v": {"num_frames": [17, 21, 25], "parameters": ["prompt", "num_frames", "seed"]}}
    world = await begin(sections={"openai_videos": {"models": models}})
    found = refusals(await world.send(num_frames=14, fps=8))["openai_videos/i2v"]
    assert "num_frames 14 is not possible here: only 17 or 21 or 25" in found
    assert "this route has no fps" in found


async def test_a_restarted_server_costs_time_and_no_money(begin: Begin) -> None:
    """It has forgotten the job: another vendor makes it, and the team pays that one alone."""
    world = await begin(sections={"openai_videos": {}, "segmind": {}})
    sent = await world.send(routing={"order": ["openai_videos/i2v", "segmind/svd"]}, fps=8)
    await asyncio.sleep(4)
    world.vendors["openai_videos"].switch(restarts=1)
    job = await world.ended(sent.json()["id"])
    assert [one["route"] for one in job["attempts"]] == ["openai_videos/i2v", "segmind/svd"], job
    assert job["attempts"][0]["failure"]["kind"] == "lost"
    assert job["bill"]["price_micros"] == world.segmind.charged_micros()
