"""Admission: idempotency claim, budget check, hold and job row, in one transaction.

Either the caller is told of a job that is durable and paid for, or nothing at all is left behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from gateway import quotas
from gateway.events import soft_limits_crossed
from gateway.money import idempotency, ledger
from gateway.money.amounts import MICROS_PER_USD, usd_text
from gateway.money.budgets import UnknownTeamError, budget_states
from gateway.money.idempotency import Fresh, InProgress, Mismatch, Replay
from gateway.problems import BudgetExceeded, IdempotencyMismatch, RequestInProgress, Unauthorized
from gateway.quotas import NO_LIMITS, CallerLimits, Remaining
from gateway.store import jobs as rows
from gateway.store.jobs import Job
from gateway.wishes import USD_MAX


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's Idempotency-Key with the fingerprint of the request it came with."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told: fresh from here, or stored from the first time (`replayed`).

    `standings` is what is left of its limits on jobs, which is never stored.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    replayed: bool = False
    standings: Sequence[Remaining] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """A route that the job's hold is for: what it would cost the team, and at worst."""

    route: str
    price_micros: int
    worst_micros: int


@dataclass(frozen=True, slots=True)
class Admission:
    """A job to be admitted, under which limits, and the answer that says so, made from the job.

    `offers` are told where the budget does not cover the hold: some of them may fit.
    """

    job: Job
    hold_expires_at: float
    key: IdempotencyKey | None
    answer: Callable[[Job], Answer]
    limits: CallerLimits = NO_LIMITS
    offers: Sequence[Offer] = ()


def replay(connection: Connection, team_id: str, key: IdempotencyKey, at: float) -> Answer | None:
    """The stored answer of an earlier request with this key, without claiming it; None when the key is free.

    Raises IdempotencyMismatch and RequestInProgress as admission does.
    """
    found = idempotency.peek(connection, team_id, key.key, key.fingerprint, at)
    return _said_before(found)


def admit(connection: Connection, admission: Admission) -> Answer:
    """Admit a job, or replay the answer of the request that had this Idempotency-Key first.

    Raises IdempotencyMismatch, RequestInProgress, QuotaExceeded, Forbidden and Unauthorized, when the team was deleted
    since its key was looked up; a refused budget is an answer, because it is kept for replay.
    """
    try:
        return _admit(connection, admission)
    except UnknownTeamError:
        raise Unauthorized(f"team {admission.job.team_id} was deleted a moment ago") from None


def _admit(connection: Connection, admission: Admission) -> Answer:
    job, key = admission.job, admission.key
    quotas.claim_team(connection, job, admission.limits)
    expected = admission.answer(job)
    if key is not None:
        claim = idempotency.claim(connection, job.team_id, key.key, key.fingerprint, job.created_at, _kept(expected))
        before = _said_before(claim)
        if before is not None:
            return before
    standings = quotas.draw_job(connection, job, admission.limits)
    hold = ledger.HoldRequest(
        hold_id=job.hold_id,
        job_id=job.id,
        team_id=job.team_id,
        key_id=job.key_id,
        amount_micros=job.held_micros,
        at=job.created_at,
        expires_at=admission.hold_expires_at,
        tags=job.request["metadata"],
    )
    held = ledger.hold(connection, hold)
    if isinstance(held, ledger.BudgetRefusal):
        answer = _refusal(held, _way_out(admission, _left_micros(connection, job)))
    else:
        rows.insert_job(connection, job)
        soft_limits_crossed(connection, job, held.warnings if isinstance(held, ledger.Held) else ())
        answer = _warned(expected, held)
    if key is not None and answer is not expected:
        idempotency.restate(connection, job.team_id, key.key, _kept(answer))
    return replace(answer, standings=standings) if standings and answer.status == 202 else answer


def _kept(answer: Answer) -> Replay:
    """An answer as it is kept for its key."""
    return Replay(answer.status, answer.body, answer.headers)


def _warned(answer: Answer, held: ledger.Held | ledger.AlreadyHeld) -> Answer:
    """The answer with a header for every soft limit that the hold stands at or over."""
    warnings = held.warnings if isinstance(held, ledger.Held) else ()
    if not warnings:
        return answer
    told = ", ".join(
        f"{one.scope};window={one.window};soft={one.soft_micros};spent={one.spent_micros};held={one.held_micros}"
        for one in warnings
    )
    return replace(answer, headers={**answer.headers, "x-vidgate-budget-warning": told})


def _said_before(found: idempotency.Claim) -> Answer | None:
    match found:
        case Fresh():
            return None
        case Replay():
            return Answer(found.status, found.body, found.headers, replayed=True)
        case Mismatch():
            raise IdempotencyMismatch("this Idempotency-Key was used with another request; use a new key")
        case InProgress():
            raise RequestInProgress(
                "the first request with this key is still being answered", headers={"Retry-After": "1"}
            )


def _left_micros(connection: Connection, job: Job) -> int:
    """What the tightest of the budgets that apply to a job has left."""
    applying = [
        state
        for state in budget_states(connection, job.team_id, job.created_at)
        if state.budget.key_id in (None, job.key_id)
    ]
    return min(
        state.budget.limit_micros - state.spent_micros - state.held_micros
        for state in applying
        if state.budget.limit_micros is not None
    )


def _way_out(admission: Admission, left_micros: int) -> dict[str, Any] | None:
    """What to write under `routing` so that the hold fits into what is left; None where nothing would."""
    cheap = [offer for offer in admission.offers if offer.price_micros <= left_micros]
    if not cheap:
        return None
    only = [offer.route for offer in cheap if offer.worst_micros <= left_micros]
    return {"max_cost_usd": usd_text(min(left_micros, USD_MAX * MICROS_PER_USD))} | ({"only": only} if only else {})


def _refusal(refusal: ledger.BudgetRefusal, way_out: dict[str, Any] | None) -> Answer:
    left_micros = refusal.limit_micros - refusal.spent_micros - refusal.held_micros
    resets_at = refusal.resets_at
    problem = BudgetExceeded(
        f"this needs at most ${usd_text(refusal.needed_micros)} and the {refusal.scope}'s {refusal.window} budget of "
        f"${usd_text(refusal.limit_micros)} has ${usd_text(max(left_micros, 0))} left"
        + ("" if way_out is None else f'; it would fit with "routing": {{"max_cost_usd": {way_out["max_cost_usd"]}}}'),
        scope=refusal.scope,
        window=refusal.window,
        limit_micros=refusal.limit_micros,
        spent_micros=refusal.spent_micros,
        held_micros=refusal.held_micros,
        needed_micros=refusal.needed_micros,
        would_fit=way_out,
        resets_at=None
        if resets_at is None
        else datetime.fromtimestamp(resets_at, UTC).isoformat(timespec="milliseconds"),
    )
    body = json.dumps(problem.body()).encode()
    return Answer(problem.status, body, {"content-type": "application/problem+json"})
