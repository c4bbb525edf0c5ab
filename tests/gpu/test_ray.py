"""`vidgate gpu-serve` on Ray Serve: two replicas on the CPU, one of which is killed under its render."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.local_gpu.conformance import Case, check_conformance
from tests.support.gpu_gateway import gateway_for
from tests.support.gpu_jobs import check_billed_once, check_clip, rendering, submit
from tests.support.gpu_process import Worker, program, wait_until

TWO_ON_THE_CPU = ("--gpus-each", "0", "--replicas-min", "2", "--replicas-max", "2", "--queue-max", "2")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Two replicas behind one address."""
    folder = tmp_path_factory.mktemp("ray")
    with program("gpu-serve", folder, *TWO_ON_THE_CPU) as running:
        yield running
        assert running.end() == 0, running.log()


def replicas() -> set[int]:
    """The processes of the replicas, by the name that Ray gives them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::ServeReplica:vidgate-gpu:replica" in path.read_bytes():
                found.add(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def restarted(served: Worker) -> int:
    """How many renders were begun again."""
    lines = served.http.get(f"{served.url}/metrics").text.splitlines()
    (count,) = [line.split()[1] for line in lines if line.startswith("vidgate_gpu_restarted_total ")]
    return int(float(count))


def test_it_speaks_the_protocol_of_a_worker(served: Worker) -> None:
    """Line by line: whoever speaks to one card speaks to many."""
    small = {"num_frames": 4, "fps": 7, "num_inference_steps": 6, "seed": 5, "width": 64, "height": 64}
    asyncio.run(check_conformance(served.url, Case("svd", small, within_s=100)))


def test_a_replica_that_is_killed_costs_time_and_no_render(served: Worker) -> None:
    """Two renders at once; kill -9 to a replica in the middle: both end under their ids, with the bytes of the seed."""
    wait_until(lambda: served.status()["replicas"] == 2, 60, served.log)
    for name in ("left", "right"):
        assert served.put(name, num_inference_steps=30, seed=11).status_code == 202
    for name in ("left", "right"):
        served.wait(name, lambda shown: shown["state"] == "running" and shown["step"] >= 2)
    before = replicas()
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    shown = [served.ended(name) for name in ("left", "right")]
    assert [one["state"] for one in shown] == ["succeeded", "succeeded"]
    assert served.file("left") == served.file("right")
    assert restarted(served) == 1
    # Ray puts another one in the dead one's place.
    wait_until(lambda: len(replicas() - before) == 1 and served.status()["replicas"] == 2, 120, served.log)


def test_a_cancel_stops_at_the_next_step_and_frees_the_replica(served: Worker) -> None:
    """The replica takes the next order at once."""
    for name in ("first", "second", "third"):
        served.put(name, num_inference_steps=60)
    served.wait("first", lambda shown: shown["step"] >= 1)
    for name in ("third", "first", "second"):
        assert served.http.delete(f"{served.url}/v1/renders/{name}").status_code == 202
    for name in ("first", "second", "third"):
        shown = served.ended(name)
        assert shown["state"] == "canceled"
        assert shown["step"] < 60
    served.put("next")
    assert served.ended("next")["state"] == "succeeded"
    assert served.file("next")


def test_a_job_survives_the_death_of_its_replica_and_is_billed_once(served: Worker, tmp_path: Path) -> None:
    """Through the whole gateway: two jobs on two replicas, one killed in the middle; both are verified clips."""
    wait_until(lambda: served.status()["replicas"] == 2, 120, served.log)
    restarted_before = restarted(served)
    with gateway_for(served.url, tmp_path) as gateway:
        jobs = [submit(gateway, num_inference_steps=40, seed=seed) for seed in (1, 2)]
        for job in jobs:
            rendering(gateway, job)
        os.kill(max(replicas()), signal.SIGKILL)
        ended = [gateway.client.wait(job) for job in jobs]
        for job in ended:
            check_clip(gateway, job)
        check_billed_once(gateway, *ended)
    assert restarted(served) == restarted_before + 1
