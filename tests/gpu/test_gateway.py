"""The whole way: a caller, the gateway, the worker's protocol, diffusers on the CPU, a verified file, the books."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from gateway.client import Job, JobFailedError
from tests.support.gpu_gateway import Gateway, gateway_for
from tests.support.gpu_jobs import check_billed_once, check_clip, rendering, submit
from tests.support.gpu_process import Worker, program
from tests.support.tiny_renders import scene


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker with one card."""
    with program("gpu-worker", tmp_path_factory.mktemp("worker")) as running:
        yield running


@pytest.fixture
def gateway(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of which the worker is the only vendor."""
    with gateway_for(worker.url, tmp_path_factory.mktemp("gateway")) as running:
        yield running


def test_a_clip_by_diffusers_with_live_progress_billed_by_the_second(gateway: Gateway, worker: Worker) -> None:
    """Followed while it renders, verified, charged what the card measured; the same seed again is the same file."""
    seen: list[float | None] = []

    def follow(job: Job) -> None:
        seen.append(job.fraction)

    first = gateway.client.wait(submit(gateway, seed=42, num_inference_steps=100), on_progress=follow)
    told = [fraction for fraction in seen if fraction is not None]
    assert told == sorted(told)
    assert len(set(told)) >= 2, seen
    assert 0 < told[0] < 1
    data = check_clip(gateway, first)
    again = gateway.client.wait(submit(gateway, seed=42, num_inference_steps=100))
    assert check_clip(gateway, again) == data
    check_billed_once(gateway, first, again)
    receipt = {row["parameter"]: row for row in first.raw["receipt"]}
    assert receipt["seed"]["sent"] == 42
    assert receipt["decode_chunk_size"]["sent"] == 2


def test_a_cancel_stops_the_card_at_its_next_step(gateway: Gateway, worker: Worker) -> None:
    """The job is canceled and costs nothing, and the card is free at once for the next one."""
    job = rendering(gateway, submit(gateway, num_inference_steps=100))
    gateway.client.cancel(job)
    with pytest.raises(JobFailedError, match="canceled"):
        gateway.client.wait(job)
    ended = gateway.client.job(job.id)
    assert ended.status == "canceled"
    render = worker.ended(ended.raw["attempts"][0]["id"])
    assert render["state"] == "canceled"
    assert 1 <= render["step"] < 100
    after = gateway.client.wait(submit(gateway, num_inference_steps=3))
    check_clip(gateway, after)
    check_billed_once(gateway, after)


def test_a_card_that_dies_under_a_job_is_the_gateways_business_only_if_it_stays_dead(
    gateway: Gateway, worker: Worker
) -> None:
    """kill -9 to the process with the card: the job goes on under one attempt, and is billed once."""
    job = rendering(gateway, submit(gateway, num_inference_steps=30, seed=3))
    (card,) = worker.children()
    os.kill(card, signal.SIGKILL)
    ended = gateway.client.wait(job)
    check_clip(gateway, ended)
    check_billed_once(gateway, ended)


def test_a_camera_move_is_refused_with_the_reason(gateway: Gateway) -> None:
    """diffusers has no MotionCtrl, and the plan says so."""
    quote = gateway.client.quote_video(scene(), camera_motion="zoom_in")
    assert "diffusers has no MotionCtrl" in str(quote["refused"]), quote
