"""Provider accounts: what is left, how fast it goes, how long it lasts, and when somebody has to be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, case, func, insert, select

from gateway.money.amounts import require_micros
from gateway.money.transfers import provider_account
from gateway.store.schema_money import entries, provider_balances

BalanceSource = Literal["polled", "reported"]
BURN_WINDOW_S = 24 * 3600.0
HOUR_S = 3600.0
CHARGES = ("capture", "loss", "suspend", "clear")


@dataclass(frozen=True, slots=True)
class LowWater:
    """The account fell under its floor with this balance: said once a fall."""

    provider: str
    balance_micros: int
    floor_micros: int
    at: float


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """A provider account as of an instant; money in micro-USD.

    `available_micros` is the last known balance less what is charged since by our books and less what is in flight.
    `runway_h` is None while nothing is spent. Without any balance known, all that depends on it is None.
    """

    provider: str
    balance_micros: int | None
    balance_at: float | None
    charged_since_micros: int
    in_flight_micros: int
    available_micros: int | None
    burn_micros_per_hour: int
    runway_h: float | None
    floor_micros: int
    is_low: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, as far as is known."""
        return self.available_micros is not None and self.available_micros <= 0


def record_balance(
    connection: Connection,
    provider: str,
    amount_micros: int,
    *,
    at: float,
    source: BalanceSource,
    floor_micros: int = 0,
) -> LowWater | None:
    """Write down what the vendor said is left; a LowWater when this is the first word of it being under the floor."""
    # An overdrawn account is below nothing, and may be: only the size has to be an amount.
    require_micros(-amount_micros if amount_micros < 0 else amount_micros, "balance_micros")
    if connection.dialect.name == "postgresql":
        # One replica at a time, or each of them would be the first to see the fall.
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(provider))))
    before = _latest(connection, provider, at)
    connection.execute(
        insert(provider_balances).values(provider=provider, amount_micros=amount_micros, at=at, source=source)
    )
    was_low = before is not None and before[0] < floor_micros
    return LowWater(provider, amount_micros, floor_micros, at) if amount_micros < floor_micros and not was_low else None


def provider_state(
    connection: Connection, provider: str, *, at: float, in_flight_micros: int = 0, floor_micros: int = 0
) -> ProviderAccount:
    """The account as of `at`. `in_flight_micros` is what the renders now under way are expected to cost."""
    latest = _latest(connection, provider, at)
    burn_micros_per_hour = _burn(connection, provider, at)
    if latest is None:
        return ProviderAccount(
            provider, None, None, 0, in_flight_micros, None, burn_micros_per_hour, None, floor_micros, is_low=False
        )
    balance_micros, balance_at = latest
    charged_since_micros = _charged(connection, provider, balance_at, at)
    available_micros = balance_micros - charged_since_micros - in_flight_micros
    runway_h = max(0, available_micros) / burn_micros_per_hour if burn_micros_per_hour > 0 else None
    return ProviderAccount(
        provider=provider,
        balance_micros=balance_micros,
        balance_at=balance_at,
        charged_since_micros=charged_since_micros,
        in_flight_micros=in_flight_micros,
        available_micros=available_micros,
        burn_micros_per_hour=burn_micros_per_hour,
        runway_h=runway_h,
        floor_micros=floor_micros,
        is_low=available_micros < floor_micros,
    )


def _latest(connection: Connection, provider: str, at: float) -> tuple[int, float] | None:
    query = (
        select(provider_balances.c.amount_micros, provider_balances.c.at)
        .where(provider_balances.c.provider == provider, provider_balances.c.at <= at)
        .order_by(provider_balances.c.at.desc(), provider_balances.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.amount_micros, row.at)


def _burn(connection: Connection, provider: str, at: float) -> int:
    """Micro-USD an hour over the last day, or over the time since the first charge when that is shorter."""
    query = select(func.min(entries.c.at)).where(
        entries.c.provider == provider, entries.c.kind.in_(CHARGES), entries.c.at <= at
    )
    first_at: float | None = connection.execute(query).scalar_one()
    if first_at is None:
        return 0
    # At least an hour, or the first charge of all would look like a flood.
    over_s = min(max(at - first_at, HOUR_S), BURN_WINDOW_S)
    return round(_charged(connection, provider, at - BURN_WINDOW_S, at) * HOUR_S / over_s)


def _charged(connection: Connection, provider: str, after: float, until: float) -> int:
    """What our books say the vendor charged in a stretch of time, the start excluded, the end included."""
    account = provider_account(provider)
    signed = case((entries.c.credit == account, entries.c.amount_micros), else_=-entries.c.amount_micros)
    query = select(func.coalesce(func.sum(signed), 0)).where(
        entries.c.provider == provider,
        entries.c.kind.in_(CHARGES),
        (entries.c.credit == account) | (entries.c.debit == account),
        entries.c.at > after,
        entries.c.at <= until,
    )
    return int(connection.execute(query).scalar_one())
