"""From a job's row back to what routing understands. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.money.margin import TeamPlan
from gateway.planning import Order, RoutingWish
from gateway.store.jobs import Attempt, Job
from policies import values
from policies.values import Tried
from providers.contract import FailureKind

# Kinds of failure that routing has no word of its own for, and the one it treats them as.
ROUTING_KINDS: Mapping[str, values.FailureKind] = {
    FailureKind.FORBIDDEN: "unauthorized",
    FailureKind.MODEL_GONE: "unauthorized",
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
        routing=RoutingWish.model_validate(job.request["routing"]),
        team_plan=TeamPlan.model_validate(job.request["team_plan"]),
        created_at=job.created_at,
        deadline_at=job.deadline_at,
        give_up_at=job.give_up_at,
    )


def routing_kind(kind: str) -> values.FailureKind:
    """A failure in routing's words."""
    return ROUTING_KINDS[kind]


def tried_of(attempts: Sequence[Attempt]) -> list[Tried]:
    """The attempts that failed, as routing sees them."""
    return [
        Tried(attempt.route, routing_kind(attempt.failure_kind), attempt.finished_at)
        for attempt in attempts
        if attempt.finished_at is not None
        and attempt.failure_kind is not None
        and attempt.failure_kind in ROUTING_KINDS
    ]
