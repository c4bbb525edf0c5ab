"""From a job's row back to what routing understands. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.jobs import AttemptState
from gateway.money.margin import TeamPlan
from gateway.planning import Order
from gateway.store.jobs import Attempt, Job
from gateway.wishes import RoutingWish, Standing
from policies import values
from policies.values import Observation, Tried
from providers.contract import FailureKind

# A failure in routing's words. A forbidden or retired model says nothing against other routes of its account.
ROUTING_KINDS: Mapping[str, values.FailureKind] = {
    FailureKind.FORBIDDEN: "unavailable",
    FailureKind.MODEL_GONE: "unavailable",
    FailureKind.NOT_AS_ORDERED: "bad_output",
    FailureKind.LOST: "timeout",
    FailureKind.INVALID_REQUEST: "invalid_request",
    FailureKind.MODERATED: "moderated",
    FailureKind.UNAUTHORIZED: "unauthorized",
    FailureKind.NO_CREDIT: "no_credit",
    FailureKind.RATE_LIMITED: "rate_limited",
    FailureKind.UNAVAILABLE: "unavailable",
    FailureKind.SERVER_ERROR: "server_error",
    FailureKind.RENDER_FAILED: "render_failed",
    FailureKind.BAD_OUTPUT: "bad_output",
    FailureKind.TIMEOUT: "timeout",
}


def order_of(job: Job) -> Order:
    """The order that a job's row stands for."""
    return Order(
        job_id=job.id,
        media=job.media,
        written=job.request["written"],
        mode=job.request["fit"],
        image_size=(job.input["width"], job.input["height"]),
        image_given=job.input["given"],
        routing=RoutingWish.model_validate(job.request["routing"]),
        team_plan=TeamPlan.model_validate(job.request["team_plan"]),
        created_at=job.created_at,
        deadline_at=job.deadline_at,
        give_up_at=job.give_up_at,
        standing=Standing.model_validate(job.request.get("standing") or {}),
    )


def routing_kind(kind: str) -> values.FailureKind:
    """A failure in routing's words."""
    return ROUTING_KINDS[kind]


def observations_of(attempt: Attempt) -> list[Observation]:
    """What the router would have been told of a finished attempt, had it been there: how it rebuilds what it knew."""
    assert attempt.finished_at is not None
    succeeded = attempt.state is AttemptState.SUCCEEDED
    if not succeeded and attempt.failure_kind not in ROUTING_KINDS:
        return []
    started = Observation(
        kind="dispatched",
        at=attempt.began_at,
        route=attempt.route,
        account=attempt.account,
        job=attempt.job_id,
        attempt=attempt.id,
        size_class=attempt.size_class,
        price_micros=attempt.price_micros,
    )
    ended = replace(
        started,
        kind="succeeded" if succeeded else "failed",
        at=attempt.finished_at,
        elapsed_s=attempt.finished_at - attempt.began_at,
        failure=None if succeeded else routing_kind(attempt.failure_kind or ""),
        billed_micros=attempt.cost_micros or 0,
    )
    return [started, ended]


def tried_of(attempts: Sequence[Attempt]) -> list[Tried]:
    """The attempts that failed, as routing sees them."""
    return [
        Tried(attempt.route, routing_kind(attempt.failure_kind), attempt.finished_at)
        for attempt in attempts
        if attempt.finished_at is not None
        and attempt.failure_kind is not None
        and attempt.failure_kind in ROUTING_KINDS
    ]
