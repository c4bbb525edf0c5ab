"""Who used what, and what a team owes: usage by any mix of team, key, route, provider, tag and day, and statements.

Usage counts settlements and corrections by the time they were made. A statement lists one team's entries of an
accounting month, so that a closed month's statement never changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select

from gateway.money.periods import last_closed
from gateway.money.tags import tags_from
from gateway.money.transfers import LOSS, team_account
from gateway.money.windows import INSTANT_MAX, YEAR_FIRST, YEAR_LAST, WindowKind, local_day, window_at
from gateway.store.schema_money import entries, holds, settlements

GROUPS = ("team", "key", "route", "provider", "day")
TAG_PREFIX = "tag:"
DAYS_MAX = 400


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What to count: `since` to `until` (unix seconds, end excluded), grouped by `GROUPS` and `tag:<name>`."""

    since: float
    until: float
    team_id: str | None = None
    group_by: tuple[str, ...] = ()
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        check_groups(self.group_by)
        if not 0 <= self.until - self.since <= DAYS_MAX * 86_400:
            raise ValueError(f"a report covers at most {DAYS_MAX} days and does not end before it begins")
        if not 0 <= self.since <= self.until <= INSTANT_MAX:
            raise ValueError(f"a report lies in the years {YEAR_FIRST} to {YEAR_LAST}")


@dataclass(slots=True)
class UsageRow:
    """One group of a usage report. Money is micro-USD; `loss_micros` is what its failures cost the operator."""

    group: Mapping[str, str | None]
    jobs_billed: int = 0
    jobs_not_billed: int = 0
    price_micros: int = 0
    cost_micros: int = 0
    excess_micros: int = 0
    loss_micros: int = 0

    @property
    def margin_micros(self) -> int:
        """What the teams paid above the vendors' cost."""
        return self.price_micros - self.cost_micros


@dataclass(frozen=True, slots=True)
class StatementLine:
    """What one job, or one correction, came to. `amount_micros` is negative for money given back."""

    at: float
    kind: str
    job_id: str | None
    key_id: str | None
    route: str | None
    provider: str | None
    tags: Mapping[str, str]
    amount_micros: int
    reason: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A team's bill for an accounting month; `closed` says that it is final."""

    team_id: str
    period: str
    closed: bool
    total_micros: int
    lines: tuple[StatementLine, ...] = field(default_factory=tuple)


def usage(connection: Connection, query: UsageQuery) -> list[UsageRow]:
    """The report, its groups in order; without groups one row, also when nothing was used."""
    found: dict[tuple[str | None, ...], UsageRow] = {} if query.group_by else {(): UsageRow({})}
    for day, since, until in _spans(query):
        for statement in (_settled(query, since, until), _corrected(query, since, until), _lost(query, since, until)):
            for row in connection.execute(statement):
                _add(found, query, day, row)
    return [found[group] for group in sorted(found, key=_in_order)]


def statement(connection: Connection, team_id: str, period: str) -> Statement:
    """One team's statement of an accounting month (`YYYY-MM`)."""
    account = team_account(team_id)
    amount = case((entries.c.debit == account, entries.c.amount_micros), else_=-entries.c.amount_micros)
    # The transfers of one capture are one line of the bill: what goes to the vendor and what to the margin is not the
    # team's business.
    fact = (entries.c.at, entries.c.kind, entries.c.hold_id, entries.c.job_id, entries.c.reason)
    # A correction says nothing of the route: it is that of the job it corrects.
    made_by = [
        func.coalesce(entries.c[name], settlements.c[name]).label(f"made_by_{name}") for name in ("route", "provider")
    ]
    correction = case((entries.c.kind == "correct", entries.c.id), else_=0).label("correction")
    query = (
        select(*fact, *made_by, holds.c.key_id, holds.c.tags, correction, func.sum(amount).label("amount_micros"))
        .select_from(
            entries.outerjoin(holds, holds.c.id == entries.c.hold_id).outerjoin(
                settlements, settlements.c.hold_id == entries.c.hold_id
            )
        )
        .where(or_(entries.c.debit == account, entries.c.credit == account), entries.c.period == period)
        .group_by(*fact, *made_by, holds.c.key_id, holds.c.tags, correction)
        .order_by(entries.c.at, entries.c.hold_id.nulls_first(), correction)
    )
    lines = tuple(
        StatementLine(
            at=row.at,
            kind=row.kind,
            job_id=row.job_id,
            key_id=row.key_id,
            route=row.made_by_route,
            provider=row.made_by_provider,
            tags=tags_from(row.tags or "{}"),
            amount_micros=int(row.amount_micros),
            reason=row.reason,
        )
        for row in connection.execute(query)
    )
    closed_through = last_closed(connection)
    closed = closed_through is not None and period <= closed_through
    return Statement(team_id, period, closed, sum(line.amount_micros for line in lines), lines)


@dataclass(frozen=True, slots=True)
class StatementGroup:
    """The lines of a statement that have these in common, and what they come to."""

    group: Mapping[str, str | None]
    lines: int
    amount_micros: int


def statement_groups(bill: Statement, group_by: tuple[str, ...], timezone: str = "UTC") -> list[StatementGroup]:
    """A statement summed up by `GROUPS` and `tag:<name>`, its groups in order. Raises ValueError for another name."""
    check_groups(group_by)
    found: dict[tuple[str | None, ...], list[int]] = {}
    for line in bill.lines:
        dimensions: dict[str, str | None] = {
            "team": bill.team_id,
            "key": line.key_id,
            "route": line.route,
            "provider": line.provider,
            "day": local_day(line.at, timezone),
            **{TAG_PREFIX + name: value for name, value in line.tags.items()},
        }
        found.setdefault(tuple(dimensions.get(name) for name in group_by), []).append(line.amount_micros)
    return [
        StatementGroup(dict(zip(group_by, group, strict=True)), len(found[group]), sum(found[group]))
        for group in sorted(found, key=_in_order)
    ]


def check_groups(group_by: tuple[str, ...]) -> None:
    """Raise ValueError naming the first of these that nothing can be grouped by."""
    unknown = [name for name in group_by if name not in GROUPS and not name.startswith(TAG_PREFIX)]
    if unknown:
        raise ValueError(f"cannot group by {unknown[0]!r}; choose from {', '.join(GROUPS)} and tag:<name>")


def _spans(query: UsageQuery) -> Iterator[tuple[str | None, float, float]]:
    """The days of the report, or all of it at once when days are not asked for."""
    if "day" not in query.group_by:
        yield None, query.since, query.until
        return
    since = query.since
    while since < query.until:
        day_ends_at = window_at(WindowKind.DAY, since, query.timezone).ends_at or query.until
        until = min(day_ends_at, query.until)
        yield local_day(since, query.timezone), since, until
        since = until


_DIMENSIONS = (holds.c.team_id, holds.c.key_id, holds.c.tags)


def _settled(query: UsageQuery, since: float, until: float) -> Select[Any]:
    captured = case((settlements.c.kind == "captured", 1), else_=0)
    return (
        select(
            *_DIMENSIONS,
            settlements.c.route,
            settlements.c.provider,
            func.sum(captured).label("jobs_billed"),
            func.sum(1 - captured).label("jobs_not_billed"),
            func.sum(settlements.c.price_micros).label("price_micros"),
            func.sum(settlements.c.cost_micros).label("cost_micros"),
            func.sum(settlements.c.excess_micros).label("excess_micros"),
        )
        .join_from(settlements, holds, holds.c.id == settlements.c.hold_id)
        .where(settlements.c.at >= since, settlements.c.at < until, *_of_team(query))
        .group_by(*_DIMENSIONS, settlements.c.route, settlements.c.provider)
    )


def _corrected(query: UsageQuery, since: float, until: float) -> Select[Any]:
    """Corrections of settled jobs: of their price on the team's side, of their cost on the provider's."""
    price = _net("team:%", entries.c.debit, entries.c.credit)
    cost = _net("provider:%", entries.c.credit, entries.c.debit)
    joined = entries.join(holds, holds.c.id == entries.c.hold_id).join(
        settlements, settlements.c.hold_id == entries.c.hold_id
    )
    return (
        select(
            *_DIMENSIONS,
            settlements.c.route,
            settlements.c.provider,
            func.sum(price).label("price_micros"),
            func.sum(cost).label("cost_micros"),
        )
        .select_from(joined)
        .where(entries.c.kind == "correct", entries.c.at >= since, entries.c.at < until, *_of_team(query))
        .group_by(*_DIMENSIONS, settlements.c.route, settlements.c.provider)
    )


def _lost(query: UsageQuery, since: float, until: float) -> Select[Any]:
    loss = _net(LOSS, entries.c.debit, entries.c.credit)
    return (
        select(*_DIMENSIONS, entries.c.route, entries.c.provider, func.sum(loss).label("loss_micros"))
        .select_from(entries.outerjoin(holds, holds.c.job_id == entries.c.job_id))
        .where(
            or_(entries.c.debit == LOSS, entries.c.credit == LOSS),
            entries.c.at >= since,
            entries.c.at < until,
            *_of_team(query),
        )
        .group_by(*_DIMENSIONS, entries.c.route, entries.c.provider)
    )


_SUMMED = ("jobs_billed", "jobs_not_billed", "price_micros", "cost_micros", "excess_micros", "loss_micros")


def _add(found: dict[tuple[str | None, ...], UsageRow], query: UsageQuery, day: str | None, counted: Any) -> None:
    values = counted._mapping
    dimensions = {
        "team": values["team_id"],
        "key": values["key_id"],
        "route": values["route"],
        "provider": values["provider"],
        "day": day,
    }
    if any(name.startswith(TAG_PREFIX) for name in query.group_by):
        tags = tags_from(values["tags"] or "{}")
        dimensions |= {TAG_PREFIX + name: value for name, value in tags.items()}
    group = {name: dimensions.get(name) for name in query.group_by}
    row = found.setdefault(tuple(group.values()), UsageRow(group))
    for name in _SUMMED:
        setattr(row, name, getattr(row, name) + int(values.get(name) or 0))


def _in_order(group: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(value or "" for value in group)


def _of_team(query: UsageQuery) -> tuple[ColumnElement[bool], ...]:
    return () if query.team_id is None else (holds.c.team_id == query.team_id,)


def _net(account: str, plus: ColumnElement[str], minus: ColumnElement[str]) -> ColumnElement[int]:
    """SQL for the amount of an entry when `account` (a LIKE pattern) stands on its `plus` side, negated on `minus`."""
    return case((plus.like(account), entries.c.amount_micros), else_=0) - case(
        (minus.like(account), entries.c.amount_micros), else_=0
    )
