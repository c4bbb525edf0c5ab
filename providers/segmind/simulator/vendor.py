"""The simulated vendor itself: runs, credits, records and files, without HTTP."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from providers.contract import Json, SimulatorTools
from providers.segmind.simulator.models import PICTURE_FIELDS, SEED_MAX
from providers.segmind.simulator.output import OutputFile, Recipe, Studio
from providers.segmind.simulator.switches import SegmindSwitches
from providers.simulation import Charge, ErrorPage, Sandbox

RUNS_MAX = 20_000
PICTURES_MAX = 64
PICTURE_TEXT_KEPT = 64
State = Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"]


@dataclass(slots=True)
class Run:
    """One run of a model. Times are unix seconds on the simulator's clock; `billed` is decided when it starts."""

    request_id: str
    slug: str
    body: Mapping[str, Json]
    sent: Mapping[str, Json]
    picture: bytes
    created_at: float
    starts_at: float
    done_at: float
    price_micros: int
    seed: int
    container: str
    error: str | None = None
    billed: bool = True
    gone_at: float | None = None

    def file_names(self) -> tuple[str, ...]:
        """The names of the run's files, which nobody can guess."""
        samples = self.body.get("samples", 1)
        count = samples if isinstance(samples, int) else 1
        return tuple(f"{uuid.uuid5(uuid.UUID(self.request_id), str(part))}.{self.container}" for part in range(count))

    def state(self, now: float) -> State:
        """The run's state at a time."""
        if now < self.starts_at:
            return "QUEUED"
        if now < self.done_at:
            return "PROCESSING"
        return "FAILED" if self.error is not None else "COMPLETED"


class Vendor:
    """All that the vendor knows."""

    def __init__(self, tools: SimulatorTools, switches: SegmindSwitches, error_page: ErrorPage) -> None:
        self.sandbox: Sandbox[SegmindSwitches] = Sandbox(tools, switches, error_page=error_page, settle=self.settle)
        self.runs: OrderedDict[str, Run] = OrderedDict()
        self.assets: dict[str, OutputFile] = {}
        self._studio = Studio()
        self._unsettled: dict[str, Run] = {}
        self._next_due_at = inf
        self._by_file: dict[str, Run] = {}
        self._pictures: OrderedDict[bytes, bytes] = OrderedDict()
        self._window = (0, 0)

    @property
    def switches(self) -> SegmindSwitches:
        """The settings as they are now."""
        return self.sandbox.switches

    def now(self) -> float:
        """Unix seconds on the simulator's clock."""
        return self.sandbox.clock.now()

    def new_id(self) -> str:
        """A random UUID, version 4, drawn from the simulator's own randomness."""
        return str(uuid.UUID(int=self.sandbox.random.getrandbits(128), version=4))

    def start(
        self, slug: str, body: Mapping[str, Json], sent: Mapping[str, Json], *, picture: bytes, error: str | None
    ) -> Run:
        """Accept a run. With `error` it fails almost at once; otherwise it may fail by the switches' rates."""
        now = self.now()
        switches, random = self.switches, self.sandbox.random
        starts_at = self._slot_at(now) + self.sandbox.draw(switches.queue)
        latency_s = 0.007 / switches.speed if error else self.sandbox.draw(switches.latency[slug])
        if error is None:
            chance = random.random()
            if chance < switches.moderation_rate:
                error = switches.moderation_text
            elif chance < switches.moderation_rate + switches.failure_rate:
                error = switches.failure_text
        run = Run(
            request_id=self.new_id(),
            slug=slug,
            body=_without_picture(body),
            sent=_without_picture(sent),
            picture=self._kept_once(picture),
            created_at=now,
            starts_at=starts_at,
            done_at=starts_at + latency_s,
            price_micros=self.price_micros(slug, body),
            seed=self._seed(slug, body),
            container="jpg" if slug == "ssd-img2img" else switches.container,
            error=error,
        )
        self._remember(run)
        self.sandbox.meter.accept(run.request_id)
        return run

    def settle(self) -> None:
        """Charge every run that has succeeded by now: success alone is billed."""
        now = self.now()
        if now < self._next_due_at:
            return
        due = [run for run in self._unsettled.values() if run.done_at <= now]
        for run in sorted(due, key=lambda run: run.done_at):
            del self._unsettled[run.request_id]
            run.gone_at = run.done_at + self.switches.record_ttl_s
            if run.error is None and run.billed:
                self.sandbox.meter.charge(Charge(run.request_id, run.slug, run.price_micros, run.done_at))
        self._next_due_at = min((run.done_at for run in self._unsettled.values()), default=inf)

    def known(self, request_id: str) -> Run | None:
        """A run whose record still exists."""
        self.settle()
        run = self.runs.get(request_id)
        return None if run is None or (run.gone_at is not None and self.now() >= run.gone_at) else run

    def balance_micros(self) -> tuple[int, int]:
        """Paid and free credit left, in micro-USD; free credit is spent first."""
        self.settle()
        charged = self.sandbox.meter.charged_micros
        free = max(0, self.switches.free_credits_micros - charged)
        paid = self.switches.credits_micros - max(0, charged - self.switches.free_credits_micros)
        return paid, free

    def price_micros(self, slug: str, body: Mapping[str, Json]) -> int:
        """What a run costs in micro-USD."""
        price = self.switches.prices_micros.get(slug, 0)
        if not self.switches.price_follows_parameters:
            return price
        parts = {"svd": (("fps", 7), ("motion", 127)), "ssd-img2img": (("samples", 1), ("num_inference_steps", 25))}
        for name, usual in parts.get(slug, ()):
            value = body.get(name)
            if isinstance(value, int) and value > 0:
                price = price * value // usual
        return price

    def limited_until(self) -> float | None:
        """Count a submit; the time when the rate limit resets if it is one too many, else None."""
        limit = self.switches.requests_per_minute
        if limit is None:
            return None
        minute = int(self.now() // 60)
        started, count = self._window
        self._window = (minute, count + 1 if minute == started else 1)
        return (minute + 1) * 60.0 if self._window[1] > limit else None

    async def files(self, run: Run) -> tuple[OutputFile, ...]:
        """The finished run's files: one clip, or one picture a sample."""
        return await self._studio.make(Recipe(run.slug, run.body, run.seed, run.container), run.picture, self.switches)

    async def public_file(self, name: str) -> OutputFile | None:
        """A finished file or an uploaded picture by its name, while it lives."""
        run = self._by_file.get(name)
        if run is None:
            return self.assets.get(name)
        now = self.now()
        if run.state(now) != "COMPLETED" or now >= run.done_at + self.switches.file_ttl_s:
            return None
        return (await self.files(run))[run.file_names().index(name)]

    def _kept_once(self, picture: bytes) -> bytes:
        """The same bytes object for the same picture: many runs of one picture take the memory of one."""
        kept = self._pictures.setdefault(picture, picture)
        while len(self._pictures) > PICTURES_MAX:
            self._pictures.popitem(last=False)
        return kept

    def _remember(self, run: Run) -> None:
        self.runs[run.request_id] = self._unsettled[run.request_id] = run
        self._next_due_at = min(self._next_due_at, run.done_at)
        self._by_file.update(dict.fromkeys(run.file_names(), run))
        while len(self.runs) > RUNS_MAX:
            _, oldest = self.runs.popitem(last=False)
            self._unsettled.pop(oldest.request_id, None)
            for name in oldest.file_names():
                del self._by_file[name]

    def _seed(self, slug: str, body: Mapping[str, Json]) -> int:
        seed = body.get("seed")
        literal = slug == "motionctrl-svd" and not self.switches.motionctrl_random_seed
        if self.switches.honours_seed and isinstance(seed, int) and (seed >= 0 or literal):
            return seed
        return self.sandbox.random.randint(0, SEED_MAX)

    def _slot_at(self, now: float) -> float:
        limit = self.switches.concurrency_max
        if limit is None:
            return now
        busy = sorted(run.done_at for run in self._unsettled.values() if run.done_at > now)
        return now if len(busy) < limit else busy[len(busy) - limit]


def _without_picture(values: Mapping[str, Json]) -> dict[str, Json]:
    """The values with a picture's text cut short, unless it is a link."""
    return {
        name: value[:PICTURE_TEXT_KEPT]
        if name in PICTURE_FIELDS and isinstance(value, str) and not value.startswith("http")
        else value
        for name, value in values.items()
    }
