"""Vendors whose every reply is drawn from the seed, and who know what they did: the other side of the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from gateway.outbox import retry_after_s
from providers.capability import Route
from providers.contract import (
    Accepted,
    Balance,
    CheckOutcome,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    InlineFile,
    LookupOutcome,
    NoEvidence,
    NotFound,
    Pending,
    Refused,
    RemoteFile,
    RenderRequest,
    Report,
    SentAttempt,
    SubmitOutcome,
    Token,
)
from tests.sim.database import Database
from tests.sim.scenario import VendorPlan, pick
from tests.sim.world import OWNER, World, context_of, permit
from tests.support.pictures import clip
from tests.support.scripted import Scripted

RETRY_AFTER_MAX_S = 40
SILENCE_S = 60.0
Call = Callable[[str, float], Awaitable[None]]


@dataclass(slots=True)
class Render:
    """A render that the vendor accepted, and how it will end."""

    request_id: str
    attempt_id: str
    accepted_at: float
    ready_at: float
    end: str
    answered: bool
    canceled: bool = False
    forgotten_until: float = 0.0


@dataclass(slots=True)
class Asked:
    """One submit as the vendor saw it."""

    at: float
    attempt_id: str
    process: str
    number: int


@dataclass(frozen=True, slots=True)
class Rest:
    """How long a 429 asked to be left alone: until when, in which words, and which process it answered."""

    until: float
    words: str
    process: str

    def binds(self, process: str, story: str) -> bool:
        """Whether a process can know of it: the reply was its own, or the attempt's story has the words.

        A reply that dies with the process which waited for it tells nobody anything. Whoever takes the attempt over
        finds a lost submit, and that the records do not have it, and may submit at once.
        """
        return process == self.process or self.words in story


@dataclass
class Vendor(Scripted):
    """A scripted vendor with moods. `renders` is its own record of the work it took on."""

    plan: VendorPlan = None  # type: ignore[assignment]
    world: World = None  # type: ignore[assignment]
    database: Database = None  # type: ignore[assignment]
    renders: dict[str, Render] = field(default_factory=dict)
    calls: list[Asked] = field(default_factory=list)
    rests: dict[str, Rest] = field(default_factory=dict)
    broke: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, plan: VendorPlan, world: World, database: Database) -> Vendor:
        return cls(
            name=plan.name,
            mode=plan.mode,
            price_micros=plan.price_micros,
            billing=plan.billing,  # type: ignore[arg-type]
            latency_s=plan.latency_s,
            looks_up=plan.looks_up,
            cancels=plan.cancels,
            balance_micros=plan.credit_micros,
            plan=plan,
            world=world,
            database=database,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hook = self._cross
        self.lots = self.world.random(f"vendor {self.name}")

    def now(self) -> float:
        return self.world.now

    def charge_micros(self, render: Render) -> int:
        """What the vendor bills for a render by now: what it delivered, whether or not anybody fetched it."""
        if render.canceled or self.now() < render.ready_at:
            return 0
        if render.end == "failed":
            return 0
        if render.end == "failed_charged":
            return self.price_micros // 3
        # One that bills only delivered results does not bill a call that it answered with an error.
        return 0 if render.answered and self.billing == "success_only" else self.price_micros

    @property
    def charged_micros(self) -> int:
        return sum(self.charge_micros(render) for render in self.renders.values())

    async def _cross(self, moment: str, call: str) -> None:
        owner = OWNER.get()
        assert owner is not None
        await owner.cross(f"{moment} {call} at {self.name}")
        if moment == "before":
            permit()

    def _draw(self, rates: dict[str, float], call: str) -> str | None:
        fault = None if self.world.calm else pick(self.lots, rates)
        if fault is not None:
            self.world.happened(f"{call} {fault}")
        return fault

    async def _submit(self, request: RenderRequest) -> SubmitOutcome:
        owner = OWNER.get()
        assert owner is not None
        attempt_id = request.attempt_id
        number = 1 + sum(one.attempt_id == attempt_id for one in self.calls)
        self.calls.append(Asked(self.now(), attempt_id, owner.name, number))
        self.asked_at.append(self.now())
        self.world.log(f"{owner.name} submits {attempt_id} at {self.name}")
        self._check_rest(owner.name, attempt_id)
        if self.balance_micros is not None and self.charged_micros + self.price_micros > self.balance_micros:
            self.world.happened("submit at a dry account")
            return Refused(FailureKind.NO_CREDIT, "402", status=402)
        return await self._answer(request, self._draw(self.plan.submit, "submit"))

    def _check_rest(self, process: str, attempt_id: str) -> None:
        """A 429 is obeyed by whoever knows of it."""
        rest = self.rests.get(attempt_id)
        # Whoever takes a job over knows when by the clock of the one before: nothing is promised across wrong clocks.
        if rest is None or self.now() >= rest.until - 0.001 or self.world.scenario.jumps:
            return
        story = self.database.rows("SELECT events FROM attempts WHERE id = ?", attempt_id)[0][0]
        if rest.binds(process, story):
            self.world.violated(f"a submit of {attempt_id} came before the Retry-After of {self.name} was over")
        else:
            self.world.happened("submit after a 429 that nobody heard")

    async def _answer(self, request: RenderRequest, fault: str | None) -> SubmitOutcome:
        refusals = {
            "refused_connection": (FailureKind.UNAVAILABLE, None),
            "500": (FailureKind.SERVER_ERROR, 500),
            "401": (FailureKind.UNAUTHORIZED, 401),
            "moderated": (FailureKind.MODERATED, 400),
            "no_credit": (FailureKind.NO_CREDIT, 402),
        }
        if fault in refusals:
            kind, status = refusals[fault]
            return Refused(kind, fault, status=status)
        if fault in {"429_seconds", "429_date"}:
            return self._too_many(request, fault)
        if fault is not None and fault != "slow":
            return await self._spoil(request, fault)
        if fault == "slow":
            await asyncio.sleep(self.lots.uniform(1.0, 30.0))
        render = self._take(request, answered=False)
        if self.mode == "async":
            return Accepted({"id": render.request_id}, self.lots.choice((None, self.latency_s)), self._report(render))
        await asyncio.sleep(max(0.0, render.ready_at - self.now()))
        return self._ended(render)

    def _too_many(self, request: RenderRequest, form: str) -> Refused:
        wait_s = self.lots.randint(0, RETRY_AFTER_MAX_S)
        at = datetime.fromtimestamp(int(self.now()) + wait_s, UTC)
        text = str(wait_s) if form == "429_seconds" else format_datetime(at, usegmt=True)
        told_s = retry_after_s(text, self.now())
        asked = self.calls[-1]
        words = f"429 to submit {asked.number}, Retry-After {text}"
        self.rests[request.attempt_id] = Rest(self.now() + (told_s or 0.0), words, asked.process)
        return Refused(FailureKind.RATE_LIMITED, words, told_s, 429)

    async def _spoil(self, request: RenderRequest, fault: str) -> InDoubt:
        """Accept it or not, and lose the answer."""
        kind, _, accepted = fault.partition("_")
        status = int(kind) if kind in {"502", "504"} else None
        if accepted:
            self._take(request, answered=status is not None)
        await asyncio.sleep(SILENCE_S if kind == "silence" else self.lots.uniform(0.0, 5.0))
        return InDoubt(kind, status=status)

    def _take(self, request: RenderRequest, *, answered: bool) -> Render:
        end = self._draw(self.plan.render, "render") or "fine"
        end = "fine" if end == "lost_job" and self.mode == "sync" else end
        slow = 12.0 if end in {"slow_render", "late"} else 1.0
        took_s = self.latency_s * slow * self.lots.uniform(0.5, 2.0)
        request_id = self._run(request)
        render = Render(request_id, request.attempt_id, self.now(), self.now() + took_s, end, answered)
        self.renders[request_id] = render
        self.world.log(f"{self.name} accepts {request_id} of {request.attempt_id}: {end}")
        self._call_back(request, render)
        return render

    def _call_back(self, request: RenderRequest, render: Render) -> None:
        """Announce the end at the address that came with the request: as a rule once, and in time."""
        if request.callback_url is None or self.mode == "sync":
            return
        fault = self._draw(self.plan.callback, "callback")
        after_s = render.ready_at - self.now() + {"delayed": 300.0, "early": -self.latency_s}.get(fault or "", 0.1)
        times = {"lost": 0, "twice": 2}.get(fault or "", 1)
        path = "/callbacks/" + request.callback_url.partition("/callbacks/")[2]
        for number in range(times):
            work = self.world.call_back(path, max(0.0, after_s) + number)
            self.world.loop.create_task(work, context=context_of(None))

    def _report(self, render: Render) -> Report:
        return Report(request_id=render.request_id)

    def _check(self, token: Token) -> CheckOutcome:
        render = self.renders[str(token["id"])]
        if render.end == "lost_job":
            return InDoubt("HTTP 404", status=404, gone=True)
        if self.now() < render.forgotten_until:
            return InDoubt("HTTP 404", status=404, gone=True)
        fault = self._draw(self.plan.check, "check")
        if fault == "forgets":
            render.forgotten_until = self.now() + self.lots.uniform(1.0, 90.0)
            return InDoubt("HTTP 404", status=404, gone=True)
        if fault is not None:
            wait_s = self.lots.randint(0, 20) if fault == "429" else None
            return InDoubt(fault, status=int(fault) if fault.isdigit() else None, retry_after_s=wait_s)
        if self.now() < render.ready_at:
            return Pending(render.ready_at - self.now())
        return self._ended(render)

    def _ended(self, render: Render) -> Finished | Failed:
        """The vendor's last word on a render: the same at every call."""
        told = self.price_micros if self.plan.reports_cost or self.balance_micros is not None else None
        if render.end == "failed":
            return Failed(FailureKind.RENDER_FAILED, "it failed", Report(render.request_id, 0))
        if render.end == "failed_charged":
            cost_micros = self.charge_micros(render)
            return Failed(FailureKind.RENDER_FAILED, "it failed", Report(render.request_id, cost_micros))
        ordered = self.running[render.request_id].parameters
        data = clip(int(str(ordered["frames"])), int(str(ordered["fps"])))
        spoiled = {"rubbish": b"<html>", "truncated": data[: len(data) // 2], "wrong_frames": clip(13, 7)}
        report = Report(request_id=render.request_id, cost_micros=told, model=self.route.model)
        if render.end == "late" or self.mode == "sync":
            return Finished((InlineFile(spoiled.get(render.end, data)),), report)
        self.world.files[f"/{render.request_id}"] = spoiled.get(render.end, data)
        return Finished((RemoteFile(f"http://files.test/{render.request_id}"),), report)

    async def _lookup(self, sent: SentAttempt) -> LookupOutcome:
        owner = OWNER.get()
        assert owner is not None
        await owner.cross(f"before lookup at {self.name}")
        if self._draw(self.plan.lookup, "lookup") is not None:
            return NoEvidence("dark")
        mine = [one for one in self.renders.values() if one.attempt_id == sent.attempt_id]
        free = [one.request_id for one in mine if one.request_id not in sent.claimed]
        await owner.cross(f"after lookup at {self.name}")
        return Accepted({"id": free[0]}, report=Report(request_id=free[0])) if free else NotFound("not there")

    async def _cancel(self, route: Route, token: Token) -> bool:
        owner = OWNER.get()
        assert owner is not None
        await owner.cross(f"before cancel at {self.name}")
        render = self.renders[str(token["id"])]
        if not self.cancels or self.now() >= render.ready_at:
            return False
        render.canceled = True
        await owner.cross(f"after cancel at {self.name}")
        return True

    async def _balance(self) -> Balance | None:
        owner = OWNER.get()
        assert owner is not None
        await owner.cross(f"before balance at {self.name}")
        assert self.balance_micros is not None
        return Balance(self.balance_micros - self.charged_micros)
