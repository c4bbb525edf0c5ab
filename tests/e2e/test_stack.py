"""The stack of `make stack`: two replicas behind one port, of which one may be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.processes import END_TIMEOUT_S, ROOT, environment, first_json
from tests.support.pictures import picture_base64


def gone(pid: int) -> bool:
    """Whether no process has this id any more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The stack as a person starts it; it is ended by the test, or here by its id."""
    pytest.importorskip("greenlet", reason="greenlet is not installed: pip install 'vidgate[postgres]'")
    command = [sys.executable, "-m", "examples.stack", "--port", "0", "--speed", "8", "--json"]
    with (tmp_path / "stack.err").open("wb") as err:
        started = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=err)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGINT)
            started.wait(END_TIMEOUT_S)
        assert started.stdout is not None
        started.stdout.close()


def driver_of(told: dict[str, Any], job_id: str) -> dict[str, Any]:
    """The replica whose log has the job's attempt in it."""
    for _ in range(600):
        for replica in told["replicas"]:
            lines = Path(replica["log"]).read_text(encoding="utf-8").splitlines()
            if any(job_id in line and "attempt.accepted" in line for line in lines):
                return dict(replica)
        time.sleep(0.05)
    raise AssertionError(f"nobody drives {job_id}")


def test_a_job_outlives_the_replica_that_drives_it_and_the_stack_leaves_nothing_behind(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Sent through the front, its driver killed by its id: the other ends it with one submit; SIGTERM ends all."""
    told = first_json(process, tmp_path / "stack.err")
    pids = [replica["pid"] for replica in told["replicas"]]
    assert len(set(pids)) == 2
    with httpx.Client(
        base_url=told["url"], headers={"x-api-key": told["key"]}, timeout=30.0, trust_env=False
    ) as client:
        ready = [client.get("/readyz", headers={"connection": "close"}).status_code for _ in range(4)]
        assert ready == [200] * 4
        asked = {"image": picture_base64(), "routing": {"only": ["segmind/svd"]}}
        sent = client.post("/generate/video", json=asked, headers={"connection": "close"})
        assert sent.status_code == 202, sent.text
        job_id = sent.json()["id"]
        victim = driver_of(told, job_id)
        os.kill(victim["pid"], signal.SIGKILL)
        job = {"status": "running"}
        until = time.monotonic() + 90
        while job["status"] in {"queued", "running"} and time.monotonic() < until:
            job = client.get(f"/jobs/{job_id}", headers={"prefer": "wait=5", "connection": "close"}).json()
        assert (job["status"], len(job["attempts"])) == ("succeeded", 1), json.dumps(job)[:2000]
        assert job["attempts"][0]["submits"] == 1
        (survivor,) = [replica for replica in told["replicas"] if replica["pid"] != victim["pid"]]
        assert "job.claimed" in Path(survivor["log"]).read_text(encoding="utf-8")
        assert client.get(f"/jobs/{job_id}/content", headers={"connection": "close"}).content[4:8] == b"ftyp"
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_TIMEOUT_S) == 0
    assert all(gone(pid) for pid in pids)
    assert not Path(told["config"]).exists()
    assert f"replica {victim['pid']} has ended" in (tmp_path / "stack.err").read_text(encoding="utf-8")
