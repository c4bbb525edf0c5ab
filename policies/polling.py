"""When to ask a submit-and-poll vendor whether a render is done.

Polls are placed where completions are likely: with hazard h(t) of finishing at age t, a poll that costs c seconds of
lag is worth sending at the rate sqrt(h(t) / 2c) (the inspection schedules of Barlow, Hunter and Proschan, 1963). The
hazard is learned from finished renders of the same route and size class, relative to the vendor's own estimate where
it gives one. Exponential backoff does the opposite: it is sparsest when completions are densest.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from policies.estimates import normal_cdf
from policies.settings import RoutingSettings
from policies.values import Observation

ENDINGS = frozenset({"succeeded", "failed", "abandoned", "canceled"})


@dataclass(frozen=True, slots=True)
class Law:
    """Chances to be unfinished at ages `ages` (multiples of a reference time), from kernels on log ages."""

    ages: tuple[float, ...]
    unfinished: tuple[float, ...]


def learned_law(log_ages: Sequence[float], prior_log_age: float, settings: RoutingSettings) -> Law:
    """Smooth the newest log ages, newest last; with few of them, lean on the prior."""
    count = len(log_ages)
    samples = list(log_ages) or [prior_log_age]
    weights = [settings.poll_memory ** (len(samples) - 1 - i) for i in range(len(samples))]
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, samples, strict=True)) / total
    variance = sum(w * (x - mean) ** 2 for w, x in zip(weights, samples, strict=True)) / total
    sigma = max(0.05, math.sqrt(variance)) if count >= 3 else settings.poll_prior_sigma
    width = max(0.04, 0.9 * sigma * len(samples) ** -0.2)
    few = max(0.0, 2.0 - 0.4 * count) if count < 5 else 0.0
    low, high = min(samples) - 4.0 * max(width, 0.1), max(samples) + 1.6
    steps = settings.poll_grid
    grid = [low + (high - low) * i / (steps - 1) for i in range(steps)]
    kernels = list(zip(weights, samples, strict=True))
    done = []
    for point in grid:
        by_now = sum(w * normal_cdf((point - x) / width) for w, x in kernels)
        by_prior = normal_cdf((point - prior_log_age) / settings.poll_prior_sigma) if few else 0.0
        done.append((by_now + few * by_prior) / (total + few))
    median = math.exp(grid[min(bisect_right(done, 0.5), steps - 1)])
    ages = tuple(math.exp(point) for point in grid)
    straggling = settings.poll_straggler_share
    unfinished = tuple(
        (1.0 - straggling) * (1.0 - d) + straggling * math.exp(-max(0.0, age / median - 1.0) / 1.5)
        for age, d in zip(ages, done, strict=True)
    )
    return Law(ages, unfinished)


def schedule(law: Law, reference_s: float, settings: RoutingSettings) -> tuple[float, ...]:
    """Poll ages in seconds: one more poll each time the integral of sqrt(hazard / 2c) has grown by one."""
    polls: list[float] = []
    level, wanted = 0.0, settings.poll_first_level
    previous_s, previous_hazard = 0.0, 0.0
    for age, unfinished in zip(law.ages, law.unfinished, strict=True):
        age_s, hazard = age * reference_s, -math.log(max(unfinished, 1e-6))
        step = math.sqrt(max(0.0, hazard - previous_hazard) * (age_s - previous_s) / (2.0 * settings.poll_cost_s))
        while step > 0.0 and level + step >= wanted:
            poll_s = previous_s + (age_s - previous_s) * (wanted - level) / step
            if poll_s >= settings.poll_gap_min_s and (not polls or poll_s - polls[-1] >= settings.poll_gap_min_s):
                polls.append(poll_s)
            wanted += 1.0
        level += step
        previous_s, previous_hazard = age_s, hazard
    return tuple(polls)


class RoutePolls:
    """The learned schedule of one route and size class, with or without a vendor's estimate as its reference."""

    __slots__ = ("_law", "_log_ages", "_prior_log_age", "_schedule", "_schedule_for", "_settings")

    def __init__(self, settings: RoutingSettings, prior_log_age: float) -> None:
        self._settings = settings
        self._prior_log_age = prior_log_age
        self._log_ages: deque[float] = deque(maxlen=settings.poll_window)
        self._law: Law | None = None
        self._schedule: tuple[float, ...] = ()
        self._schedule_for = -1.0

    def times_s(self, reference_s: float) -> tuple[float, ...]:
        """The poll ages for a render with this reference time."""
        if self._law is None:
            self._law = learned_law(self._log_ages, self._prior_log_age, self._settings)
            self._schedule_for = -1.0
        if self._schedule_for != reference_s:
            self._schedule = schedule(self._law, reference_s, self._settings)
            self._schedule_for = reference_s
        return self._schedule

    def next_delay_s(self, elapsed_s: float, reference_s: float) -> float:
        """Seconds until the next poll of a render of age `elapsed_s`."""
        settings, times_s = self._settings, self.times_s(reference_s)
        index = bisect_right(times_s, elapsed_s + 1e-9)
        if index == len(times_s):
            return min(settings.poll_gap_max_s, max(2.0, 0.25 * elapsed_s))
        delay_s = max(settings.poll_gap_min_s, times_s[index] - elapsed_s)
        return delay_s if index == 0 else min(settings.poll_gap_max_s, delay_s)

    def learn(self, seen_s: float, reference_s: float) -> None:
        """Take in a render seen finished at age `seen_s`: it finished somewhere since the poll before."""
        times_s = self.times_s(reference_s)
        index = bisect_right(times_s, seen_s - 0.25)
        before_s = times_s[index - 1] if index else 0.0
        self._log_ages.append(math.log(max(0.3, 0.5 * (before_s + seen_s)) / reference_s))
        self._law = None


class PollSchedules:
    """Poll schedules for every route and size class, fed by observations alone."""

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._routes: dict[tuple[str, str, bool], RoutePolls] = {}
        self._etas: dict[str, float] = {}

    def observe(self, observation: Observation) -> None:
        """Take in one fact; finished renders and vendors' estimates matter here."""
        if observation.kind in {"accepted", "eta"} and observation.eta_s is not None:
            self._etas.setdefault(observation.attempt, observation.elapsed_s + observation.eta_s)
        elif observation.kind in ENDINGS:
            eta_s = self._etas.pop(observation.attempt, None)
            if observation.kind == "succeeded" and observation.elapsed_s > 0.0:
                polls = self._polls(observation.route, observation.size_class, eta_s, observation.elapsed_s)
                polls.learn(observation.elapsed_s, eta_s or 1.0)

    def next_delay_s(
        self, route: str, size_class: str, *, elapsed_s: float, eta_s: float | None, nominal_latency_s: float
    ) -> float:
        """Seconds until the next poll; `eta_s` is the vendor's estimate of the whole time since dispatch."""
        usable_eta_s = eta_s if eta_s is not None and eta_s > 0.0 else None
        polls = self._polls(route, size_class, usable_eta_s, nominal_latency_s)
        return polls.next_delay_s(elapsed_s, usable_eta_s or 1.0)

    def _polls(self, route: str, size_class: str, eta_s: float | None, nominal_s: float) -> RoutePolls:
        key = (route, size_class, eta_s is not None)
        polls = self._routes.get(key)
        if polls is None:
            prior_log_age = 0.0 if eta_s is not None else math.log(max(nominal_s, 0.5))
            polls = self._routes[key] = RoutePolls(self._settings, prior_log_age)
        return polls
