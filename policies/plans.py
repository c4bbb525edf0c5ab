"""What each option costs a job in expectation when it is played as well as possible afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from operator import attrgetter

from policies.estimates import normal_cdf
from policies.objective import Flight, Option, Stakes, ValueCurve, best_backup, retry_cost, value_curve
from policies.settings import RoutingSettings

LATE_LOSS_WORTH_A_BACKUP = 0.02  # of the price: below this a second attempt is not weighed
by_cost, by_price = attrgetter("cost"), attrgetter("price")


@dataclass(slots=True)
class Assessment:
    """One option with its expected cost, its chance to be on time, and when to look again.

    `leave_s` is set for a job that has to wait for a local slot: how long waiting pays. `paid` is the part of the cost
    that is money and retries, `loss` what a success without a second attempt loses by being late.
    """

    option: Option
    cost: float
    on_time: float
    recheck_s: float
    leave_s: float | None = None
    paid: float = 0.0
    loss: float = 0.0


def shortlist(stakes: Stakes, options: Sequence[Option], size: int) -> list[Option]:
    """The few options that matter for what can be done later: no other is both cheaper and sooner."""
    if len(options) <= size:
        return list(options)
    kept: list[Option] = []
    soonest = inf
    for option in sorted(options, key=lambda one: (one.price / one.success, one.law.mu)):
        latest = option.delay_s + option.law.quantile_s(1.3) + (1.0 - option.success) * stakes.deadline_s
        if latest < soonest:
            kept.append(option)
            soonest = latest
    return [*kept[: size - 1], kept[-1]] if len(kept) > size else kept


def later_curve(stakes: Stakes, remote: Sequence[Option], settings: RoutingSettings) -> ValueCurve:
    """The value curve over the routes that need no local slot."""
    return value_curve(stakes, shortlist(stakes, remote, settings.shortlist))


def assess_all(
    stakes: Stakes, options: Sequence[Option], curve: ValueCurve, settings: RoutingSettings
) -> list[Assessment]:
    """Assess options that need no local slot; one that cannot beat the best is not searched for a second attempt."""
    cheapest_first = sorted(options, key=by_price)  # of equals the cheaper goes first
    best, assessed = inf, [assess_alone(stakes, option, curve) for option in cheapest_first]
    for one in sorted(assessed, key=by_cost):
        if one.paid < best:
            weigh_backup(one, stakes, curve, settings)
            best = min(best, one.cost)
    return assessed


def assess(stakes: Stakes, option: Option, curve: ValueCurve, settings: RoutingSettings) -> Assessment:
    """Assess an option that starts after its delay, with the best second attempt beside it."""
    one = assess_alone(stakes, option, curve)
    weigh_backup(one, stakes, curve, settings)
    return one


def assess_alone(stakes: Stakes, option: Option, curve: ValueCurve) -> Assessment:
    """Assess an option that starts after its delay and is left alone until it succeeds or fails."""
    start_s, success, law = option.delay_s, option.success, option.law
    chance, loss = stakes.outlook(law, start_s)
    paid = success * option.price + (1.0 - success) * retry_cost(option, start_s, curve)
    cost, recheck_s = paid + success * loss, exp(law.mu + 2.2 * law.sigma)
    if cost > stakes.value:
        cost = stakes.value
    return Assessment(option, cost, success * chance, recheck_s if recheck_s > 1.0 else 1.0, None, paid, loss)


def weigh_backup(one: Assessment, stakes: Stakes, curve: ValueCurve, settings: RoutingSettings) -> None:
    """Lower the cost of an option that starts at once by a second attempt at the best later time, if that pays."""
    option = one.option
    if option.delay_s > settings.start_slack_s or one.loss <= LATE_LOSS_WORTH_A_BACKUP * option.price:
        return
    dead = settings.stuck_share + (1.0 - option.success) * option.failure.slow_share
    backup = best_backup(stakes, Flight(option.law, 0.0, dead), curve)
    if backup.later_s is not None:
        one.recheck_s = max(1.0, min(one.recheck_s, backup.later_s))
    one.cost = min(one.paid + option.success * min(one.loss, backup.cost_later), stakes.value)


def assess_queued(
    stakes: Stakes, option: Option, rent: float, curve: ValueCurve, settings: RoutingSettings
) -> Assessment:
    """Assess waiting `wait_s` for a local slot, leaving for the best other route at the best moment if none comes.

    `rent` is what the slot is worth to others; a job that leaves without it does not owe it.
    """
    wait_s = max(option.wait_s, option.delay_s)
    spread_s = settings.wait_sigma_share * wait_s + 0.5
    best, leave_s = inf, 0.0
    for offset_s in curve.offsets_s:
        started = normal_cdf((offset_s - wait_s) / spread_s)
        stay = option.price + rent + stakes.expected_loss(option.law, min(wait_s, offset_s))
        cost = started * stay + (1.0 - started) * curve.cost_at(offset_s)
        if cost < best:
            best, leave_s = cost, offset_s
    again = retry_cost(option, wait_s, curve)
    cost = option.success * best + (1.0 - option.success) * again
    on_time = option.success * option.law.chance_within(stakes.deadline_s - wait_s)
    return Assessment(option, min(cost, stakes.value), on_time, max(1.0, leave_s), leave_s)
