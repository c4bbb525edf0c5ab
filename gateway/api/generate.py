"""`POST /generate/{video,image}`: parse, plan, admit, wait if asked to, render."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

import structlog
from starlette.requests import Request
from starlette.responses import Response

from gateway import admission
from gateway.admission import Admission, Answer, IdempotencyKey, Offer
from gateway.api.auth import audience_for, caller_of, hold_of
from gateway.api.prefer import Preference, preference_of, wait_for
from gateway.api.quota import job_limits, note_standings
from gateway.api.representation import check_forms, forms_of, represented
from gateway.api.shown import job_json, reply_headers
from gateway.api.wanted import Wish, idempotency_key, read_wish
from gateway.audience import Audience
from gateway.holds import Hold
from gateway.inputs import given_as
from gateway.jobs import JobStatus
from gateway.keys import Caller
from gateway.money.margin import TeamPlan, team_plan
from gateway.planning import Order
from gateway.problems import Forbidden, InvalidParameter, NoEligibleRoute
from gateway.quotas import CallerLimits
from gateway.service import Service
from gateway.store.jobs import Job
from gateway.telemetry.job_spans import facts_of
from gateway.telemetry.tracing import learn_here, traceparent_here
from gateway.wishes import grants_of, plain_plan, standing_of
from providers.vocabulary import Media

log = structlog.get_logger()

HOLD_MARGIN_S = 3600.0
NEAREST_HINT = "with fit: nearest a route may move or drop what it cannot honour"


@dataclass(frozen=True, slots=True)
class Submitted:
    """What the caller is told, and the job that this request has made: none for a replay or a refused budget."""

    answer: Answer
    job: Job | None


async def generate(request: Request, service: Service, media: Media) -> Response:
    """Take a request in: 202 with the job, or 200 when it ended within the wait that the caller prefers."""
    caller = await caller_of(request, service)
    limits = job_limits(request, service, caller)
    preference = preference_of(request, service.parts.settings.server.wait_s_max)
    forms = forms_of(request)
    wish = await read_wish(request, service, media)
    check_forms(forms, media, wish.written)
    key = idempotency_key(request)
    submitted = await submit(service, wish, hold=hold_of(request), limits=limits, key=key)
    note_standings(request, submitted.answer.standings)
    if submitted.job is None or not preference.wait_s:
        return _response(submitted.answer, preference)
    del wish  # its picture would be kept for as long as the wait
    request.state.ticket.waits()
    job, response = await wait_for(service, submitted.job.id, hold_of(request), preference.wait_s)
    await caller_of(request, service)  # a key that was revoked during the wait is told nothing
    if job.finished_at is None:
        response.status_code, response.headers["location"] = 202, f"/jobs/{job.id}"
    return preference.applied(await represented(request, service, job, (response, forms)))


async def submit(service: Service, wish: Wish, *, hold: Hold, limits: CallerLimits, key: str | None) -> Submitted:
    """Plan and admit a wish under an idempotency key, if there is one, and begin its job. Raises its problem.

    A key that ended while its body or its picture came gets no job.
    """
    caller = hold.caller
    claim = None if key is None else IdempotencyKey(key, wish.fingerprint)
    if claim is not None:
        now = service.parts.clock.now()
        before = await service.parts.store.read(admission.replay, caller.team_id, claim, now)
        if before is not None:
            return Submitted(before, None)
    job, offers = await _new_job(service, caller, wish)
    learn_here(job=job.id)
    # A hold outlives the last moment at which an attempt can still be in doubt, so that a late success is captured.
    hold_expires_at = job.give_up_at + service.parts.settings.jobs.in_doubt_s + HOLD_MARGIN_S
    hold.check()
    wanted = Admission(job, hold_expires_at, claim, partial(_accepted, audience_for(caller, service)), limits, offers)
    answer = await service.parts.store.write(admission.admit, wanted)
    if answer.replayed or answer.status != 202:
        return Submitted(answer, None)
    service.parts.meter.admitted(job)
    log.info("job.admitted", media=job.media, key=job.key_id, held_micros=job.held_micros, **facts_of(job))
    if job.lease_owner is not None:
        service.dispatcher.begin(job)
    return Submitted(answer, job)


async def _new_job(service: Service, caller: Caller, wish: Wish) -> tuple[Job, list[Offer]]:
    """Take the picture in and plan; with what its routes cost. Raises NoEligibleRoute with the reasons of each."""
    parts = service.parts
    with service.overload.opening():
        image = await parts.inputs.read(wish.image)
    now = parts.clock.now()
    job_id = parts.ids.new("job")
    order = make_order(service, job_id, caller, wish, (image.width, image.height), now)
    plan = parts.planner.plan(order, now)
    if not plan.ranking.ranked and plan.ranking.wait_s is None:
        raise NoEligibleRoute(
            "no route can honour this request; see the reasons of each",
            refused=[{"route": one.route, "reasons": list(one.reasons)} for one in plan.ranking.refused],
            hint=NEAREST_HINT if wish.fit == "exact" else None,
        )
    picture = await parts.inputs.keep(wish.image, image)  # only now: a refused request leaves nothing behind
    asked = {
        "written": dict(wish.written),
        "fit": wish.fit,
        "routing": wish.routing.model_dump(mode="json", exclude_defaults=True),
        "metadata": dict(wish.metadata),
        "team_plan": order.team_plan.model_dump(mode="json"),
        "standing": order.standing.model_dump(mode="json", exclude_defaults=True),
    }
    offers = [Offer(one.route.name, one.team_price_micros, one.worst_micros) for one in plan.payable()]
    job = Job(
        id=job_id,
        team_id=caller.team_id,
        key_id=caller.key_id,
        media=wish.media,
        status=JobStatus.QUEUED,
        created_at=now,
        deadline_at=order.deadline_at,
        give_up_at=order.give_up_at,
        hold_id=parts.ids.new("hold"),
        held_micros=plan.hold_micros(),
        request=asked,
        input=picture,
        plan=plan.to_json(),
        due_at=now,
        trace=traceparent_here(),
        **service.dispatcher.lease(),
    )
    return job, offers


def make_order(
    service: Service, job_id: str, caller: Caller, wish: Wish, image_size: tuple[int, int], now: float
) -> Order:
    """The order that a wish comes to for this caller; an empty job id only asks.

    Raises InvalidParameter for a deadline that is not given here, and Forbidden for an objective the key may not have.
    """
    jobs = service.parts.settings.jobs
    standing = standing_of(caller.plan, caller.grants)
    if wish.routing.deadline_s is not None and wish.routing.deadline_s > jobs.deadline_max_s:
        raise InvalidParameter(
            f"routing.deadline_s must be at most {jobs.deadline_max_s:g} here, not {wish.routing.deadline_s:g}",
            parameter="routing.deadline_s",
        )
    refusal = grants_of(caller.grants).objective_refusal(wish.routing.objective) if wish.routing.objective else None
    if refusal is not None:
        raise Forbidden(refusal)
    deadline_s = wish.routing.deadline_s or min(standing.deadline_s or jobs.deadline_s, jobs.deadline_max_s)
    return Order(
        job_id=job_id,
        media=wish.media,
        written=wish.written,
        mode=wish.fit,
        image_size=image_size,
        image_given=given_as(wish.image),
        routing=wish.routing,
        team_plan=plan_of(caller, service),
        created_at=now,
        deadline_at=now + deadline_s,
        give_up_at=now + deadline_s + jobs.give_up_s,
        standing=standing,
    )


def plan_of(caller: Caller, service: Service) -> TeamPlan:
    """What the caller's team pays above the cost."""
    return team_plan(plain_plan(caller.plan), service.parts.settings.money.margin_percent)


def _accepted(audience: Audience, job: Job) -> Answer:
    headers = {"content-type": "application/json", "location": f"/jobs/{job.id}", **reply_headers(job, 0)}
    return Answer(202, json.dumps(job_json(job, [], audience)).encode(), headers)


def _response(answer: Answer, preference: Preference) -> Response:
    headers = dict(answer.headers) | ({"Idempotent-Replayed": "true"} if answer.replayed else {})
    return preference.applied(Response(answer.body, answer.status, headers))
