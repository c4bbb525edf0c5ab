"""The page about the Python client, example by example, against a gateway in its own process."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from gateway.cli.exit_codes import ExitCode
from gateway.client import AsyncVidgate, JobFailedError, Vidgate
from gateway.media.verify import inspect_media
from tests.e2e.processes import END_TIMEOUT_S, ROOT, end, environment, first_json, running, vidgate

PAGE = ROOT / "docs" / "client.md"
EXAMPLES = dict(
    re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
(README,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
# What an example prints or leaves, by its heading.
PRINTS = {
    "A video": r"^\S+/\S+ \d+ 14$",
    "Progress": r"^(rendering|delivering|submitting|routing|queued|succeeded) ",
    "A batch": r"^(job_\w+\n?){3}$",
    "Ask first": r"^\S+/\S+ \d+ [\d.]+$",
    "What goes wrong": r"(?s)^No route can honour this request.*motionctrl",
}
LEAVES = {"A video": 1, "Submit now, fetch later": 1, "Many at once": 3}


@dataclass(frozen=True)
class Dev:
    """A running development gateway."""

    url: str
    key: str
    simulators: dict[str, str]

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which a client finds it."""
        return {"VIDGATE_URL": self.url, "VIDGATE_KEY": self.key}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A development gateway on free ports with vendors a hundred times faster than life."""
    folder = tmp_path_factory.mktemp("dev")
    arguments = ("dev", "--port", "0", "--port-base", "0", "--speed", "100", "--folder", str(folder / "var"), "--json")
    with running(*arguments, cwd=folder) as process:
        told = first_json(process, folder / "dev.err")
        yield Dev(told["url"], told["key"], told["simulators"])
        assert end(process, signal.SIGINT) == ExitCode.OK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the picture of the examples."""
    Image.linear_gradient("L").resize((320, 192)).convert("RGB").save(tmp_path / "photo.jpg")
    return tmp_path


def test_every_example_is_run() -> None:
    """A section of the page that has an example and no case here is not seen to work."""
    assert set(EXAMPLES) == set(PRINTS) | set(LEAVES)


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_works_as_it_is_written(heading: str, dev: Dev, folder: Path) -> None:
    """Copied into a file and started beside a picture."""
    (folder / "example.py").write_text(EXAMPLES[heading])
    ended = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=folder,
        env=environment(dev.variables),
        capture_output=True,
        text=True,
        timeout=END_TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(PRINTS.get(heading, ""), ended.stdout, re.MULTILINE), ended.stdout
    videos = list(folder.glob("*.mp4"))
    assert len(videos) == LEAVES.get(heading, 0)
    for video in videos:
        assert inspect_media(video.read_bytes()).num_frames == 14


def test_the_readme_s_example_makes_a_video(dev: Dev, folder: Path) -> None:
    """Copied as it stands, with the address and the key that the gateway printed exported before."""
    (folder / "example.py").write_text(README)
    command = [sys.executable, "-W", "error", "example.py"]
    subprocess.run(command, cwd=folder, env=environment(dev.variables), timeout=END_TIMEOUT_S, check=True)
    assert inspect_media((folder / "out.mp4").read_bytes()).num_frames == 25


def test_a_submit_that_is_sent_twice_is_one_job_and_one_render(dev: Dev, folder: Path) -> None:
    """The key of the first is enough for a program that starts anew."""
    with Vidgate(dev.url, key=dev.key) as client:
        jobs = {client.submit_video(folder / "photo.jpg", idempotency_key="mine", frames=14).id for _ in range(3)}
        (job_id,) = jobs
        assert client.wait(job_id).succeeded
        listed, _ = client.jobs(limit=50)
        assert [job.id for job in listed].count(job_id) == 1


def test_a_job_without_a_result_is_an_error_that_costs_nothing(dev: Dev, folder: Path) -> None:
    """The vendor breaks every call: the error has the job, and following it again ends at once."""
    fault = ("500", "--count", "50", "--url", dev.simulators["segmind"])
    assert vidgate("sandbox", "fault", "segmind", *fault, cwd=folder).returncode == ExitCode.OK

    async def ask() -> None:
        async with AsyncVidgate(dev.url, key=dev.key) as client:
            with pytest.raises(JobFailedError) as caught:
                await client.generate_video(folder / "photo.jpg", frames=14, routing={"pin": "segmind/svd"})
            assert caught.value.job.price_micros == 0
            assert [job.status async for job in client.follow(caught.value.job)] == ["failed"]

    asyncio.run(ask())
