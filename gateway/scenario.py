"""The scenario file of `vidgate simulate`: who asks for what and when, and how each route and account behaves.

Money is in dollars here, because people write these files; times are seconds unless the name says hours. Hour 0 is
Monday, midnight.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.settings import RetrySection
from gateway.settings_routing import RoutingSection
from policies.values import Mode, Objective

HOURS_A_DAY, DAYS_A_WEEK = 24, 7
Weight = float


class ScenarioError(ValueError):
    """The file cannot be simulated; the text says where and why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Arrivals(_Part):
    """How many jobs a week, and how they spread over hours of the day and days of the week (relative weights)."""

    jobs_per_week: float = Field(gt=0, le=1_000_000)
    hours: tuple[Weight, ...] = (1.0,) * HOURS_A_DAY
    weekdays: tuple[Weight, ...] = (1.0,) * DAYS_A_WEEK

    @model_validator(mode="after")
    def _whole_day_and_week(self) -> Self:
        for name, wanted in (("hours", HOURS_A_DAY), ("weekdays", DAYS_A_WEEK)):
            weights = getattr(self, name)
            if len(weights) != wanted or min(weights) < 0 or sum(weights) <= 0:
                raise ValueError(f"{name} needs {wanted} weights of 0 or more, not all 0")
        return self

    def jobs_in_hour(self, hour: int) -> float:
        """The jobs expected in an hour, counted from Monday, midnight."""
        day = self.weekdays[hour // HOURS_A_DAY % DAYS_A_WEEK] / sum(self.weekdays)
        return self.jobs_per_week * day * self.hours[hour % HOURS_A_DAY] / sum(self.hours)


class Kind(_Part):
    """One kind of request. `size` multiplies every route's price and time; `routes` are those that can honour it."""

    name: str = Field(min_length=1, max_length=60)
    share: float = Field(gt=0)
    deadline_s: float = Field(default=900.0, gt=0, le=86_400)
    objective: Objective | None = None
    max_cost_usd: float | None = Field(default=None, gt=0)
    value_usd: float | None = Field(default=None, gt=0)
    size: float = Field(default=1.0, gt=0, le=100)
    routes: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    moderated: float = Field(default=0.0, ge=0, le=1)


class Latency(_Part):
    """Time to the finished video: log-normal around a median; `tail` of them take `tail_factor` times as long."""

    median_s: float = Field(gt=0, le=86_400)
    sigma: float = Field(default=0.25, ge=0, le=3)
    tail: float = Field(default=0.0, ge=0, le=1)
    tail_factor: float = Field(default=3.0, ge=1, le=100)


class Failures(_Part):
    """Accepted renders that fail: how many, how long until they do, and whether the vendor bills them."""

    rate: float = Field(default=0.0, ge=0, le=1)
    delay_s: float = Field(default=10.0, ge=0, le=86_400)
    billed: bool = False


class SimulatedRoute(_Part):
    """One route. `concurrency_max` is what the vendor runs at a time and refuses beyond; a local route has `slots`."""

    price_usd: float = Field(ge=0, le=1_000)
    latency: Latency
    mode: Mode = "async"
    failures: Failures = Failures()
    published_latency_s: float | None = Field(default=None, gt=0)
    concurrency_max: int | None = Field(default=None, ge=1)
    slots: int | None = Field(default=None, ge=1)


class Outage(_Part):
    """Hours in which every call to a provider fails."""

    from_h: float = Field(ge=0)
    hours: float = Field(gt=0)


class TopUp(_Part):
    """Credit that is bought when the balance falls under a mark."""

    below_usd: float = Field(gt=0)
    add_usd: float = Field(gt=0)


class SimulatedAccount(_Part):
    """One provider's account, not metered without `credit_usd`. `limits_known`: vidgate is told its limits."""

    credit_usd: float | None = Field(default=None, ge=0)
    top_up: TopUp | None = None
    requests_per_minute: int | None = Field(default=None, ge=1)
    retry_after_s: float = Field(default=10.0, ge=0, le=3_600)
    limits_known: bool = True
    outages: tuple[Outage, ...] = ()


class Scenario(_Part):
    """A stretch of time to simulate."""

    name: str = Field(min_length=1, max_length=120)
    days: int = Field(default=7, ge=1, le=92)
    arrivals: Arrivals
    requests: tuple[Kind, ...] = Field(min_length=1)
    routes: Mapping[str, SimulatedRoute] = Field(min_length=1)
    providers: Mapping[str, SimulatedAccount] = Field(default_factory=dict)
    routing: RoutingSection = RoutingSection()
    retry: RetrySection = RetrySection()
    attempts_max: int = Field(default=4, ge=1, le=20)
    give_up_s: float = Field(default=300.0, ge=0)

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        for route, law in self.routes.items():
            if "/" not in route:
                raise ValueError(f"routes: {route!r} must be named provider/slug")
            if (law.mode == "local") != (law.slots is not None):
                raise ValueError(f"routes: {route}: `slots` belongs to mode: local, and is needed there")
        providers = {route.partition("/")[0] for route in self.routes}
        strangers = sorted(set(self.providers) - providers)
        if strangers:
            raise ValueError(f"providers: {strangers[0]!r} has no route")
        for kind in self.requests:
            unknown = sorted(set(kind.routes) - set(self.routes))
            if unknown:
                raise ValueError(f"requests: {kind.name}: there is no route {unknown[0]!r}")
        return self


def read_scenario(text: str, source: str) -> Scenario:
    """Read and check a scenario. Raises ScenarioError naming the place of the first fault."""
    try:
        return Scenario.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ScenarioError(f"{source} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ScenarioError(f"{source}: {where + ': ' if where else ''}{first['msg']}") from error


def load_scenario(file: Path) -> Scenario:
    """Read a scenario file. Raises ScenarioError."""
    try:
        return read_scenario(file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise ScenarioError(f"{file} cannot be read: {error.strerror}") from error
