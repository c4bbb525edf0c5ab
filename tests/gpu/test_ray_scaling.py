"""`vidgate gpu-serve` on Ray Serve, which adds a replica while orders wait and replaces one whose render hangs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gpu.test_ray import replicas
from tests.support.gpu_process import Worker, program, wait_until

WEDGED_S = 5.0
ONE_OR_TWO = ("--gpus-each", "0", "--replicas-min", "1", "--replicas-max", "2", "--queue-max", "4", "--upscale-s", "1")
# A step of this takes a CPU much longer than a step may take, which is what a hang looks like from outside.
ENDLESS = {"width": 1024, "height": 576, "num_frames": 25, "num_inference_steps": 100}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One replica, two when there is need."""
    folder = tmp_path_factory.mktemp("ray")
    with program("gpu-serve", folder, *ONE_OR_TWO, "--wedged-s", str(WEDGED_S)) as running:
        yield running
        assert running.end() == 0, running.log()


def test_a_replica_is_added_while_orders_wait(served: Worker) -> None:
    """One renders and three wait: Ray starts a second, which takes its share, and the status knows of it."""
    assert (len(replicas()), served.status()["replicas"]) == (1, 1)
    names = ["a", "b", "c", "d"]
    for name in names:
        assert served.put(name, num_inference_steps=100).status_code == 202
    wait_until(lambda: served.status()["running"] == 2, 60, served.log)
    assert len(replicas()) == 2
    wait_until(lambda: served.status()["replicas"] == 2, 20, served.log)
    for name in names:
        served.http.delete(f"{served.url}/v1/renders/{name}")
        if served.ended(name)["state"] == "succeeded":
            assert served.file(name)


def test_a_replica_whose_render_hangs_is_replaced(served: Worker) -> None:
    """The render failed as wedged; the replica reports itself, Ray ends its process, and another takes its place."""
    before = replicas()
    assert len(before) == 2
    served.put("hangs", **ENDLESS)
    shown = served.ended("hangs")
    assert (shown["state"], shown["error"]["code"]) == ("failed", "wedged")
    assert shown["error"]["message"] == f"no step ended within {WEDGED_S:g} s"
    for name in ("left", "right"):  # the broken one takes none of them, or loses it to the one in its place
        assert served.put(name).status_code == 202
    wait_until(lambda: len(before - replicas()) == 1 and len(replicas()) == 2, 60, served.log)
    for name in ("left", "right"):
        assert served.ended(name)["state"] == "succeeded"
        assert served.file(name)
