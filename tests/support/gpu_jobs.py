"""Jobs of a real gateway over a real worker, as both kinds of worker are held against them."""

from __future__ import annotations

import io
from typing import Any

import av

from gateway.client import Job
from tests.support.gpu_gateway import Gateway
from tests.support.gpu_process import wait_until
from tests.support.tiny_renders import scene

PINNED: dict[str, Any] = {"routing": {"pin": "local/svd"}}
SMALL: dict[str, Any] = {"num_frames": 4, "width": 64, "height": 64, "decode_chunk_size": 2, "fps": 9}
LIMIT_S = 120.0


def submit(gateway: Gateway, **fields: Any) -> Job:
    """Order a small clip from the worker."""
    return gateway.client.submit_video(scene(), **{**PINNED, **SMALL, **fields})


def rendering(gateway: Gateway, job: Job) -> Job:
    """Wait until the gateway has heard of a step of this job's render."""
    found = job

    def met() -> bool:
        nonlocal found
        found = gateway.client.job(job.id)
        return (found.fraction or 0.0) > 0.0

    wait_until(met, LIMIT_S, lambda: str(found.raw))
    return found


def check_clip(gateway: Gateway, job: Job) -> bytes:
    """A succeeded job has a verified MP4 of what was ordered. Answers with its bytes."""
    assert (job.status, job.route) == ("succeeded", "local/svd"), job.raw
    data = gateway.client.content(job)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 64, 64)
        assert (stream.average_rate, len(list(container.decode(stream)))) == (9, 4)
    assert job.files[0].num_frames == 4
    return data


def check_billed_once(gateway: Gateway, *jobs: Job) -> None:
    """Each job is paid for once: the measured seconds of its one attempt, in the job and in the books alike."""
    due = 0
    for job in jobs:
        (attempt,) = job.raw["attempts"]
        assert attempt["cost_source"] == "measured"
        assert job.raw["bill"]["price_micros"] == attempt["cost_micros"] > 0
        due += attempt["cost_micros"]
    books = gateway.balances()
    assert books["provider:local"] == -due, books
    assert sum(books.values()) == 0
