"""Month close: after it, an accounting month (UTC) never changes; later corrections land in the next open one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from gateway.money.audit import trial_balance
from gateway.money.transfers import books_alone
from gateway.money.windows import period_after, period_start
from gateway.store.schema_money import entries, period_closes


@dataclass(frozen=True, slots=True)
class Closed:
    """The month, and all before it, is closed with these balances of every account in micro-USD."""

    period: str
    entries_count: int
    balances: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AlreadyClosed:
    """This month or a later one was closed before."""

    closed_through: str


@dataclass(frozen=True, slots=True)
class NotOver:
    """The month is not over until `ends_at` (unix seconds)."""

    ends_at: float


def close_period(connection: Connection, period: str, at: float) -> Closed | AlreadyClosed | NotOver:
    """Close an accounting month (`YYYY-MM`) and all before it. Raises ValueError for what is no month."""
    period_start(period)  # a month that is none is refused here
    ends_at = period_start(period_after(period))
    if at < ends_at:
        return NotOver(ends_at)
    books_alone(connection)
    closed_through = last_closed(connection)
    if closed_through is not None and closed_through >= period:
        return AlreadyClosed(closed_through)
    counted = select(func.count()).select_from(entries).where(entries.c.period <= period)
    closed = Closed(period, connection.execute(counted).scalar_one(), trial_balance(connection, period))
    connection.execute(
        insert(period_closes).values(
            period=period,
            closed_at=at,
            entries_count=closed.entries_count,
            balances=json.dumps(dict(closed.balances), sort_keys=True),
        )
    )
    return closed


def last_closed(connection: Connection) -> str | None:
    """The last accounting month that is closed, or None."""
    period: str | None = connection.execute(select(func.max(period_closes.c.period))).scalar_one()
    return period
