"""The stack that a developer starts: gateway and simulated vendors in a process of their own, used over real HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from sqlalchemy import create_engine, event

from gateway.money import ledger
from tests.e2e.processes import end, first_json, running
from tests.support.gateway import unsound
from tests.support.pictures import picture

ENDED = {"succeeded", "failed", "canceled", "expired"}
# Speeds up the renders; the calls themselves take their time on a real network.
SPEED = "200"


@dataclass
class Stack:
    """A running `vidgate dev`."""

    client: httpx.Client
    simulators: dict[str, str]
    folder: Path

    def post(self, media: str = "video", *, headers: dict[str, str] | None = None, **texts: str) -> httpx.Response:
        """Send a request as a form with a picture, and wait for the end."""
        files = {"image": ("still.png", picture(size=(320, 192)), "image/png")}
        wait = {"prefer": "wait=50"} | (headers or {})
        return self.client.post(f"/generate/{media}", files=files, data=texts, headers=wait)

    def made(self, media: str = "video", **texts: str) -> dict[str, Any]:
        """A job that has ended."""
        response = self.post(media, **texts)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def meter(self, vendor: str = "segmind") -> dict[str, Any]:
        """What a vendor counted."""
        return dict(self.client.get(f"{self.simulators[vendor]}/_sandbox/meter").json())

    def spoil(self, operation: str, fault: str, vendor: str = "segmind") -> None:
        """Spoil a vendor's next call."""
        body = {"operation": operation, "fault": fault}
        assert self.client.post(f"{self.simulators[vendor]}/_sandbox/faults", json=body).status_code == 200


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of this file; at its end the books are read and must be sound."""
    cwd = tmp_path_factory.mktemp("dev")
    folder = cwd / "var"
    arguments = ("dev", "--port", "0", "--port-base", "0", "--speed", SPEED, "--folder", str(folder), "--json")
    with running(*arguments, cwd=cwd) as process:
        told = first_json(process, cwd / "dev.err")
        with httpx.Client(
            base_url=told["url"], headers={"x-api-key": told["key"]}, timeout=60, trust_env=False
        ) as http:
            yield Stack(http, told["simulators"], folder)
        assert end(process) == 0
    (database,) = folder.glob("*.db")
    engine = create_engine(f"sqlite:///{database}")
    event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only=ON"))
    with engine.connect() as connection:
        assert unsound(connection) == []
        assert sum(ledger.trial_balance(connection).values()) == 0
    engine.dispose()


def frames_of(data: bytes) -> int:
    """How many frames of a video can really be decoded."""
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("route", "fields", "frames"),
    [
        ("segmind/svd", {"num_frames": "14"}, 14),
        ("segmind/svd", {"num_frames": "25", "motion": "90", "fps": "12"}, 25),
        ("segmind/svd-sync", {"num_frames": "14"}, 14),
        ("segmind/motionctrl-svd", {"motion": "Pan Left"}, 14),
        ("segmind/motionctrl-svd-sync", {"camera_motion": "zoom_in", "camera_speed": "2"}, 14),
        ("modelslab/svd", {"num_frames": "20"}, 20),
        ("preview/camera", {"camera_motion": "cw", "num_frames": "10"}, 10),
    ],
)
def test_every_video_route_delivers_a_playable_file_that_is_billed(
    stack: Stack, route: str, fields: dict[str, str], frames: int
) -> None:
    """From a picture to frames that decode, on each route, with the bill of what the vendor took."""
    vendor = route.partition("/")[0]
    before = stack.meter(vendor)["charged_micros"] if vendor in stack.simulators else 0
    job = stack.made(routing=f'{{"pin": "{route}"}}', **fields)
    assert (job["status"], job["route"]) == ("succeeded", route), job
    (file,) = job["result"]["files"]
    video = stack.client.get(file["url"])
    assert (video.headers["content-type"], frames_of(video.content)) == ("video/mp4", frames)
    assert file["num_frames"] == frames
    after = stack.meter(vendor)["charged_micros"] if vendor in stack.simulators else 0
    assert job["bill"]["cost_micros"] == after - before
    assert job["bill"]["status"] == "captured"


def test_pictures_are_made_as_many_as_ordered(stack: Stack) -> None:
    """Three samples, three files, each behind its own address."""
    job = stack.made("image", prompt="a hill in the evening", samples="3", routing='{"pin": "segmind/ssd-img2img"}')
    files = job["result"]["files"]
    assert len(files) == 3
    assert len({stack.client.get(file["url"]).content for file in files}) == 3


def test_a_502_on_the_submit_is_retried_and_shown(stack: Stack) -> None:
    """The fault is injected at the vendor; the attempt tells how it was mended, and one render was accepted."""
    before = stack.meter()["submits_accepted"]
    stack.spoil("submit", "502_before_accept")
    job = stack.made(routing='{"pin": "segmind/svd"}')
    (attempt,) = job["attempts"]
    assert (job["status"], attempt["submits"]) == ("succeeded", 2)
    assert "502" in " ".join(event["detail"] for event in attempt["events"])
    assert stack.meter()["submits_accepted"] == before + 1


def test_a_connection_that_breaks_after_the_vendor_accepted_is_not_paid_twice(stack: Stack) -> None:
    """The reply is cut off on the wire: the render is found in the vendor's records."""
    before = stack.meter()
    stack.spoil("submit", "reset_before_reply")
    job = stack.made(routing='{"pin": "segmind/svd"}')
    assert job["status"] == "succeeded"
    assert [event["what"] for event in job["attempts"][0]["events"]][:3] == ["submit", "in_doubt", "looked_up"]
    assert stack.meter()["submits_accepted"] == before["submits_accepted"] + 1


def test_without_wishes_the_router_chooses_and_says_why(stack: Stack) -> None:
    """A plan with a reason for every route, ranked or refused."""
    job = stack.made()
    assert job["status"] == "succeeded"
    assert job["plan"]["ranked"][0]["route"] == job["route"]
    assert all(one["reasons"] for one in [*job["plan"]["ranked"], *job["plan"]["refused"]])


def test_a_player_can_fetch_the_file_in_parts(stack: Stack) -> None:
    """Parts put together are the whole."""
    job = stack.made(routing='{"pin": "preview/camera"}', camera_motion="pan_up")
    url = f"/jobs/{job['id']}/content"
    whole = stack.client.get(url).content
    parts = [
        stack.client.get(url, headers={"range": f"bytes={start}-{start + 9_999}"}).content
        for start in range(0, len(whole), 10_000)
    ]
    assert b"".join(parts) == whole


def test_an_impatient_client_gets_one_job_for_its_key(stack: Stack) -> None:
    """The second request over the same connection is the first one's answer."""
    answers = [stack.post(headers={"prefer": "respond-async", "idempotency-key": "once"}) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    done = stack.client.get(answers[0].headers["location"], headers={"prefer": "wait=50"}).json()
    assert done["status"] in ENDED


def test_a_body_that_is_too_large_is_refused_on_the_wire(stack: Stack) -> None:
    """The server answers before it has read it all, and goes on serving."""
    response = stack.client.post(
        "/generate/video", content=b"x" * (33 * 1024 * 1024), headers={"content-type": "application/json"}
    )
    assert (response.status_code, response.headers["content-type"]) == (413, "application/problem+json")
    assert stack.client.get("/healthz").status_code == 200
