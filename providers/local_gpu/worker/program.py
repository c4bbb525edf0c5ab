"""The programs `gpu-worker` and `gpu-serve`: from options to a server that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from random import Random
from typing import Any

from pydantic import BaseModel, ValidationError

from providers.contract import Clock
from providers.local_gpu.worker.card import Card
from providers.local_gpu.worker.desk import Desk, Limits
from providers.local_gpu.worker.events import Engine, Patience, StartError
from providers.local_gpu.worker.plan import ModelPlan, RayPlan, ServerPlan
from providers.local_gpu.worker.service import build_service
from providers.local_gpu.worker.shelf import Shelf
from providers.serving import listen, serve

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CARD_NEEDS = ("torch", "diffusers", "transformers", "accelerate")
RAY_NEEDS = (*CARD_NEEDS, "ray")


class UsageError(ValueError):
    """An option cannot be used: the text names it."""


class MissingExtraError(RuntimeError):
    """What renders is not installed: the text names the extra that brings it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a program is given: time, chance, and whom to tell where it listens and when it is ready."""

    clock: Clock
    random: Random
    on_listening: Callable[[str], None]
    on_ready: Callable[[str], None]


async def serve_card(options: Mapping[str, Any], surroundings: Surroundings) -> None:
    """Serve one card until SIGTERM. Raises UsageError, MissingExtraError, StartError or OSError."""
    server, model = _read(ServerPlan, options), _read(ModelPlan, options)
    _need(CARD_NEEDS, "local-gpu")
    patience = Patience(server.wedged_s, server.compile_wedged_s)
    card = Card(model, patience=patience, start_s=server.start_s, clock=surroundings.clock)
    await _serve(card, server, surroundings)


async def serve_ray(options: Mapping[str, Any], surroundings: Surroundings) -> None:
    """Serve replicas on Ray until SIGTERM. Raises UsageError, MissingExtraError, StartError or OSError."""
    server, model, replicas = _read(ServerPlan, options), _read(ModelPlan, options), _read(RayPlan, options)
    _need(RAY_NEEDS, "local-gpu,ray")
    from providers.local_gpu.worker.ray_engine import RayEngine  # noqa: PLC0415 - Ray is an extra

    engine = RayEngine(model, replicas, server=server, clock=surroundings.clock)
    await _serve(engine, server, surroundings)


async def _serve(engine: Engine, plan: ServerPlan, surroundings: Surroundings) -> None:
    limits = Limits(plan.queue_max, plan.keep_s)
    clock, chance = surroundings.clock, surroundings.random
    shelf = Shelf(plan.work_dir)
    desk = Desk(engine, shelf, limits=limits, clock=clock, random=chance)
    stopped = asyncio.Event()
    _obey_signals(stopped)
    with contextlib.ExitStack() as held:
        held.enter_context(shelf.owned())
        listener, url = listen(plan.port, plan.host)
        held.enter_context(listener)
        await _work_until(stopped, desk, plan=plan, listener=listener, surroundings=surroundings, url=url)


async def _work_until(
    stopped: asyncio.Event,
    desk: Desk,
    *,
    plan: ServerPlan,
    listener: socket.socket,
    surroundings: Surroundings,
    url: str,
) -> None:
    """Health is answered while the model still loads; files can be fetched while what runs ends."""
    desk.take_up()
    async with serve(build_service(desk, token=plan.token), listener):
        surroundings.on_listening(url)
        working = asyncio.create_task(_start_and_work(desk, stopped, lambda: surroundings.on_ready(url)))
        stopping = asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await desk.drain(plan.drain_s)
        finally:
            stopping.cancel()
            failed = working.done()
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(working, return_exceptions=not failed)
            await desk.engine.stop()


async def _start_and_work(desk: Desk, stopped: asyncio.Event, on_ready: Callable[[], None]) -> None:
    await desk.engine.start()
    _obey_signals(stopped)  # again: an engine may have taken them for itself while it started
    on_ready()
    await desk.work()


def _obey_signals(stopped: asyncio.Event) -> None:
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)


Plan = Any


def _read(kind: type[BaseModel], options: Mapping[str, Any]) -> Plan:
    """The part of the options that belongs to this plan, checked."""
    try:
        return kind.model_validate({name: value for name, value in options.items() if name in kind.model_fields})
    except ValidationError as error:
        fault = error.errors()[0]
        option = "--" + str(fault["loc"][0]).replace("_", "-")
        raise UsageError(f"{option}: {fault['msg']}") from error


def _need(modules: tuple[str, ...], extra: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{', '.join(missing)} not installed: pip install 'vidgate[{extra}]'")


PROGRAMS = {"gpu-worker": serve_card, "gpu-serve": serve_ray}

__all__ = ["PROGRAMS", "MissingExtraError", "StartError", "Surroundings", "UsageError", "serve_card", "serve_ray"]
