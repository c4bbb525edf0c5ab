"""`vidgate gpu-worker` as it is run: a process over HTTP, whose card hangs, dies and is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tests.contract.local_gpu.conformance import Case, check_conformance
from tests.support.gpu_process import COMMAND, Worker, program, wait_until

WEDGED_S = 8.0
LONG = {"num_inference_steps": 60}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker with a queue of two, whose renders are taken for hung after eight seconds without a step."""
    folder = tmp_path_factory.mktemp("worker")
    with program("gpu-worker", folder, "--queue-max", "2", "--wedged-s", str(WEDGED_S)) as running:
        yield running


def test_it_speaks_the_protocol(worker: Worker) -> None:
    """Line by line, as the provider's own check has it."""
    small = {"num_frames": 4, "fps": 7, "num_inference_steps": 6, "seed": 5, "width": 64, "height": 64}
    asyncio.run(check_conformance(worker.url, Case("svd", small, within_s=100)))


def card_of(worker: Worker) -> int:
    """The process with the card."""
    (process,) = worker.children()
    return process


def test_an_order_becomes_a_real_file(worker: Worker) -> None:
    """Put, followed step by step, fetched: an MP4 that decodes, and the worker knows how long steps take."""
    assert worker.put("file").status_code == 202
    steps = {worker.shown("file")["step"]}
    shown = worker.wait("file", lambda now: bool(steps.add(now["step"])) or now["state"] == "succeeded")
    assert steps <= {0, 1, 2, 3}
    assert shown["gpu_s"] > 0
    data = worker.file("file")
    assert len(data) == shown["output"]["size_bytes"]
    with av.open(io.BytesIO(data)) as container:
        assert len(list(container.decode(video=0))) == 4
    status = worker.status()
    assert status["models"] == ["svd"]
    assert status["seconds_per_step"]["svd"] > 0
    (pace,) = [row for row in status["pace"]["svd"] if (row["frames"], row["pixels"], row["passes"]) == (4, 64 * 64, 2)]
    assert 0 < pace["seconds_per_step"] < shown["gpu_s"]
    assert status["warm_up_s"] > 0


def test_a_full_queue_refuses_and_a_cancel_makes_room(worker: Worker) -> None:
    """One runs and two wait; the fourth is told when to come back. The running one stops at its next step."""
    for name in ("long", "second", "third"):
        assert worker.put(name, **LONG).status_code == 202
    full = worker.put("fourth", **LONG)
    assert (full.status_code, full.json()["error"]["queue_depth"]) == (429, 2)
    assert int(full.headers["retry-after"]) >= 1
    worker.wait("long", lambda shown: shown["step"] >= 1)
    assert worker.http.delete(f"{worker.url}/v1/renders/long").status_code == 202
    shown = worker.ended("long")
    assert (shown["state"], shown["output"]) == ("canceled", None)
    assert 1 <= shown["step"] < 60
    for name in ("second", "third"):
        worker.http.delete(f"{worker.url}/v1/renders/{name}")
        assert worker.ended(name)["state"] == "canceled"


def test_a_card_that_is_killed_costs_time_and_no_render(worker: Worker) -> None:
    """kill -9 in the middle: a new process begins the render again under its id, to the bytes of its seed."""
    worker.put("calm", num_inference_steps=10)
    worker.put("killed", num_inference_steps=10)
    assert worker.ended("calm")["state"] == "succeeded"
    worker.wait("killed", lambda shown: shown["step"] >= 2)
    os.kill(card_of(worker), signal.SIGKILL)
    assert worker.ended("killed")["state"] == "succeeded"
    assert worker.file("killed") == worker.file("calm")
    assert "vidgate_gpu_restarted_total 1.0" in worker.http.get(f"{worker.url}/metrics").text


def test_a_card_that_hangs_is_replaced(worker: Worker) -> None:
    """A process that makes no step is ended; its render failed as wedged, and the next one is rendered."""
    worker.put("hangs", **LONG)
    worker.wait("hangs", lambda shown: shown["step"] >= 1)
    hung = card_of(worker)
    os.kill(hung, signal.SIGSTOP)
    shown = worker.ended("hangs")
    assert (shown["state"], shown["error"]["code"]) == ("failed", "wedged")
    ready = worker.http.get(f"{worker.url}/readyz")
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "starting")
    wait_until(lambda: worker.put("after").status_code == 202, 60, worker.log)
    assert worker.ended("after")["state"] == "succeeded"
    assert card_of(worker) != hung


def test_a_worker_that_is_killed_goes_on_and_one_that_is_told_to_stop_finishes(tmp_path: Path) -> None:
    """What was accepted before kill -9 is rendered by the next worker; SIGTERM lets the running render end and be
    fetched, gives back what waits, and leaves no process behind."""
    with program("gpu-worker", tmp_path) as first:
        first.put("kept", num_inference_steps=10)
        first.wait("kept", lambda shown: shown["step"] >= 1)
        card = card_of(first)
        first.end(signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{card}").exists(), 20, lambda: "the card's process outlived its worker")
    with program("gpu-worker", tmp_path, "--drain-s", "60") as second:
        assert second.ended("kept")["state"] == "succeeded"
        assert second.file("kept")
        second.put("running", num_inference_steps=20)
        second.put("waiting")
        second.wait("running", lambda shown: shown["step"] >= 1)
        card = card_of(second)
        second.process.send_signal(signal.SIGTERM)
        assert second.ended("waiting")["error"]["code"] == "worker_lost"
        assert second.http.get(f"{second.url}/readyz").status_code == 503
        assert second.put("late").json()["error"]["code"] == "draining"
        assert second.ended("running")["state"] == "succeeded"
        assert second.file("running")
        assert second.process.wait(60) == 0
        assert not Path(f"/proc/{card}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_card_that_hangs_does_not_outlive_a_killed_worker(tmp_path: Path) -> None:
    """Stopped, it sees nothing: the system ends it, so that the next worker finds the card's memory free."""
    with program("gpu-worker", tmp_path) as worker:
        card = card_of(worker)
        os.kill(card, signal.SIGSTOP)
        try:
            worker.end(signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{card}").exists(), 10, lambda: "the hung process outlived its worker")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(card, signal.SIGKILL)


def test_a_model_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    """No traceback: what was asked for, why it cannot be, and the exit status of a wrong option."""
    words = ["gpu-worker", "--model", str(tmp_path / "nothing"), "--offline", "--port", "0"]
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, *words, "--work-dir", str(tmp_path / "work")],
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    said = ended.stderr.decode()
    assert ended.returncode == 2
    assert "cannot be loaded" in said
    assert "Traceback" not in said
