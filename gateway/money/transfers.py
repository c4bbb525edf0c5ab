"""The ledger's only writer of entries: transfers between accounts, each booked once, in an open accounting month."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from gateway.money.windows import period_after, period_of
from gateway.store.conflict import insert_new
from gateway.store.prepared import Prepared
from gateway.store.schema_money import entries, period_closes

MARGIN = "margin"
SUSPENSE = "suspense"
LOSS = "loss"
TREASURY = "treasury"


def team_account(team_id: str) -> str:
    """The account of what a team was billed."""
    return f"team:{team_id}"


def provider_account(provider: str) -> str:
    """The account of the credit bought at a provider, less what it charged."""
    return f"provider:{provider}"


@dataclass(frozen=True, slots=True)
class Fact:
    """What a booking is about: `reference` names it once and for all, the rest explains it."""

    reference: str
    kind: str
    at: float
    reason: str
    hold_id: str | None = None
    job_id: str | None = None
    attempt_id: str | None = None
    provider: str | None = None
    route: str | None = None
    provider_request_id: str | None = None


def book(connection: Connection, fact: Fact, *, debit: str, credit: str, amount_micros: int) -> bool:
    """Book a transfer; nothing moves for an amount of 0. False when this fact was booked already."""
    if amount_micros == 0:
        return True
    values = {
        "reference": fact.reference,
        "kind": fact.kind,
        "debit": debit,
        "credit": credit,
        "amount_micros": amount_micros,
        "at": fact.at,
        "period": _open_period(connection, fact.at),
        "hold_id": fact.hold_id,
        "job_id": fact.job_id,
        "attempt_id": fact.attempt_id,
        "provider": fact.provider,
        "route": fact.route,
        "provider_request_id": fact.provider_request_id,
        "reason": fact.reason,
    }
    return insert_new(connection, entries, values)


_LAST_CLOSED = Prepared(select(func.max(period_closes.c.period)))
_BOOKING = text("LOCK TABLE entries IN ROW EXCLUSIVE MODE")
_NOBODY_BOOKS = text("LOCK TABLE entries IN SHARE ROW EXCLUSIVE MODE")


def books_alone(connection: Connection) -> None:
    """Wait for the bookings that are under way, and let no other begin until this transaction ends.

    On SQLite there is one writer at a time as it is.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_NOBODY_BOOKS)


def _open_period(connection: Connection, at: float) -> str:
    if connection.dialect.name == "postgresql":
        # First, so that a month which is being closed is seen to be: a close holds the table until it is committed.
        connection.execute(_BOOKING)
    row = _LAST_CLOSED.one(connection, {})
    closed = row[0] if row else None
    return period_of(at) if closed is None else max(period_of(at), period_after(closed))
