"""An event stream over real HTTP: told while it happens, ended by a stop, taken up again at the next process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.pictures import picture_base64
from tests.support.processes import stand


def ids(lines: Iterator[str]) -> Iterator[str]:
    return (line.removeprefix("id: ") for line in lines if line.startswith("id: "))


def test_a_stopped_gateway_ends_its_streams_and_the_next_one_goes_on_with_them(tmp_path: Path) -> None:
    """No stop waits for a listener, and a listener that comes back with its last id misses nothing."""
    switches = {"latency": {"svd": {"kind": "constant", "mean_s": 5.0}}, "queue": {"kind": "constant", "mean_s": 0.0}}
    with stand(tmp_path, switches=switches, sections={}) as running:
        first = running.start()
        job_id = running.client.post("/generate/video", json={"image": picture_base64()}).json()["id"]
        with running.client.stream("GET", f"/jobs/{job_id}/events") as response:
            following = ids(response.iter_lines())
            assert [next(following) for _ in range(3)] == ["0.0", "1.0", "1.1"], "told while the vendor still renders"
            began = time.monotonic()
            first.process.terminate()
            assert list(following) == []
        assert first.stop() == 0
        assert time.monotonic() - began < 20.0, "the stop waited for the listener"
        second = running.start()
        headers = {"last-event-id": "1.1"}
        with running.client.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=30.0) as response:
            rest = list(ids(response.iter_lines()))
        assert (rest[0], rest[-1]) == ("1.2", "end")
        assert second.stop() == 0
        assert running.meter()["submits_accepted"] == 1
