"""A submit in doubt in a real gateway, settled from another process by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from gateway.cli.exit_codes import ExitCode
from tests.e2e.processes import vidgate
from tests.support.gateway import unsound
from tests.support.pictures import picture_base64
from tests.support.processes import Stand, stand

HEARTBEAT_S = 0.5
SECTIONS = {
    "retry": {"ambiguous": "never", "verify_settle_s": 0.1},
    "jobs": {"heartbeat_s": HEARTBEAT_S, "lease_s": 5},
}


def attempt_of(running: Stand, job_id: str) -> dict[str, Any]:
    tries = running.client.get(f"/jobs/{job_id}").json()["attempts"]
    return dict(tries[-1]) if tries else {"state": None, "doubt": None}


def test_a_running_gateway_takes_an_operators_word_from_another_process(tmp_path: Path) -> None:
    """The reply is lost and the records are dark; the command says which render it was, and it is delivered once."""
    latency = {"svd": {"kind": "constant", "mean_s": 0.2}}
    queue = {"kind": "constant", "mean_s": 0.0}
    with stand(tmp_path, switches={"latency": latency, "queue": queue}, sections=SECTIONS) as running:
        gateway = running.start()
        running.spoil("submit", "502_after_accept")
        running.spoil("history", "500", 1_000)
        response = running.client.post("/generate/video", json={"image": picture_base64()})
        job_id = str(response.json()["id"])
        running.until(lambda: bool((attempt_of(running, job_id)["doubt"] or {}).get("looks")))
        config = tmp_path / "vidgate.yaml"
        config.write_text(yaml.safe_dump(json.loads(json.dumps(running.settings()))), encoding="utf-8")
        doubts = ("doubts", "--help"), ("doubts", "list", "--config", str(config), "--json")
        assert all(word in vidgate(*doubts[0], cwd=tmp_path).stdout for word in ("list", "show", "settle"))
        (listed,) = json.loads(vidgate(*doubts[1], cwd=tmp_path).stdout)
        assert (listed["job"], listed["state"]) == (job_id, "in doubt")
        (charge,) = running.client.get(f"{running.vendor.url}/_sandbox/invoice").json()["charges"]
        token = json.dumps({"request_id": charge["request_id"]})
        word = ("--accepted", token, "--reason", "found in the dashboard", "--by", "mara", "--config", str(config))
        settled = vidgate("doubts", "settle", listed["attempt"], *word, cwd=tmp_path)
        assert settled.returncode == ExitCode.OK, settled.stderr
        job = running.ended(job_id)
        assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
        assert "settled by mara" in json.dumps(job["attempts"][0]["events"])
        again = vidgate("doubts", "settle", listed["attempt"], *word, cwd=tmp_path)
        assert (again.returncode, "already settled" in again.stderr) == (ExitCode.USAGE, True)
        assert gateway.stop() == 0
        with running.books() as connection:
            assert unsound(connection) == []
