"""Turns assessments into quotes and refusals with sentences that a person understands."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from policies.estimates import Z_95
from policies.plans import Assessment
from policies.ranking import expected_money
from policies.screening import Screened
from policies.values import JobFacts, Reasons, Refusal, RouteQuote

TIMEOUT_MIN_S = 20.0


def quotes(job: JobFacts, ordered: Sequence[tuple[float, Assessment]], now: float) -> tuple[RouteQuote, ...]:
    """What each option promises, in numbers; its words are found when they are read."""
    left_s, timeout_s = job.deadline_at - now, max(TIMEOUT_MIN_S, job.give_up_at - now)
    quoted = []
    for score, one in ordered:
        option, law = one.option, one.option.law
        wait_s, mu = option.delay_s + option.wait_s, law.mu
        quoted.append(
            RouteQuote(
                option.route,
                option.price_micros,
                round(expected_money(one)),
                wait_s + exp(mu),
                wait_s + exp(mu + Z_95 * law.sigma),
                one.on_time,
                option.success,
                score,
                Reasons(sentences, one, left_s),
                one.recheck_s,
                timeout_s,
            )
        )
    return tuple(quoted)


def sentences(one: Assessment, left_s: float) -> tuple[str, ...]:
    """What one option promises, in words, `left_s` seconds before the deadline. No amounts: teams read this."""
    option, law = one.option, one.option.law
    wait_s = option.delay_s + option.wait_s
    promise = (
        f"p50 {wait_s + law.p50_s:.0f} s, p95 {wait_s + law.p95_s:.0f} s, "
        f"{100.0 * one.on_time:.1f} % on time before the deadline in {left_s:.0f} s"
    )
    return (promise, *circumstances(one, wait_s))


def circumstances(one: Assessment, wait_s: float) -> list[str]:
    """What is unusual about an option just now."""
    option, unusual = one.option, []
    if wait_s >= 0.5:
        unusual.append(f"waits {wait_s:.0f} s for its turn")
    if option.price > option.price_micros:
        dearer = 100.0 * (option.price / option.price_micros - 1.0)
        unusual.append(f"the account's credit is running out: counted as {dearer:.0f} % dearer")
    if option.probe:
        unusual.append("a probe: the route failed lately")
    return unusual


def refusal(one: Screened, running: frozenset[str]) -> Refusal:
    """Why one route may not be used now."""
    route = one.candidate.route
    beside = ("an attempt of this job is running there",) if route in running else ()
    return Refusal(route, (*beside, *one.reasons))


def waiting(ordered: Sequence[tuple[float, Assessment]], screened: Sequence[Screened]) -> tuple[str, float | None]:
    """Why nothing is dispatched now, in words, and in how many seconds that should be over; None when nobody knows."""
    if not ordered:
        passing = next((one for one in screened if one.passing and one.reasons), None)
        return ("", None) if passing is None else (f"{passing.candidate.route}: {passing.reasons[0]}", None)
    best = ordered[0][1].option
    held_up = next((one.reasons for one in screened if one.candidate.route == best.route and one.reasons), None)
    if held_up is not None:
        return f"{best.route}: {held_up[0]}", best.delay_s + best.wait_s
    if best.delay_s + best.wait_s > 0.0:
        return f"{best.route}: all of its slots are taken", best.delay_s + best.wait_s
    return f"{best.route}: jobs that gain more by it go first, or nothing is worth its price now", None
