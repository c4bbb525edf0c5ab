"""What is made of Ray's troubles, with its own errors and without a cluster: replicas and streams are made up."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import exceptions
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from providers.local_gpu.worker import pipelines, ray_engine
from providers.local_gpu.worker.events import EngineFacts, Event, Patience, Task
from providers.local_gpu.worker.orders import ordered
from providers.local_gpu.worker.plan import ModelPlan, RayPlan, ServerPlan
from tests.support.gpu_worker import asked

ORDER = ordered("r1", asked(seed=1), 0)
STARTED = {**Event("started", steps=5).as_json(), "process": 1, "data": b""}
FAULT = Event("failed", code="fault", message="an illegal memory access was encountered")
TROUBLES = [
    exceptions.ObjectLostError("ab", None, ""),
    exceptions.OwnerDiedError("ab", None, ""),
    exceptions.NodeDiedError("the node died"),
    exceptions.RaySystemError("the raylet is gone"),
    exceptions.RayActorError(),
    DeploymentUnavailableError(SimpleNamespace(name="replica", app_name="vidgate-gpu")),
    BackPressureError(num_queued_requests=9, max_queued_requests=8),
]


class Stream:
    """A stream as Ray gives it, which can be called off."""

    def __init__(self, told: AsyncIterator[dict[str, Any]]) -> None:
        self._told = told

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._told

    def cancel(self) -> None:
        """What then comes is the test's to say."""


class Handle:
    """A deployment's handle whose stream says something and then does what a test wants."""

    def __init__(self, then: Callable[[], Any], *, said: tuple[dict[str, Any], ...] = (STARTED,)) -> None:
        self._then, self._said = then, said
        self.render = SimpleNamespace(remote=lambda *_: Stream(self._stream()))

    def options(self, **_: Any) -> Handle:
        return self

    async def _stream(self) -> AsyncIterator[dict[str, Any]]:
        for message in self._said:
            yield dict(message)
        self._then()


class Ticks:
    """A clock that lets a loop go round so many times."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, _seconds: float) -> None:
        if not self._rounds:
            raise asyncio.CancelledError
        self._rounds -= 1
        await asyncio.sleep(0)


def engine(folder: Path, handle: Any = None, rounds: int = 0) -> Any:
    """The engine as it stands after its start."""
    server = ServerPlan(work_dir=folder)
    made: Any = ray_engine.RayEngine(ModelPlan(model="tiny:svd"), RayPlan(), server=server, clock=Ticks(rounds))
    made._handle, made._facts = handle, EngineFacts(("svd",), "cuda", "card", 1)
    return made


def events(made: Any, folder: Path) -> list[Event]:
    """Everything that is said of a render."""
    (folder / "picture").write_bytes(b"picture")

    async def heard() -> list[Event]:
        async with asyncio.timeout(20):
            return [event async for event in made.render(Task(ORDER, folder / "picture", folder / "output"))]

    return asyncio.run(heard())


def raises(error: BaseException) -> Callable[..., Any]:
    """What raises this."""

    def act(*_arguments: Any, **_rest: Any) -> None:
        raise error

    return act


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
def test_whatever_ray_loses_is_lost(tmp_path: Path, error: Exception) -> None:
    """The render may be begun again; nothing is raised to those beside it."""
    said = events(engine(tmp_path, Handle(raises(error))), tmp_path)
    assert [event.kind for event in said] == ["started", "lost"]
    assert type(error).__name__ in said[-1].message


def test_an_error_of_the_replicas_own_is_a_failure(tmp_path: Path) -> None:
    """It would come again."""
    error = exceptions.RayTaskError("render", "ValueError: no such size", ValueError("no such size"))
    last = events(engine(tmp_path, Handle(raises(error))), tmp_path)[-1]
    assert (last.kind, last.code) == ("failed", "fault")


@pytest.mark.parametrize("error", [None, exceptions.TaskCancelledError(), asyncio.CancelledError()])
def test_a_stream_that_ends_unasked_is_lost_and_one_called_off_is_canceled(
    tmp_path: Path, error: BaseException | None
) -> None:
    """Nobody waits for ever for a last word, and only what was called off is told as canceled."""
    act = (lambda: None) if error is None else raises(error)
    made = engine(tmp_path, Handle(act))
    assert [event.kind for event in events(made, tmp_path)] == ["started", "lost"]
    made = engine(tmp_path, Handle(act))
    made._canceled.add(ORDER.id)
    assert [event.kind for event in events(made, tmp_path)] == ["started", "canceled"]


def test_trouble_after_the_end_changes_nothing(tmp_path: Path) -> None:
    """The last word of a render is its last."""
    ended = {**Event("finished").as_json(), "process": 1, "data": b""}
    made = engine(tmp_path, Handle(raises(exceptions.RayActorError()), said=(STARTED, ended)))
    assert [event.kind for event in events(made, tmp_path)] == ["started", "finished"]


def test_a_cluster_that_cannot_be_seen_is_not_ready_until_it_is_seen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hiccup costs one look and no more."""
    replicas = SimpleNamespace(replica_states={"RUNNING": 2})
    status = SimpleNamespace(applications={"vidgate-gpu": SimpleNamespace(deployments={"replica": replicas})})
    looks: list[Any] = [exceptions.RaySystemError("gone"), status, SimpleNamespace(applications={})]
    made, ready = engine(tmp_path, rounds=3), []

    def look() -> Any:
        ready.append((made.ready, made.facts.replicas))
        seen = looks[len(ready) - 1]
        if isinstance(seen, Exception):
            raise seen
        return seen

    monkeypatch.setattr(ray_engine.serve, "status", look)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(made._look())
    assert [*ready, (made.ready, made.facts.replicas)] == [(True, 1), (False, 0), (True, 2), (False, 0)]


class FaultyRenderer:
    """A renderer whose first render ends in a fault; it counts."""

    device = "cuda"

    def __init__(self, _plan: ModelPlan) -> None:
        self.renders = 0
        self.facts = EngineFacts(("svd",), self.device, "card", 1)

    def warm_up(self) -> None:
        """Nothing to warm."""

    def render(self, _task: Task, **_: Any) -> Event:
        """A fault, always."""
        self.renders += 1
        return FAULT


def test_a_full_disk_under_a_replica_is_no_fault_of_the_render(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given back with the disk's own word, and the replica renders on."""
    monkeypatch.setattr(pipelines, "Renderer", FaultyRenderer)
    monkeypatch.setattr(FaultyRenderer, "device", "cuda")
    monkeypatch.setattr(
        ray_engine.tempfile, "TemporaryDirectory", raises(OSError(errno.ENOSPC, "No space left on device"))
    )
    replica = ray_engine.Replica(ModelPlan(model="tiny:svd").model_dump(), asdict(Patience(20.0, 40.0)))

    async def last() -> dict[str, Any]:
        async with asyncio.timeout(20):
            return [told async for told in replica.render(asdict(ORDER), b"picture")][-1]

    told = asyncio.run(last())
    assert (told["code"], told["message"]) == ("worker_lost", "the worker's disk failed: No space left on device")
    replica.check_health()


@pytest.mark.parametrize(("device", "is_poisoned"), [("cuda", True), ("cpu", False)])
def test_a_replica_renders_nothing_after_a_fault_on_its_card(
    monkeypatch: pytest.MonkeyPatch, device: str, is_poisoned: bool
) -> None:
    """It tells Ray that it is broken, and an order that is sent to it meanwhile is lost, so that another renders it."""
    monkeypatch.setattr(pipelines, "Renderer", FaultyRenderer)
    monkeypatch.setattr(FaultyRenderer, "device", device)
    monkeypatch.setattr(ray_engine, "REPLACED_WITHIN_S", 0.01, raising=False)
    replica = ray_engine.Replica(ModelPlan(model="tiny:svd").model_dump(), asdict(Patience(20.0, 40.0)))

    async def last() -> dict[str, Any]:
        async with asyncio.timeout(20):
            return [told async for told in replica.render(asdict(ORDER), b"picture")][-1]

    replica.check_health()
    assert asyncio.run(last())["code"] == "fault"
    if is_poisoned:
        with pytest.raises(RuntimeError, match="not to be trusted"):
            replica.check_health()
        assert asyncio.run(last())["kind"] == "lost"
    else:
        replica.check_health()
        assert asyncio.run(last())["code"] == "fault"
    assert replica._renderer.renders == (1 if is_poisoned else 2)
