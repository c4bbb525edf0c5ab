"""Keeping callers to their limits: requests by meters on the bus, jobs and spend in the transaction that admits.

Counting in that transaction, after the team's row was locked, makes both exact under any concurrency. Whoever is over a
limit is refused by an exception, so that nothing of the request is left behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, case, func, select, text

from gateway.bus.contract import Bus, Draw
from gateway.keys import Caller
from gateway.limits import Limits
from gateway.money.amounts import usd_text
from gateway.money.budgets import lock_team
from gateway.problems import Forbidden, QuotaExceeded
from gateway.settings_edge import LimitsSection
from gateway.store.jobs import Job
from gateway.store.prepared import Prepared
from gateway.store.schema import jobs
from gateway.store.schema_money import holds, settlements
from gateway.wishes import grants_of
from policies.quotas import Quota

Scope = Literal["team", "key"]
POLICY_HEADER, STANDING_HEADER = "RateLimit-Policy", "RateLimit"
MINUTE_S, HOUR_S = 60, 3600
# A job ends at a time that nobody knows: who has too many asks again after this long.
JOBS_WAIT_S = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """A limit as it is announced: `quota` in `unit`, over a window where it has one."""

    name: str
    quota: int
    unit: str | None = None
    window_s: int | None = None

    def __str__(self) -> str:
        """An item of the RateLimit-Policy list."""
        unit = f';qu="{self.unit}"' if self.unit else ""
        return f'"{self.name}";q={self.quota}{unit}' + (f";w={self.window_s}" if self.window_s else "")


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a limit, and in how many seconds that changes where it is known."""

    name: str
    left: int
    reset_s: int | None = None

    def __str__(self) -> str:
        """An item of the RateLimit list."""
        return f'"{self.name}";r={self.left}' + (f";t={self.reset_s}" if self.reset_s is not None else "")


def listed(items: Iterable[object]) -> str:
    """Items as the list of a structured field (RFC 9651)."""
    return ", ".join(map(str, items))


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What holds for a caller: its team's limits and its key's, which are counted apart."""

    team: Limits
    key: Limits

    def of_requests(self, caller: Caller) -> list[tuple[Policy, Draw]]:
        """The policies that every request falls under, each with what is drawn for it."""
        return [
            (
                Policy(f"{scope}-requests", most, window_s=MINUTE_S),
                Draw(caller.team_id, f"{scope}:{of}", Quota(most, MINUTE_S)),
            )
            for scope, limits, of in (("team", self.team, caller.team_id), ("key", self.key, caller.key_id))
            if (most := limits.requests_per_minute) is not None
        ]

    def of_jobs(self) -> list[Policy]:
        """The policies that a request for a job falls under too."""
        both = (("team", self.team), ("key", self.key))
        counted = [
            Policy(f"{scope}-jobs", limits.concurrent_jobs, "concurrent-requests")
            for scope, limits in both
            if limits.concurrent_jobs is not None
        ]
        spent = [
            Policy(f"{scope}-spend", limits.spend_micros_per_hour, "micro-usd", HOUR_S)
            for scope, limits in both
            if limits.spend_micros_per_hour is not None
        ]
        return counted + spent


NO_LIMITS = CallerLimits(Limits(), Limits())


def limits_of(section: LimitsSection, caller: Caller) -> CallerLimits:
    """The limits of a caller: the configuration's, narrowed by the team's plan and by the key's grants."""
    return CallerLimits(
        team=section.team.narrowed(Limits.said_in(caller.plan)), key=section.key.narrowed(grants_of(caller.grants))
    )


async def draw_request(bus: Bus, limits: CallerLimits, caller: Caller, now_s: float) -> list[Remaining]:
    """Count a request. Raises QuotaExceeded when the team or the key has none left."""
    policies = limits.of_requests(caller)
    if not policies:
        return []
    drawn = await bus.draw([draw for _, draw in policies], now_s)
    pairs = list(zip([policy for policy, _ in policies], drawn.left, strict=True))
    standings = [Remaining(policy.name, left.requests, left.reset_s) for policy, left in pairs]
    if drawn.taken:
        return standings
    violated = [policy for policy, left in pairs if left.wait_us]
    said = f"{_whose(violated[0])} may make {violated[0].quota} requests a minute"
    raise _refusal(said, violated, standings, max(left.reset_s for _, left in pairs if left.wait_us))


def claim_team(connection: Connection, job: Job, limits: CallerLimits) -> None:
    """Have the team's row alone, where jobs will be counted: first of all, so that nobody waits in a ring.

    Raises UnknownTeamError.
    """
    if limits.of_jobs():
        lock_team(connection, job.team_id, exclusive=True)


def draw_job(connection: Connection, job: Job, limits: CallerLimits) -> list[Remaining]:
    """Count a job that is about to be admitted, in its transaction, which has the team's row to itself by now.

    Raises QuotaExceeded, and Forbidden for a job that could never be had.
    """
    scopes: tuple[tuple[Scope, Limits], ...] = (("team", limits.team), ("key", limits.key))
    counted = [
        _draw_concurrency(connection, job, scope, one.concurrent_jobs)
        for scope, one in scopes
        if one.concurrent_jobs is not None
    ]
    spent = [
        _draw_spend(connection, job, scope, one.spend_micros_per_hour)
        for scope, one in scopes
        if one.spend_micros_per_hour is not None
    ]
    return counted + spent


def _draw_concurrency(connection: Connection, job: Job, scope: Scope, most: int) -> Remaining:
    row = _ACTIVE[scope].one(connection, {"of": job.team_id if scope == "team" else job.key_id})
    active = int(row[0]) if row is not None else 0
    policy = Policy(f"{scope}-jobs", most, "concurrent-requests")
    if active >= most:
        said = f"{_whose(policy)} may have {most} jobs queued or running, and has {active}"
        raise _refusal(said, [policy], [Remaining(policy.name, 0)], JOBS_WAIT_S)
    return Remaining(policy.name, most - active - 1)


def _draw_spend(connection: Connection, job: Job, scope: Scope, most: int) -> Remaining:
    policy = Policy(f"{scope}-spend", most, "micro-usd", HOUR_S)
    if job.held_micros > most:
        raise Forbidden(
            f"this needs at most ${usd_text(job.held_micros)}, and {_whose(policy)} may spend ${usd_text(most)} an hour"
        )
    of = job.team_id if scope == "team" else job.key_id
    rows = _SPENT[scope].rows(connection, {"of": of, "of_team": job.team_id, "since": job.created_at - HOUR_S})
    left = most - sum(micros for _, micros in rows) - job.held_micros
    if left >= 0:
        return Remaining(policy.name, left, HOUR_S)
    wait_s = ceil(_frees_at(rows, -left) + HOUR_S - job.created_at)
    said = f"{_whose(policy)} may spend ${usd_text(most)} an hour, and this needs at most ${usd_text(job.held_micros)}"
    reset_s = min(max(1, wait_s), HOUR_S)
    raise _refusal(said, [policy], [Remaining(policy.name, max(0, left + job.held_micros), reset_s)], reset_s)


def _frees_at(rows: Sequence[Sequence[Any]], needed_micros: int) -> float:
    """When the hold was made whose hour must be over for so much to be free."""
    for created_at, micros in rows:
        needed_micros -= micros
        if needed_micros <= 0:
            return float(created_at)
    return float(rows[-1][0])


def _whose(policy: Policy) -> str:
    return "this key" if policy.name.startswith("key-") else "this team"


def _refusal(said: str, violated: Iterable[Policy], standings: Iterable[Remaining], wait_s: int) -> QuotaExceeded:
    headers = {"Retry-After": str(wait_s), STANDING_HEADER: listed(standings)}
    return QuotaExceeded(said, headers=headers, **{"violated-policies": [policy.name for policy in violated]})


def _active_of(owner: Any) -> Prepared:
    """How many jobs of an owner are active, from the partial index over active jobs.

    It is chosen for its own words and its column, and because the owner's column, spoiled by a joined text, has none.
    """
    among_active = jobs.c.due_at > 0, text("status IN ('queued', 'running')")
    return Prepared(select(func.count()).select_from(jobs).where(*among_active, owner.concat("") == bindparam("of")))


_ACTIVE = {"team": _active_of(jobs.c.team_id), "key": _active_of(jobs.c.key_id)}
_MICROS = case(
    (holds.c.state == "open", holds.c.amount_micros), else_=func.coalesce(settlements.c.price_micros, 0)
).label("micros")
_RECENT = (
    select(holds.c.created_at, _MICROS)
    .select_from(holds.join(settlements, settlements.c.hold_id == holds.c.id, isouter=True))
    .where(holds.c.team_id == bindparam("of_team"), holds.c.created_at > bindparam("since"))
    .order_by(holds.c.created_at)
)
_SPENT = {
    "team": Prepared(_RECENT.where(holds.c.team_id == bindparam("of"))),
    "key": Prepared(_RECENT.where(holds.c.key_id == bindparam("of"))),
}
