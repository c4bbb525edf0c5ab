"""The simulated worker keeps every promise of the worker's protocol, over real HTTP in real time."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import httpx
import pytest

from gateway.clock import SystemClock
from providers.contract import SimulatorTools
from providers.local_gpu.simulator import simulator
from providers.local_gpu.simulator.switches import SANDBOX_KEY
from providers.serving import serve
from tests.contract.local_gpu.conformance import Case, check_conformance

SVD = Case(
    "svd",
    {"num_frames": 3, "fps": 6, "num_inference_steps": 4, "seed": 5, "width": 64, "height": 64},
    token=SANDBOX_KEY,
    within_s=20,
)
SSD = Case(
    "ssd-1b",
    {"prompt": "a hill", "num_inference_steps": 10, "seed": 7},
    token=SANDBOX_KEY,
    within_s=20,
    container="jpg",
)


async def conforms(case: Case, **settings: Any) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        pace = {
            "seconds_per_step": 0.08,
            "seconds_fixed": 0.02,
            "queue_max": 2,
            "scales": False,
            "clip": "cached",
            **settings,
        }
        app = simulator(SimulatorTools("http://127.0.0.1", SystemClock(), Random(1), http, pace))
        async with serve(app) as url:
            await check_conformance(url, case)


@pytest.mark.parametrize(("case", "replicas"), [(SVD, 1), (SVD, 3), (SSD, 1)])
def test_the_simulated_worker_speaks_the_protocol(case: Case, replicas: int) -> None:
    """Line by line, for clips and pictures, with one card and with several."""
    asyncio.run(conforms(case, replicas=replicas))


@pytest.mark.parametrize(
    "broken", [{"ending": "fault"}, {"models": ["svd-xt"]}, {"state": "draining"}, {"queue_max": 0}]
)
def test_the_check_finds_what_breaks_the_protocol(broken: dict[str, Any]) -> None:
    """A worker that fails, lacks the model, drains or has no queue does not pass."""
    with pytest.raises(AssertionError):
        asyncio.run(conforms(SVD, **broken))
