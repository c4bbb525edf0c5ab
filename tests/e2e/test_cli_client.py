"""The client commands against a development gateway in its own process, over real HTTP to the last byte."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.cli.exit_codes import ExitCode
from gateway.media.verify import inspect_media
from tests.e2e.processes import COMMAND, end, environment, first_json, running, vidgate


@dataclass(frozen=True)
class Dev:
    """A running development gateway."""

    folder: Path
    picture: Path
    url: str
    key: str
    simulators: dict[str, str]

    def run(self, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a client command against it."""
        extra = {"VIDGATE_URL": self.url, "VIDGATE_KEY": self.key if key is None else key}
        return vidgate(*arguments, cwd=self.folder, extra=extra)

    def generate(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Make a video and answer with the exit code and the job."""
        ended = self.run("generate", str(self.picture), "--json", *arguments)
        assert ended.stdout, ended.stderr
        return ended.returncode, json.loads(ended.stdout)

    def switch(self, provider: str, *switches: str) -> None:
        """Change switches of a simulator."""
        ended = self.run("sandbox", "set", provider, *switches, "--url", self.simulators[provider])
        assert ended.returncode == ExitCode.OK, ended.stderr

    def spoil(self, provider: str, fault: str, *more: str) -> None:
        """Script a fault at a simulator."""
        ended = self.run("sandbox", "fault", provider, fault, *more, "--url", self.simulators[provider])
        assert ended.returncode == ExitCode.OK, ended.stderr

    def submits(self, provider: str) -> int:
        """How many renders a simulated vendor accepted, ever."""
        ended = self.run("sandbox", "show", provider, "--url", self.simulators[provider])
        return int(json.loads(ended.stdout)["meter"]["submits_accepted"])


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A development gateway on free ports with vendors a hundred times faster than life."""
    folder = tmp_path_factory.mktemp("dev")
    picture = folder / "picture.png"
    Image.linear_gradient("L").resize((320, 192)).convert("RGB").save(picture)
    arguments = ("dev", "--port", "0", "--port-base", "0", "--speed", "100", "--folder", str(folder / "var"), "--json")
    with running(*arguments, cwd=folder) as process:
        told = first_json(process, folder / "dev.err")
        yield Dev(folder, picture, told["url"], told["key"], told["simulators"])
        assert end(process, signal.SIGINT) == ExitCode.OK


def test_a_picture_becomes_a_playable_video_with_its_receipt_and_bill(dev: Dev) -> None:
    """The whole promise in one command, for a person to read."""
    ended = dev.run("generate", str(dev.picture), "--num-frames", "25", "--fps", "12", "-o", "out.mp4")
    assert ended.returncode == ExitCode.OK, ended.stderr
    for word in ("Plan", "Receipt", "Attempts", "Bill", "captured", "25 frames, 12 fps"):
        assert word in ended.stdout
    found = inspect_media((dev.folder / "out.mp4").read_bytes())
    assert (found.num_frames, found.fps) == (25, 12)
    assert "succeeded" in ended.stderr


def test_for_a_machine_the_job_is_json_and_nothing_else(dev: Dev) -> None:
    """Progress is on standard error; standard output is one JSON value."""
    code, job = dev.generate("-p", "frames=14", "-p", "motion=100", "--seed", "7", "--tag", "film=x", "-o", "j.mp4")
    assert code == ExitCode.OK
    assert job["status"] == "succeeded"
    assert job["request"]["written"] == {"num_frames": 14, "motion_bucket_id": 100, "seed": 7}
    assert job["request"]["metadata"] == {"film": "x"}
    assert job["saved"] == ["j.mp4"]
    assert job["bill"]["price_micros"] > 0


def test_without_a_name_the_result_is_named_after_the_job(dev: Dev) -> None:
    """In the working directory, with the ending of its format."""
    code, job = dev.generate("--camera-motion", "zoom_in", "--only", "preview", "--output-format", "gif")
    assert code == ExitCode.OK
    assert job["saved"] == [f"{job['id']}.gif"]
    assert inspect_media((dev.folder / job["saved"][0]).read_bytes()).container == "gif"


def test_a_502_that_hides_an_accepted_submit_is_not_paid_twice(dev: Dev) -> None:
    """The fault is scripted from the command line, and the vendor's own count is one more, not two."""
    provider = "segmind"
    before = dev.submits(provider)
    dev.spoil(provider, "502-after-accept", "--count", "1")
    code, job = dev.generate("--pin", "segmind/svd")
    assert code == ExitCode.OK
    assert dev.submits(provider) == before + 1
    assert "in_doubt" in [event["what"] for event in job["attempts"][0]["events"]]


def test_a_refused_request_exits_with_three_and_says_why(dev: Dev) -> None:
    """An unknown parameter, an impossible value, a file that is no picture: the gateway's own words."""
    for arguments, said in (
        (("-p", "num_frame=14"), "num_frames"),
        (("--fps", "61"), "fps"),
        (("--only", "preview", "--seed", "1"), "preview/camera"),
    ):
        ended = dev.run("generate", str(dev.picture), *arguments)
        assert ended.returncode == ExitCode.REFUSED, (arguments, ended.stderr)
        assert said in ended.stderr
    ended = dev.run("generate", str(dev.folder / "dev.err"))
    assert ended.returncode == ExitCode.REFUSED
    assert "picture" in ended.stderr.lower()


def test_a_wrong_key_exits_with_three_and_says_where_to_get_one(dev: Dev) -> None:
    """For every command that needs one."""
    for arguments in (("generate", str(dev.picture)), ("routes",), ("wait", "job_1")):
        ended = dev.run(*arguments, key="vg_wrong")
        assert ended.returncode == ExitCode.REFUSED, ended.stderr
        assert "vidgate keys create" in ended.stderr


def test_a_job_that_fails_exits_with_one_and_costs_nothing(dev: Dev) -> None:
    """A moderation block is final and free of charge."""
    dev.switch("segmind", "moderation_rate=1")
    try:
        code, job = dev.generate("--pin", "segmind/svd")
    finally:
        dev.switch("segmind", "moderation_rate=0")
    assert code == ExitCode.JOB_FAILED
    assert job["status"] == "failed"
    assert job["bill"]["status"] == "released"
    assert job["saved"] == []


def test_a_job_that_outlasts_the_wait_exits_with_six_and_can_be_taken_up(dev: Dev) -> None:
    """The same job is finished by `wait`; nothing is sent twice."""
    before = dev.submits("segmind")
    code, job = dev.generate("--timeout", "0", "--pin", "segmind/svd")
    assert code == ExitCode.STILL_RUNNING
    ended = dev.run("wait", job["id"], "-o", "later.mp4", "--json")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert json.loads(ended.stdout)["id"] == job["id"]
    assert inspect_media((dev.folder / "later.mp4").read_bytes()).num_frames == 14
    assert dev.submits("segmind") == before + 1


def test_an_idempotency_key_makes_two_runs_one_job(dev: Dev) -> None:
    """A script that is run again after a lost connection pays once."""
    jobs = [dev.generate("--idempotency-key", "night-run-1", "-o", "once.mp4")[1]["id"] for _ in range(2)]
    assert jobs[0] == jobs[1]


def test_interrupting_the_client_leaves_the_job_running(dev: Dev) -> None:
    """Ctrl-C exits with 130, and the way back to the job is said."""
    dev.switch("segmind", "speed=1")
    try:
        process = subprocess.Popen(
            [*COMMAND, "generate", str(dev.picture), "--pin", "segmind/svd"],
            cwd=dev.folder,
            env=environment({"VIDGATE_URL": dev.url, "VIDGATE_KEY": dev.key}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr as said:
            first = said.readline()
            process.send_signal(signal.SIGINT)
            rest = said.read()
        assert process.wait(30) == ExitCode.INTERRUPTED
    finally:
        dev.switch("segmind", "speed=100")
    job_id = first.partition(":")[0]
    assert f"vidgate wait {job_id}" in rest
    assert "Traceback" not in rest


def test_the_routes_are_listed_with_what_they_take(dev: Dev) -> None:
    """For people as tables, for machines as JSON."""
    shown = dev.run("routes", "--capabilities").stdout
    for word in ("segmind/svd", "modelslab/svd", "preview/camera", "motion_bucket_id", "closed"):
        assert word in shown
    listed = json.loads(dev.run("routes", "--json").stdout)
    assert {route["provider"] for route in listed} == {"segmind", "modelslab", "preview", "local", "openai_videos"}


def test_a_simulator_refuses_an_unknown_switch_and_an_unknown_fault(dev: Dev) -> None:
    """With exit code three and the simulator's own words."""
    url = dev.simulators["segmind"]
    for arguments in (("set", "segmind", "sped=1"), ("fault", "segmind", "503-sometimes")):
        ended = dev.run("sandbox", *arguments, "--url", url)
        assert ended.returncode == ExitCode.REFUSED
        assert "the simulator refused" in ended.stderr
