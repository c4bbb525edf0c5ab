"""The callers of a run, and what they remember of what they were told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.sim.scenario import Scenario, pick
from tests.sim.world import World
from tests.support.pictures import picture_base64

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
HOOK_PATH = "/hook/"


@dataclass(slots=True)
class Acknowledged:
    """A job that a caller was told of, and the key it was asked for under."""

    job_id: str
    team: str
    key: str | None
    max_cost_micros: int | None


@dataclass(slots=True)
class Team:
    """A team as its callers know it."""

    name: str
    team_id: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class Received:
    """One delivery of an event, as its receiver got it. `kept` says that it was answered with success."""

    event_id: str
    team: str
    body: bytes
    kept: bool


@dataclass
class Traffic:
    """Everything that the outside saw: acknowledgements, replies by key, final states, events."""

    world: World
    teams: list[Team]
    routes: list[str]
    acknowledged: dict[str, Acknowledged] = field(default_factory=dict)
    replies: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    finals: dict[str, dict[str, Any]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    async def run(self) -> None:
        """All callers, from the first to the last."""
        scenario = self.world.scenario
        random = self.world.random("traffic")
        starts = sorted(random.uniform(0.0, scenario.length_s) for _ in range(scenario.jobs))
        tasks = [
            self.world.loop.create_task(self._caller(number, at, Random(f"caller {number} {scenario.seed}")))
            for number, at in enumerate(starts)
        ]
        for task in tasks:
            await task

    async def _caller(self, number: int, at: float, random: Random) -> None:
        """One caller: asks until it is told, perhaps asks again later, perhaps takes it back, perhaps looks."""
        scenario = self.world.scenario
        await self.world.sleep(at)
        team = random.choice(self.teams)
        key = f"order-{number}" if random.random() < 0.9 else None
        body, limit_micros = self._wish(random, number)
        job_id = await self._ask(team, key, body, limit_micros, random)
        if job_id is not None and random.random() < scenario.cancels:
            await self.world.sleep(random.expovariate(1 / 15))
            await self._call("POST", f"/jobs/{job_id}/cancel", team)
        if job_id is not None and random.random() < scenario.waits:
            await self._look(team, job_id, wait_s=random.choice((0, 5, 60)))
        if key is not None and random.random() < scenario.repeats:
            await self.world.sleep(random.choice((0.0, 1.0, 60.0, 400.0)))
            await self._ask(team, key, body, limit_micros, random)
            await self._other_body(team, key, body)

    def _wish(self, random: Random, number: int) -> tuple[dict[str, Any], int | None]:
        body: dict[str, Any] = {"image": picture_base64(), "fit": "nearest", "metadata": {"number": str(number)}}
        routing: dict[str, Any] = {}
        if random.random() < 0.2:
            routing["pin"] = random.choice(self.routes)
        if random.random() < 0.2:
            routing["objective"] = random.choice(("fastest", "cheapest", "balanced"))
        limit_micros = random.choice((160_000, 200_000)) if random.random() < 0.1 else None
        if limit_micros is not None:
            routing["max_cost_usd"] = limit_micros / 1_000_000
        return body | ({"routing": routing} if routing else {}), limit_micros

    async def _ask(
        self, team: Team, key: str | None, body: dict[str, Any], limit_micros: int | None, random: Random
    ) -> str | None:
        """Ask until there is an answer, under one key. Without a key a lost answer is not asked for again."""
        for _ in range(12):
            headers = {"idempotency-key": key} if key is not None else {}
            reply = await self._call("POST", "/generate/video", team, headers=headers, body=body)
            if reply is not None and reply.status_code < 500 and reply.status_code != 409:
                return self._told(team, key, reply, limit_micros)
            if key is None:
                return None
            await self.world.sleep(random.uniform(0.5, 20.0))
        return None

    def _told(self, team: Team, key: str | None, reply: httpx.Response, limit_micros: int | None) -> str | None:
        self.world.counts[f"reply {reply.status_code}"] += 1
        if reply.status_code not in {202, 402, 422}:
            self.world.violated(f"a request was answered with {reply.status_code}: {reply.text[:200]}")
        if key is not None and reply.status_code in {202, 402}:
            before = self.replies.setdefault((team.name, key), (reply.status_code, reply.content))
            if before != (reply.status_code, reply.content):
                self.world.violated(f"the same key was answered otherwise: {key} of {team.name}")
        if reply.status_code != 202:
            return None
        job_id = str(reply.json()["id"])
        self.acknowledged.setdefault(job_id, Acknowledged(job_id, team.name, key, limit_micros))
        self.world.log(f"acknowledged {job_id} to {team.name} under {key}")
        return job_id

    async def _other_body(self, team: Team, key: str, body: dict[str, Any]) -> None:
        """The same key with another request is refused, once the first one has its answer."""
        if (team.name, key) not in self.replies:
            return
        other = body | {"metadata": {"number": "another"}}
        reply = await self._call("POST", "/generate/video", team, headers={"idempotency-key": key}, body=other)
        if reply is not None and reply.status_code not in {422, 500, 503}:
            self.world.violated(f"a key was taken for another request: {reply.status_code}")

    async def _look(self, team: Team, job_id: str, *, wait_s: int = 0) -> dict[str, Any] | None:
        """A job as its team sees it; what has ended must never look otherwise again."""
        headers = {"prefer": f"wait={wait_s}"} if wait_s else {}
        reply = await self._call("GET", f"/jobs/{job_id}", team, headers=headers)
        if reply is None or reply.status_code >= 500:
            return None
        if reply.status_code != 200:
            self.world.violated(f"an acknowledged job is not there: {job_id}: {reply.status_code}")
            return None
        shown: dict[str, Any] = reply.json()
        if shown["status"] in ENDED and self.finals.setdefault(job_id, shown) != shown:
            self.world.violated(f"an ended job changed: {job_id}")
        return shown

    async def look_at_all(self) -> list[str]:
        """Every acknowledged job once; the ids of those that have not ended."""
        left = []
        by_name = {team.name: team for team in self.teams}
        for one in list(self.acknowledged.values()):
            shown = await self._look(by_name[one.team], one.job_id)
            if shown is None or shown["status"] not in ENDED:
                left.append(one.job_id)
        return left

    async def _call(
        self,
        method: str,
        path: str,
        team: Team,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response | None:
        assert self.world.edge is not None
        content = json.dumps(body).encode() if body is not None else b""
        given = {"content-type": "application/json", **team.headers, **(headers or {})}
        return await self.world.edge(method, path, headers=given, body=content)


class Receiver:
    """Where events are sent to: takes them, or fails as receivers do."""

    def __init__(self, world: World, traffic: Traffic) -> None:
        self._world = world
        self._traffic = traffic
        self._random = world.random("receiver")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        headers = dict(scope["headers"])
        scenario: Scenario = self._world.scenario
        fault = None if self._world.calm else pick(self._random, scenario.receiver)
        if fault is not None:
            self._world.happened(f"receiver {fault}")
        kept = fault in {None, "reply_lost"}
        team = scope["path"].removeprefix(HOOK_PATH)
        event_id = headers[b"webhook-id"].decode()
        self._traffic.received.append(Received(event_id, team, message["body"], kept))
        self._world.log(f"event {event_id} for {team}: {fault or 'taken'}")
        if fault == "silence":
            await self._world.sleep(90.0)
        if fault in {"silence", "reply_lost"}:
            return  # the connection breaks off without an answer
        status = int(fault) if fault is not None else 204
        extra = [(b"retry-after", b"7")] if fault == "429" else []
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": b""})


class Files:
    """Where vendors leave their results."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random("files")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        data = self._world.files.get(scope["path"])
        status = 404 if data is None else 200
        if not self._world.calm and self._random.random() < 0.05:
            self._world.happened("file 503")
            status, data = 503, b""
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"video/mp4")]})
        await send({"type": "http.response.body", "body": data or b""})
