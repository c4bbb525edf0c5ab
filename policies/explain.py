"""Turns assessments into quotes and refusals with sentences that a person understands."""

from __future__ import annotations

from policies.plans import Assessment
from policies.ranking import expected_money
from policies.screening import Screened, dollars
from policies.values import JobFacts, Refusal, RouteQuote


def quote(job: JobFacts, one: Assessment, score: float, now: float) -> RouteQuote:
    """What one option promises, in numbers and in words."""
    option, law = one.option, one.option.law
    wait_s = option.delay_s + option.wait_s
    p50_s, p95_s = wait_s + law.p50_s, wait_s + law.p95_s
    left_s = job.deadline_at - now
    sentence = (
        f"{dollars(option.price_micros)}, p50 {p50_s:.0f} s, p95 {p95_s:.0f} s, "
        f"{100.0 * one.on_time:.1f} % on time before the deadline in {left_s:.0f} s"
    )
    return RouteQuote(
        route=option.route,
        price_micros=option.price_micros,
        expected_cost_micros=round(expected_money(one)),
        p50_s=p50_s,
        p95_s=p95_s,
        probability_on_time=one.on_time,
        probability_success=option.success,
        score=score,
        reasons=(sentence, *circumstances(one, wait_s)),
        recheck_after_s=one.recheck_s,
        timeout_s=max(20.0, job.give_up_at - now),
    )


def circumstances(one: Assessment, wait_s: float) -> list[str]:
    """What is unusual about an option just now."""
    option, unusual = one.option, []
    if wait_s >= 0.5:
        unusual.append(f"waits {wait_s:.0f} s for its turn")
    if option.price > option.price_micros:
        unusual.append(f"the account's credit is running out: counted as {dollars(option.price)}")
    if option.probe:
        unusual.append("a probe: the route failed lately")
    return unusual


def refusal(one: Screened, running: frozenset[str]) -> Refusal:
    """Why one route may not be used now."""
    route = one.candidate.route
    beside = ("an attempt of this job is running there",) if route in running else ()
    return Refusal(route, (*beside, *one.reasons))
