"""The worker's protocol, line by line, against whatever speaks it at a base URL: the simulator or a real worker."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.pictures import picture

STATES = {"queued", "running", "succeeded", "failed", "canceled"}
OVER = {"succeeded", "failed", "canceled"}
MEDIA_TYPES = {"mp4": "video/mp4", "jpg": "image/jpeg"}
RENDER_KEYS = {
    *("id", "model", "state", "position", "step", "steps", "progress", "eta_s"),
    *("queued_s", "gpu_s", "seed", "error", "output"),
}
STATUS_KEYS = {
    *("protocol", "models", "device", "device_name", "queue_depth", "queue_max", "running", "replicas"),
    *("seconds_per_step", "seconds_fixed", "pace", "draining"),
}
METRICS = (
    *("vidgate_gpu_queue_depth", "vidgate_gpu_running", "vidgate_gpu_queue_max", "vidgate_gpu_render_seconds"),
    *("vidgate_gpu_step_seconds", "vidgate_gpu_renders_total", "vidgate_gpu_memory_peak_bytes"),
    "vidgate_gpu_busy_seconds_total",
)


@dataclass(frozen=True)
class Case:
    """What to render: a small one that takes long enough to be seen running, and the token that the worker wants."""

    model: str
    parameters: Mapping[str, Any]
    token: str = ""
    within_s: float = 120.0
    container: str = "mp4"
    image: str = field(default_factory=lambda: base64.b64encode(picture()).decode())

    def body(self, **changes: Any) -> dict[str, Any]:
        """The body of a submit."""
        parameters = {**self.parameters, "output_format": self.container, **changes}
        return {"model": self.model, "parameters": parameters, "image": self.image}


@dataclass
class Talk:
    """A client of one worker."""

    http: httpx.AsyncClient
    case: Case

    async def put(self, name: str, body: Any = None, **changes: Any) -> httpx.Response:
        return await self.http.put(f"/v1/renders/{name}", json=self.case.body(**changes) if body is None else body)

    async def get(self, name: str) -> httpx.Response:
        return await self.http.get(f"/v1/renders/{name}")

    async def state(self, name: str) -> str:
        return str((await self.get(name)).json()["state"])

    async def until(self, name: str, states: set[str]) -> dict[str, Any]:
        """The render once it is in one of these states."""
        for _ in range(round(self.case.within_s / 0.05)):
            shown: dict[str, Any] = (await self.get(name)).json()
            if shown["state"] in states:
                return shown
            assert shown["state"] not in OVER, f"{name} ended as {shown['state']}: {shown['error']}"
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} was not {states} within {self.case.within_s} s: {shown}")


async def check_conformance(base_url: str, case: Case) -> None:
    """Every promise of the protocol. Raises AssertionError at the first that is broken."""
    headers = {"authorization": f"Bearer {case.token}"} if case.token else {}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False, timeout=30.0) as http:
        talk = Talk(http, case)
        await check_pages(talk)
        await check_refusals(talk)
        await check_render(talk)
        await check_cancel(talk)
        await check_full_queue(talk)
        await check_metrics(talk)
    if case.token:
        await check_token(base_url, case)


def error_of(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error object of a reply that must have this status and code."""
    assert response.status_code == status, f"{response.request.method} {response.url}: {response.text}"
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == code, error
    return error


async def check_pages(talk: Talk) -> None:
    """Status with every key, and the probes."""
    status = (await talk.http.get("/v1/status")).json()
    assert set(status) >= STATUS_KEYS, STATUS_KEYS - set(status)
    assert status["protocol"] == 1
    assert talk.case.model in status["models"]
    assert status["replicas"] >= 1
    assert status["queue_max"] >= 1
    assert isinstance(status["draining"], bool)
    for timing in ("seconds_per_step", "seconds_fixed"):
        assert all(value is None or value >= 0 for value in status[timing].values())
    for row in (row for rows in status["pace"].values() for row in rows):
        assert set(row) >= {"frames", "pixels", "passes", "seconds_per_step", "seconds_fixed"}
        assert min(row["frames"], row["pixels"], row["passes"]) >= 1
    for page in ("/healthz", "/readyz", "/metrics"):
        assert (await talk.http.get(page, headers={"authorization": ""})).status_code == 200, page


async def check_refusals(talk: Talk) -> None:
    """What is wrong is named by its field, and starts nothing."""
    wrong: dict[str, Any] = {"fps": 0, "num_frames": 1000} if talk.case.container == "mp4" else {"strength": 2}
    wrong |= {"num_inference_steps": 0, "seed": "one", "output_format": "exe", "surprise": 1}
    for field_name, value in wrong.items():
        error = error_of(await talk.put("refused", **{field_name: value}), 422, "invalid")
        assert error["field"] == field_name, error
        assert error["message"]
    for name, change in (("model", {"model": "sdxl"}), ("image", {"image": "no picture"}), ("image", {"image": None})):
        error = error_of(await talk.put("refused", talk.case.body() | change), 422, "invalid")
        assert error["field"] == name, error
    for body in ([], "text", 7):
        error_of(await talk.put("refused", body), 422, "invalid")
    assert (await talk.put("a.b")).status_code in {404, 422}
    assert (await talk.put("x" * 65)).status_code in {404, 422}
    error_of(await talk.get("refused"), 404, "unknown_render")
    error_of(await talk.http.get("/v1/renders/refused/output"), 404, "unknown_render")
    error_of(await talk.http.delete("/v1/renders/refused"), 404, "unknown_render")


async def check_render(talk: Talk) -> None:
    """One render: taken once, followed, fetched whole and in parts, and the same ever after."""
    first = await talk.put("render-1")
    assert first.status_code == 202, first.text
    shown = first.json()
    assert set(shown) >= RENDER_KEYS, RENDER_KEYS - set(shown)
    assert (shown["id"], shown["model"]) == ("render-1", talk.case.model)
    assert shown["state"] in {"queued", "running"}
    assert shown["output"] is None
    again = await talk.put("render-1")
    assert again.status_code == 200, again.text
    assert again.json()["id"] == "render-1"
    error_of(await talk.put("render-1", num_inference_steps=7), 409, "conflict")
    early = await talk.http.get("/v1/renders/render-1/output")
    if await talk.state("render-1") not in OVER:
        error_of(early, 409, "not_finished")
    done = await talk.until("render-1", {"succeeded"})
    assert done["progress"] == 1
    assert done["steps"] >= 1
    assert done["gpu_s"] >= 0
    assert done["queued_s"] >= 0
    assert done["error"] is None
    assert done["seed"] == talk.case.parameters["seed"]
    await check_output(talk, done["output"])
    assert (await talk.put("render-1")).status_code == 200
    kept = await talk.http.delete("/v1/renders/render-1")
    assert kept.status_code == 200
    assert kept.json()["state"] == "succeeded"
    assert (await talk.put("render-2")).status_code == 202
    twin = await talk.until("render-2", {"succeeded"})
    assert twin["output"]["sha256"] == done["output"]["sha256"], "the same seed made other bytes"


async def check_output(talk: Talk, output: Mapping[str, Any]) -> None:
    """The file is what the render says it is; HEAD and ranges work."""
    whole = await talk.http.get(output["url"])
    assert whole.status_code == 200
    assert whole.headers["content-type"] == output["media_type"] == MEDIA_TYPES[talk.case.container]
    assert len(whole.content) == output["size_bytes"]
    assert hashlib.sha256(whole.content).hexdigest() == output["sha256"]
    parameters = talk.case.parameters
    for name in ("width", "height"):
        assert output[name] == parameters.get(name, output[name])
    if talk.case.container == "mp4":
        assert (output["frames"], output["fps"]) == (parameters["num_frames"], parameters["fps"])
    head = await talk.http.head(output["url"])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(output["size_bytes"])
    part = await talk.http.get(output["url"], headers={"range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 10-19/{output['size_bytes']}"
    assert part.content == whole.content[10:20]


async def check_cancel(talk: Talk) -> None:
    """A waiting render is canceled at once, a running one at its next step; what is over stays as it is."""
    replicas = (await talk.http.get("/v1/status")).json()["replicas"]
    running = [f"cancel-run-{number}" for number in range(replicas)]
    for name in [*running, "cancel-wait"]:
        assert (await talk.put(name)).status_code == 202
    waiting = await talk.http.delete("/v1/renders/cancel-wait")
    assert waiting.status_code in {200, 202}
    assert await talk.state("cancel-wait") in {"canceled", "succeeded"}
    for name in running:
        stopping = await talk.http.delete(f"/v1/renders/{name}")
        ended = await talk.until(name, {"canceled", "succeeded"})
        if stopping.status_code == 202:
            assert ended["state"] == "canceled", ended
        assert ended["output"] is None or ended["state"] == "succeeded"
        assert (await talk.http.delete(f"/v1/renders/{name}")).json()["state"] == ended["state"]


async def check_full_queue(talk: Talk) -> None:
    """A full queue refuses with a hint, takes nothing, and takes again once there is room."""
    status = (await talk.http.get("/v1/status")).json()
    names = [f"full-{number}" for number in range(status["replicas"] + status["queue_max"] + 20)]
    taken = []
    for name in names:
        response = await talk.put(name)
        if response.status_code != 202:
            break
        taken.append(name)
    error = error_of(response, 429, "queue_full")
    assert int(response.headers["retry-after"]) >= 1
    assert error["queue_depth"] == error["queue_max"] == status["queue_max"]
    error_of(await talk.get(name), 404, "unknown_render")
    for one in reversed(taken):
        await talk.http.delete(f"/v1/renders/{one}")
    for one in taken:
        await talk.until(one, OVER)
    assert (await talk.put(name)).status_code == 202
    await talk.http.delete(f"/v1/renders/{name}")
    await talk.until(name, OVER)


async def check_metrics(talk: Talk) -> None:
    """The agreed names are there, and what was rendered is counted."""
    text = (await talk.http.get("/metrics")).text
    missing = [name for name in METRICS if f"# TYPE {name.removesuffix('_total')}" not in text]
    assert not missing, missing
    counted = [line for line in text.splitlines() if line.startswith("vidgate_gpu_renders_total{")]
    done = [line for line in counted if 'state="succeeded"' in line and f'model="{talk.case.model}"' in line]
    assert done, counted
    assert float(done[0].rsplit(" ", 1)[1]) >= 2


async def check_token(base_url: str, case: Case) -> None:
    """Without the token, or with another, no /v1 path answers."""
    for headers in ({}, {"authorization": "Bearer wrong"}):
        async with httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False, timeout=30.0) as http:
            talk = Talk(http, case)
            error_of(await talk.http.get("/v1/status"), 401, "unauthorized")
            error_of(await talk.put("nobody"), 401, "unauthorized")
            error_of(await talk.get("render-1"), 401, "unauthorized")
            error_of(await talk.http.get("/v1/renders/render-1/output"), 401, "unauthorized")
