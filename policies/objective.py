"""What a choice costs in expectation: money, lateness, and what can still be done later.

All offsets are seconds from the moment of the decision. Expected amounts are real numbers in micro-USD: they rank
choices and are never booked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, exp, inf, log
from typing import Protocol

from policies.estimates import SQRT_HALF, FailureShape, LatencyLaw


@dataclass(frozen=True, slots=True)
class Stakes:
    """What a job loses when it is late: nothing by the deadline, all of `value` at the give-up time."""

    deadline_s: float
    give_up_s: float
    value: float
    late_fraction: float

    def loss(self, at_s: float) -> float:
        """The loss when the video arrives at `at_s`."""
        if at_s <= self.deadline_s:
            return 0.0
        if at_s >= self.give_up_s:
            return self.value
        lateness = (at_s - self.deadline_s) / (self.give_up_s - self.deadline_s)
        return self.value * (self.late_fraction + (1.0 - self.late_fraction) * lateness)

    def expected_loss(self, law: LatencyLaw, start_s: float) -> float:
        """The mean loss of a render that starts at `start_s` and follows `law`."""
        return self.outlook(law, start_s)[1]

    def outlook(self, law: LatencyLaw, start_s: float) -> tuple[float, float]:
        """The chance to be in time of a render that starts at `start_s` and follows `law`, and its mean loss."""
        until_deadline, until_give_up = self.deadline_s - start_s, self.give_up_s - start_s
        if until_give_up <= 0.0:
            return 0.0, self.value
        mu, sigma, share = law.mu, law.sigma, law.tail_share
        z_deadline = (log(until_deadline) - mu) / sigma if until_deadline > 0.0 else -9.0
        by_deadline = 0.5 + 0.5 * erf(z_deadline * SQRT_HALF)
        if until_deadline >= law.tail_s:
            on_time, tail = (1.0 - share) * by_deadline + share, 0.0
        else:
            on_time, tail = (1.0 - share) * by_deadline, share * self.loss(start_s + law.tail_s)
        if z_deadline > 4.0:
            return on_time, tail
        z_give_up = (log(until_give_up) - mu) / sigma
        by_give_up = 0.5 + 0.5 * erf(z_give_up * SQRT_HALF)
        late, window_s = by_give_up - by_deadline, self.give_up_s - self.deadline_s
        body = 1.0 - by_give_up + self.late_fraction * late
        if late > 0.0 and window_s > 0.0:
            mean_s = exp(mu + 0.5 * sigma * sigma)
            partial_s = mean_s * 0.5 * (erf((z_give_up - sigma) * SQRT_HALF) - erf((z_deadline - sigma) * SQRT_HALF))
            body += (1.0 - self.late_fraction) * (partial_s - until_deadline * late) / window_s
        return on_time, (1.0 - share) * self.value * body + tail


@dataclass(slots=True)  # not frozen, as one is made for every route of every decision; nobody changes it
class Option:
    """One route that may be used after `delay_s`: what it takes, how sure it is, what a failure costs.

    `wait_s` is the time in the route's own queue. `price_micros` is what is billed, `price` what it counts for: more
    while the account's credit is scarce.
    """

    route: str
    price_micros: int
    price: float
    delay_s: float
    wait_s: float
    law: LatencyLaw
    success: float
    failure: FailureShape
    failure_cost: float
    probe: bool = False


@dataclass(frozen=True, slots=True)
class ValueCurve:
    """The least expected cost of a job that has nothing in flight, as a function of when it starts afresh."""

    offsets_s: tuple[float, ...]
    costs: tuple[float, ...]
    prices: tuple[float, ...]

    def cost_at(self, offset_s: float) -> float:
        """The least expected cost from `offset_s` on, linear between the points."""
        return interpolate(self.offsets_s, self.costs, offset_s)

    def level_until_s(self, rise: float) -> float:
        """The offset up to which starting afresh costs at most `rise` more than it does now."""
        limit = self.costs[0] + rise
        previous_s, previous = 0.0, self.costs[0]
        for offset_s, cost in zip(self.offsets_s, self.costs, strict=True):
            if cost > limit:
                return previous_s + (offset_s - previous_s) * (limit - previous) / (cost - previous)
            previous_s, previous = offset_s, cost
        return previous_s


def interpolate(offsets_s: Sequence[float], costs: Sequence[float], offset_s: float) -> float:
    """The cost at `offset_s`: linear between points, level outside them."""
    index = bisect_right(offsets_s, offset_s)
    if index == 0:
        return costs[0]
    if index == len(offsets_s):
        return costs[-1]
    low_s, high_s = offsets_s[index - 1], offsets_s[index]
    return costs[index - 1] + (costs[index] - costs[index - 1]) * (offset_s - low_s) / (high_s - low_s)


def retry_cost(option: Option, start_s: float, curve: ValueCurve) -> float:
    """The expected cost of going on by `curve` after `option`, started at `start_s`, has failed."""
    shape = option.failure
    offsets_s, costs = curve.offsets_s, curve.costs
    soon = interpolate(offsets_s, costs, start_s + shape.fast_s)
    late = interpolate(offsets_s, costs, start_s + shape.slow_s)
    return option.failure_cost + soon + shape.slow_share * (late - soon)


def curve_offsets(stakes: Stakes, options: Sequence[Option]) -> list[float]:
    """The points of a value curve: dense where some route stops being safe, sparse elsewhere."""
    deadline_s, give_up_s = max(stakes.deadline_s, 0.0), stakes.give_up_s
    points = {0.0, 0.5 * deadline_s, deadline_s, 0.5 * (deadline_s + give_up_s)}
    for option in options:
        points.update(deadline_s - option.law.quantile_s(z) for z in (2.0, 0.8))
    ordered = sorted(point for point in points if 0.0 <= point < give_up_s)
    kept, spacing_s = [0.0], max(1.0, 0.02 * give_up_s)
    for point in ordered:
        if point - kept[-1] >= spacing_s:
            kept.append(point)
    return [*kept, give_up_s]


def value_curve(stakes: Stakes, options: Sequence[Option]) -> ValueCurve:
    """Work back from the give-up time: at each point take the best route, or give the whole value up."""
    offsets = curve_offsets(stakes, options)
    costs, prices = [stakes.value] * len(offsets), [0.0] * len(offsets)
    by_price = sorted(options, key=lambda option: option.price)
    # The least that an option costs at a point is `paid` plus what follows a failure there: most stop at this look.
    looks = [
        (o, o.success * o.price + (1.0 - o.success) * o.failure_cost, 1.0 - o.success, o.delay_s, o.failure)
        for o in by_price
    ]
    outlook = stakes.outlook
    for i in range(len(offsets) - 2, -1, -1):
        later = costs[i] = costs[i + 1]  # until this point is known, no less can be said of it than of the next
        offset_s, next_s, best, price = offsets[i], offsets[i + 1], stakes.value, 0.0
        for option, paid, failed, delay_s, shape in looks:
            if paid + failed * later >= best:
                continue
            start_s = delay_s if delay_s > offset_s else offset_s
            soon_s, late_s = start_s + shape.fast_s, start_s + shape.slow_s
            soon = later if soon_s <= next_s else interpolate(offsets, costs, soon_s)
            late = later if late_s <= next_s else interpolate(offsets, costs, late_s)
            again = soon + shape.slow_share * (late - soon)
            cost = paid + option.success * outlook(option.law, start_s)[1] + failed * again
            if cost < best:
                best, price = cost, option.price
        costs[i], prices[i] = best, price
    return ValueCurve(tuple(offsets), tuple(costs), tuple(prices))


class Finish(Protocol):
    """When something in flight will finish, as a chance."""

    def chance_within(self, seconds: float) -> float:
        """The chance that it has finished `seconds` from now."""
        ...


@dataclass(frozen=True, slots=True)
class Flight:
    """One attempt of age `age_s`: its law given that it has not finished, and the odds that it never will."""

    law: LatencyLaw
    age_s: float
    dead: float

    def chance_within(self, seconds: float) -> float:
        """The chance that it finishes within `seconds` from now."""
        if self.age_s <= 0.0:
            return (1.0 - self.dead) * self.law.chance_within(seconds) if seconds > 0.0 else 0.0
        before = self.law.chance_within(self.age_s)
        left = max(1.0 - before, 1e-6)
        alive = left * (1.0 - self.dead)
        return alive / (alive + self.dead) * (self.law.chance_within(self.age_s + seconds) - before) / left


@dataclass(frozen=True, slots=True)
class Flights:
    """Several attempts of one job: the first to finish counts."""

    flights: tuple[Flight, ...]

    def chance_within(self, seconds: float) -> float:
        """The chance that at least one finishes within `seconds`."""
        none = 1.0
        for flight in self.flights:
            none *= 1.0 - flight.chance_within(seconds)
        return 1.0 - none


@dataclass(frozen=True, slots=True)
class Backup:
    """A second attempt, weighed: the cost of starting it at once, and of the best later time (None: never)."""

    cost_now: float
    cost_later: float
    later_s: float | None

    @property
    def cost(self) -> float:
        """The better of the two."""
        return min(self.cost_now, self.cost_later)


def best_backup(stakes: Stakes, flight: Finish, curve: ValueCurve) -> Backup:
    """Weigh a second attempt at each point of the curve against never.

    A second attempt at t is paid with the chance that the first is still out then, and the first may still arrive in
    time beside it.
    """
    chance_within, deadline_s = flight.chance_within, stakes.deadline_s
    by_deadline = chance_within(deadline_s)
    late_loss, reached, previous_s = 0.0, 0.0, 0.0
    now, later, later_s = inf, inf, 0.0
    for offset_s, cost, price in zip(curve.offsets_s, curve.costs, curve.prices, strict=True):
        before, reached = reached, chance_within(offset_s)
        if offset_s > deadline_s:
            middle_s = 0.5 * (max(previous_s, deadline_s) + offset_s)
            late_loss += max(0.0, reached - max(before, by_deadline)) * stakes.loss(middle_s)
            if late_loss > later:  # it only grows: nothing later, and not never, can be better
                break
        out, beside = 1.0 - reached, by_deadline - reached
        total = late_loss + out * price
        if cost > price:
            total += (out - beside if beside > 0.0 else out) * (cost - price)
        if offset_s <= 0.0:
            now = total
        elif total < later:
            later, later_s = total, offset_s
        previous_s = offset_s
    never = late_loss + (1.0 - reached) * stakes.value
    return Backup(now, later, later_s) if later < never else Backup(now, never, None)
