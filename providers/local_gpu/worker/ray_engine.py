"""Many cards on many machines: the same renderer in replicas on Ray Serve, and the engine that hands orders to them.

Ray is the engine. It places the replicas, gives each order to one that is free, lets the others wait in its queue, adds
replicas while they wait and replaces those that die. Nothing here schedules: every accepted order is handed over.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
import structlog
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from providers.contract import Clock
from providers.local_gpu.worker.card import child_environment
from providers.local_gpu.worker.events import EngineFacts, Event, Patience, StartError, Task, disk_failed
from providers.local_gpu.worker.orders import Order
from providers.local_gpu.worker.plan import ModelPlan, RayPlan, ServerPlan

log = structlog.get_logger()

# What Ray raises of itself: its own errors, and what its client and a half-started cluster let through.
RAY_TROUBLES = (RayError, RayServeException, RuntimeError, OSError, LookupError)
APPLICATION = "vidgate-gpu"
LOOPBACK = "127.0.0.1"
# The controller and the driver do next to nothing, and want a place all the same.
CPUS_BESIDE = 1
LOOK_EVERY_S = 2.0
HEALTH_EVERY_S = 2.0
# Ray asks several times before it replaces a replica; an order that was sent there waits that long at most.
REPLACED_WITHIN_S = 60.0
# How often Ray counts orders, and over how long it takes their mean before it adds replicas.
MEASURED_EVERY_S = 1.0
LOOK_BACK_MAX_S = 30.0
OBJECT_STORE_BYTES = 512 * 1024 * 1024


class Replica:
    """One card's renderer as an actor: one order at a time, told step by step."""

    def __init__(self, plan: Mapping[str, Any], patience: Mapping[str, float]) -> None:
        # Loaded where it renders: the process that hands orders over needs no PyTorch.
        from providers.local_gpu.worker.pipelines import Renderer  # noqa: PLC0415

        self._renderer = Renderer(ModelPlan.model_validate(plan))
        self._renderer.warm_up()
        self._patience = Patience(**patience)
        self._broken = ""
        # A render that was called off ends at its next step; the next order begins after that and not beside it.
        self._thread = ThreadPoolExecutor(1)

    async def facts(self) -> dict[str, Any]:
        """What is loaded, and where."""
        return asdict(self._renderer.facts)

    def check_health(self) -> None:
        """Ray asks this now and then, and replaces a replica that raises. Raises RuntimeError once it is broken."""
        if self._broken:
            raise RuntimeError(self._broken)

    async def render(self, order: Mapping[str, Any], picture: bytes) -> AsyncIterator[dict[str, Any]]:
        """Render, telling each event; the last one of a finished render has the file with it.

        A broken replica renders nothing. It keeps its one place taken until it is replaced: a refusal would free the
        place at once, and order after order would be sent to it.
        """
        if self._broken:
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=REPLACED_WITHIN_S)
            yield self._told(Event("lost", message=self._broken))
            return
        loop, events = asyncio.get_running_loop(), asyncio.Queue[tuple[Event, bytes]]()
        canceled = threading.Event()

        def say(event: Event, data: bytes = b"") -> None:
            loop.call_soon_threadsafe(events.put_nowait, (event, data))

        work = loop.run_in_executor(self._thread, self._render, Order(**order), picture, say, canceled)
        event = Event("alive")
        try:
            while True:
                event, data = await self._next(events, work, event)
                if event.code == "fault" and self._renderer.facts.device != "cpu":
                    self._broken = "a fault on the card: its context is not to be trusted"
                yield self._told(event, data)
                if event.ends:
                    return
        finally:
            canceled.set()

    def _told(self, event: Event, data: bytes = b"") -> dict[str, Any]:
        return {**event.as_json(), "process": os.getpid(), "data": data}

    async def _next(
        self, events: asyncio.Queue[tuple[Event, bytes]], work: asyncio.Future[None], before: Event
    ) -> tuple[Event, bytes]:
        heard = asyncio.ensure_future(events.get())
        either: set[asyncio.Future[Any]] = {heard, work}
        try:
            await asyncio.wait(either, timeout=self._patience.after(before), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()  # a fault of ours goes to whoever reads the stream
                return await heard
            if heard.done():
                return heard.result()
        finally:
            heard.cancel()
        self._broken = "a render hangs in this process"
        return self._patience.wedged(before), b""

    def _render(self, order: Order, picture: bytes, say: Any, canceled: threading.Event) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="vidgate-") as folder:
                task = Task(order, Path(folder) / "picture", Path(folder) / "output")
                task.picture.write_bytes(picture)
                last = self._renderer.render(task, say=say, canceled=canceled.is_set)
                data = task.output.read_bytes() if last.kind == "finished" else b""
        except OSError as error:  # of this machine's disk: the renderer tells its own
            last, data = disk_failed(error), b""
        say(last, data)


class RayEngine:
    """The engine of `vidgate gpu-serve`: a deployment of replicas, to which every order is handed at once."""

    def __init__(self, model: ModelPlan, plan: RayPlan, *, server: ServerPlan, clock: Clock) -> None:
        self.slots = server.queue_max + plan.replicas_max
        self._model = model
        self._plan = plan
        self._server = server
        self._clock = clock
        self._facts = EngineFacts()
        self._handle: Any = None
        self._streams: dict[str, Any] = {}
        self._canceled: set[str] = set()
        self._looking: asyncio.Task[None] | None = None
        # Which process renders what: for whoever looks after a cluster, and for the test that kills one.
        self.processes: dict[str, int] = {}

    @property
    def ready(self) -> bool:
        """Whether a replica stands ready."""
        return self._facts.replicas > 0

    @property
    def facts(self) -> EngineFacts:
        """What the replicas loaded, and how many there are."""
        return self._facts

    async def start(self) -> None:
        """Join or start the cluster and wait for the replicas. Raises StartError with Ray's own words."""
        try:
            async with asyncio.timeout(self._server.start_s):
                self._handle = await asyncio.to_thread(self._deploy)
                facts = await self._handle.facts.remote()
        except TimeoutError as error:
            raise StartError(f"no replica was ready within {self._server.start_s:g} s") from error
        except RAY_TROUBLES as error:
            raise StartError(f"Ray could not start the replicas: {str(error)[-500:]}") from error
        self._facts = EngineFacts(**{**facts, "models": tuple(facts["models"]), "replicas": self._plan.replicas_min})
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """End the replicas, and the cluster where it is ours."""
        if self._looking is not None:
            self._looking.cancel()
        if ray.is_initialized():
            await asyncio.to_thread(serve.delete, APPLICATION)
            await asyncio.to_thread(ray.shutdown)

    async def render(self, task: Task) -> AsyncIterator[Event]:
        """Hand an order to Ray and tell its events; when Ray loses it, it is lost and may be handed over again."""
        name, ended = task.order.id, False
        last = Event("lost", message="the replica said no more")
        self._streams[name] = None
        try:
            async for event in self._heard(task):
                ended = ended or event.ends
                yield event
        except RayTaskError as error:
            last = Event("failed", code="fault", message=str(error)[-500:])
        except (RayError, RayServeException) as error:
            last = Event("lost", message=f"Ray lost it: {type(error).__name__}")
        except asyncio.CancelledError:
            # Ray says so too when an order is called off before a replica had it.
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
        finally:
            called_off = name in self._canceled
            self._streams.pop(name, None)
            self.processes.pop(name, None)
            self._canceled.discard(name)
        if not ended:
            yield Event("canceled") if called_off else last

    async def _heard(self, task: Task) -> AsyncIterator[Event]:
        order = task.order
        stream = self._handle.options(stream=True).render.remote(
            {"id": order.id, "model": order.model, "parameters": dict(order.parameters)},
            await asyncio.to_thread(task.picture.read_bytes),
        )
        self._streams[order.id] = stream
        if order.id in self._canceled:
            stream.cancel()
        async for message in stream:
            self.processes[order.id] = message.pop("process")
            data = message.pop("data")
            if data:
                await asyncio.to_thread(task.output.write_bytes, data)
            yield Event.from_json(message)

    async def cancel(self, render_id: str) -> None:
        """Ask Ray to call a render off: it leaves the queue at once, or its replica stops at the next step."""
        if render_id in self._streams:
            self._canceled.add(render_id)
            stream = self._streams[render_id]
            if stream is not None:
                stream.cancel()

    def _deploy(self) -> Any:
        plan = self._plan
        logging.getLogger("ray").setLevel(logging.WARNING)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if plan.address:
            ray.init(address=plan.address, log_to_driver=False)
        else:
            ray.init(
                num_cpus=math.ceil(plan.replicas_max * plan.cpus_each) + CPUS_BESIDE,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                _node_ip_address=LOOPBACK,
            )
        own = child_environment({}, self._model)
        deployment = serve.deployment(Replica).options(
            name="replica",
            max_ongoing_requests=1,
            ray_actor_options={
                "num_cpus": plan.cpus_each,
                "num_gpus": plan.gpus_each,
                "runtime_env": {"env_vars": own},
            },
            health_check_period_s=HEALTH_EVERY_S,
            **_size(plan),
        )
        patience = Patience(self._server.wedged_s, self._server.compile_wedged_s)
        bound = deployment.bind(self._model.model_dump(), asdict(patience))
        return serve.run(bound, name=APPLICATION, route_prefix=None)

    async def _look(self) -> None:
        """Keep the number of replicas that stand ready: Ray replaces, adds and removes them by itself."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                status = await asyncio.to_thread(serve.status)
                states = status.applications[APPLICATION].deployments["replica"].replica_states
                running = int(states.get("RUNNING", 0))
            except RAY_TROUBLES as error:  # the next look may find it well again
                log.warning("gpu.ray_not_seen", error=f"{type(error).__name__}: {error}"[-300:])
                running = 0
            self._facts = replace(self._facts, replicas=running)


def _size(plan: RayPlan) -> dict[str, Any]:
    if plan.replicas_min == plan.replicas_max:
        return {"num_replicas": plan.replicas_min}
    return {
        "autoscaling_config": {
            "min_replicas": plan.replicas_min,
            "max_replicas": plan.replicas_max,
            "target_ongoing_requests": plan.queue_each,
            "upscale_delay_s": plan.upscale_s,
            "downscale_delay_s": plan.downscale_s,
            "look_back_period_s": min(LOOK_BACK_MAX_S, max(2 * MEASURED_EVERY_S, plan.upscale_s)),
            "metrics_interval_s": MEASURED_EVERY_S,
        }
    }
