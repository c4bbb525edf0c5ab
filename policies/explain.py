"""Turns assessments into quotes and refusals with sentences that a person understands."""

from __future__ import annotations

from policies.plans import Assessment
from policies.ranking import expected_money
from policies.screening import Screened
from policies.values import JobFacts, Refusal, RouteQuote


def quote(job: JobFacts, one: Assessment, score: float, now: float) -> RouteQuote:
    """What one option promises, in numbers and in words."""
    option, law = one.option, one.option.law
    wait_s = option.delay_s + option.wait_s
    p50_s, p95_s = wait_s + law.p50_s, wait_s + law.p95_s
    left_s = job.deadline_at - now
    sentence = (
        f"${option.price / 1e6:.4f}, p50 {p50_s:.0f} s, p95 {p95_s:.0f} s, "
        f"{100.0 * one.on_time:.1f} % on time before the deadline in {left_s:.0f} s"
    )
    return RouteQuote(
        route=option.route,
        price_micros=round(option.price),
        expected_cost_micros=round(expected_money(one)),
        p50_s=p50_s,
        p95_s=p95_s,
        probability_on_time=one.on_time,
        probability_success=option.success,
        score=score,
        reasons=(sentence,) if wait_s < 0.5 else (sentence, f"waits {wait_s:.0f} s for its turn"),
        recheck_after_s=one.recheck_s,
        timeout_s=max(20.0, job.give_up_at - now),
    )


def refusal(one: Screened) -> Refusal:
    """Why one route may not be used now."""
    return Refusal(one.candidate.route, one.reasons)
