"""What the benches over real processes share: the simulated vendor, a gateway's settings over it, a picture, a port."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import structlog
import uvicorn
from PIL import Image, ImageFilter

from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.settings import Settings
from gateway.store.database import open_store
from providers.contract import SimulatorTools
from providers.segmind import PLUGIN

SECRET = "bench-signing-secret-of-32-bytes"
INSTANT = {
    "clip": "cached",
    "queue": {"kind": "constant", "mean_s": 0.0},
    "latency": {"svd": {"kind": "constant", "mean_s": 0.0}},
    "credits_micros": 10**12,
    "requests_per_minute": None,
}


def picture(*, flat: bool = False) -> bytes:
    """A 1024x576 JPEG with some structure, as a phone would send; a flat one costs next to nothing to take in."""
    if flat:
        image = Image.new("RGB", (1024, 576), "teal")
    else:
        image = Image.effect_noise((1024, 576), 80).filter(ImageFilter.GaussianBlur(4)).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def serve_simulator(port: int) -> None:
    """The vendor's simulator in a process of its own."""
    async with httpx.AsyncClient() as http:
        tools = SimulatorTools(f"http://127.0.0.1:{port}", SystemClock(), Random(1), http, {})
        assert PLUGIN.simulator is not None
        config = uvicorn.Config(PLUGIN.simulator(tools), port=port, log_level="error", loop="uvloop", http="httptools")
        await uvicorn.Server(config).serve()


def gateway_settings(port: int, simulator: str, folder: str, sections: Mapping[str, Mapping[str, Any]]) -> Settings:
    """A gateway over the simulated vendor, with its files in a folder; `sections` are put beside or over the usual."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    assert PLUGIN.simulator_settings is not None
    usual: dict[str, Any] = {
        "security": {"signing_secret": SECRET},
        "store": {"url": f"sqlite:///{folder}/vidgate.db"},
        "artifacts": {"url": f"{folder}/artifacts"},
        "providers": {"segmind": {**PLUGIN.simulator_settings(simulator), "routes": ["segmind/svd"]}},
        "outbound": {"allow_hosts": [simulator.removeprefix("http://")]},
        "server": {"public_base_url": f"http://127.0.0.1:{port}"},
    }
    return Settings.model_validate(usual | dict(sections))


async def new_key(settings: Settings) -> str:
    """The secret of a key made before the gateway starts."""
    store = await open_store(settings.store)
    clock = SystemClock()
    _, _, secret = await store.write(create_key, Ids(clock), NewKey("bench", "bench", clock.now()))
    await store.close()
    return secret


async def until_up(client: httpx.AsyncClient, url: str) -> None:
    """Wait, at most 60 s, for a server to answer anything."""
    for _ in range(600):
        try:
            await client.get(url)
        except httpx.TransportError:
            await asyncio.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url} did not come up")


@contextmanager
def running(script: str, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """One of a script's processes, spoken to over its pipes and ended by its id."""
    process = subprocess.Popen(
        [sys.executable, script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    """The processor time that a process has used so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, field: str) -> float:
    """A line of a process's status in MiB: `VmRSS` is what it holds now, `VmHWM` the most it has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
