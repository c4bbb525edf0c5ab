"""Our books against the vendor's balance: how far they moved apart, day by day."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from gateway.money.transfers import provider_account
from gateway.money.windows import local_day
from gateway.store.schema_money import entries, provider_balances


@dataclass(frozen=True, slots=True)
class BalanceDay:
    """From one day's last known balance to the next: how the vendor's balance moved and how our account did.

    Renders under way at either end make a passing drift; one that stays is money.
    """

    day: str
    from_at: float
    to_at: float
    theirs_micros: int
    ours_micros: int

    @property
    def drift_micros(self) -> int:
        """How much less is left at the vendor than our books say; 0 is agreement."""
        return self.ours_micros - self.theirs_micros


def balance_drift(
    connection: Connection, provider: str, *, since: float, until: float, timezone: str = "UTC"
) -> list[BalanceDay]:
    """Compare the last balance of every day in a stretch of time with the one before it, from the first known on."""
    query = (
        select(provider_balances.c.amount_micros, provider_balances.c.at)
        .where(
            provider_balances.c.provider == provider,
            provider_balances.c.at >= since,
            provider_balances.c.at < until,
        )
        .order_by(provider_balances.c.at, provider_balances.c.id)
    )
    snapshots = [(row.amount_micros, row.at) for row in connection.execute(query)]
    if not snapshots:
        return []
    last_of_day = {local_day(at, timezone): (amount_micros, at) for amount_micros, at in snapshots}
    days, (before_micros, before_at) = [], snapshots[0]
    for day, (amount_micros, at) in last_of_day.items():
        ours_micros = _moved(connection, provider, before_at, at)
        days.append(BalanceDay(day, before_at, at, amount_micros - before_micros, ours_micros))
        before_micros, before_at = amount_micros, at
    return days


def _moved(connection: Connection, provider: str, after: float, until: float) -> int:
    """How our account of the provider moved, the start excluded, the end included."""
    account = provider_account(provider)
    signed = case((entries.c.debit == account, entries.c.amount_micros), else_=-entries.c.amount_micros)
    query = select(func.coalesce(func.sum(signed), 0)).where(
        (entries.c.debit == account) | (entries.c.credit == account), entries.c.at > after, entries.c.at <= until
    )
    return int(connection.execute(query).scalar_one())
