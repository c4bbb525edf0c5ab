"""The four objectives: how the assessed options of one job are put in order."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from policies.plans import Assessment
from policies.values import JobFacts

by_score = itemgetter(0)


def names(route: str, wanted: str) -> bool:
    """Whether `wanted`, a route or a whole provider, means this route."""
    return wanted == route or route.startswith(wanted + "/")


def expected_money(one: Assessment) -> float:
    """The money one finished video takes on this route, retries on it included, in micro-USD."""
    option = one.option
    return option.price_micros + (1.0 - option.success) / option.success * option.failure_cost


def expected_time_s(one: Assessment) -> float:
    """The time to a finished video, counting failures that show late and start again."""
    option = one.option
    retries = (1.0 - option.success) / option.success
    return option.delay_s + option.wait_s + option.law.mean_s + retries * option.failure.mean_s


def scores(job: JobFacts, assessed: Sequence[Assessment]) -> list[float]:
    """The score of each option under the job's objective; lower is better."""
    if job.objective == "cheapest":
        return [expected_money(one) for one in assessed]
    if job.objective == "fastest":
        return [expected_time_s(one) for one in assessed]
    if job.objective == "balanced":
        least_money = max(1.0, min((expected_money(one) for one in assessed), default=1.0))
        least_time_s = min((expected_time_s(one) for one in assessed), default=1.0)
        weights = job.weights
        return [
            weights.cost * expected_money(one) / least_money
            + weights.time * expected_time_s(one) / least_time_s
            + weights.failure * (1.0 - one.on_time)
            for one in assessed
        ]
    return [one.cost for one in assessed]


def order_by_objective(job: JobFacts, assessed: Sequence[Assessment]) -> list[tuple[float, Assessment]]:
    """Best first: the caller's own order, then those sure enough to be on time, then the score."""

    def key(pair: tuple[float, Assessment]) -> tuple[int, bool, float]:
        score, one = pair
        wish = (
            0
            if not job.order
            else next((i for i, wanted in enumerate(job.order) if names(one.option.route, wanted)), len(job.order))
        )
        unsure = job.objective == "default" and one.on_time < job.deadline_probability
        return (wish, unsure, score)

    pairs = sorted(zip(scores(job, assessed), assessed, strict=True), key=by_score)
    if job.order or job.objective != "default":
        return sorted(pairs, key=key)
    enough = job.deadline_probability  # most decisions need no more than this
    return [pair for pair in pairs if pair[1].on_time >= enough] + [pair for pair in pairs if pair[1].on_time < enough]
