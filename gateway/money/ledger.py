"""The ledger: money reserved, spent, given back, and booked where a team is not to pay.

    hold      reserve the worst case of a plan            -> Held | BudgetRefusal | AlreadyHeld
    capture   bill the true price of a delivered job      -> Captured | AlreadySettled
    release   give a hold back                            -> Released | AlreadySettled
    expire    give it back because its time is over       -> Expired | AlreadySettled

A hold settles once, whatever repeats or arrives late: the first word wins and every later one is told so. Entries are
never changed; a correction is a new one. A capture moves

    team -> provider     what the team paid of the vendor's cost
    team -> margin       what it paid above, or
    margin -> provider   what the plan's price left uncovered
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from sqlalchemy import Connection, and_, bindparam, insert, literal_column, or_, select, update

from gateway.money import budget_counts, budgets
from gateway.money.amounts import require_micros
from gateway.money.audit import check, trial_balance
from gateway.money.budgets import BudgetRefusal, SoftLimit
from gateway.money.losses import (
    AlreadyBooked,
    Booked,
    ClearedSuspense,
    Correction,
    CorrectionError,
    Loss,
    NothingSuspended,
    Suspense,
    TopUp,
    book_loss,
    clear_suspense,
    correct,
    suspend,
    top_up,
)
from gateway.money.tags import tags_text
from gateway.money.transfers import MARGIN, Fact, book, provider_account, team_account
from gateway.store.conflict import insert_new
from gateway.store.prepared import Prepared
from gateway.store.schema_money import holds, settlements

__all__ = [
    "AlreadyBooked",
    "AlreadyHeld",
    "AlreadySettled",
    "Booked",
    "BudgetRefusal",
    "Capture",
    "Captured",
    "ClearedSuspense",
    "Correction",
    "CorrectionError",
    "Expired",
    "Held",
    "HoldRequest",
    "Loss",
    "NothingSuspended",
    "Released",
    "SettlementKind",
    "SoftLimit",
    "Suspense",
    "TopUp",
    "UnknownHoldError",
    "book_loss",
    "capture",
    "check",
    "clear_suspense",
    "correct",
    "due_holds",
    "expire",
    "hold",
    "release",
    "suspend",
    "top_up",
    "trial_balance",
]

SettlementKind = Literal["captured", "released", "expired"]


class UnknownHoldError(LookupError):
    """There is no such hold: a caller's mistake, never a vendor's."""


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """An amount to reserve for a job, from `at` until `expires_at` (unix seconds), with its cost-centre tags."""

    hold_id: str
    job_id: str
    team_id: str
    key_id: str | None
    amount_micros: int
    at: float
    expires_at: float
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_micros(self.amount_micros)
        if not self.expires_at > self.at:
            raise ValueError(f"a hold must expire after it begins: {self.expires_at} is not after {self.at}")


@dataclass(frozen=True, slots=True)
class Held:
    """The amount is reserved. `warnings` are the soft limits it stands at or over."""

    hold_id: str
    warnings: tuple[SoftLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class AlreadyHeld:
    """This hold, or one for the same job, exists; nothing changed."""

    hold_id: str


@dataclass(frozen=True, slots=True)
class Capture:
    """A delivered job's bill: what the team pays, what the vendor charged, and how that cost is known.

    `cost_source` is one of `true_cost.SOURCES`.
    """

    hold_id: str
    price_micros: int
    cost_micros: int
    cost_source: str
    provider: str
    at: float
    reason: str
    route: str | None = None
    attempt_id: str | None = None
    provider_request_id: str | None = None

    def __post_init__(self) -> None:
        require_micros(self.price_micros, "price_micros")
        require_micros(self.cost_micros, "cost_micros")


@dataclass(frozen=True, slots=True)
class Captured:
    """The team was billed. `excess_micros` is what the price came to above the hold, billed all the same."""

    price_micros: int
    excess_micros: int


@dataclass(frozen=True, slots=True)
class Released:
    """The hold was given back."""

    amount_micros: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The hold's time was over and it was given back."""

    amount_micros: int


@dataclass(frozen=True, slots=True)
class AlreadySettled:
    """The hold was settled before, in this way; nothing changed."""

    kind: SettlementKind


def hold(connection: Connection, request: HoldRequest) -> Held | BudgetRefusal | AlreadyHeld:
    """Reserve an amount in every budget that applies, or in none. Raises UnknownTeamError."""
    reservation = budgets.reserve(
        connection,
        team_id=request.team_id,
        key_id=request.key_id,
        amount_micros=request.amount_micros,
        at=request.at,
    )
    if isinstance(reservation, BudgetRefusal):
        return reservation
    values = {
        "id": request.hold_id,
        "job_id": request.job_id,
        "team_id": request.team_id,
        "key_id": request.key_id,
        "amount_micros": request.amount_micros,
        "tags": tags_text(request.tags),
        "created_at": request.at,
        "expires_at": request.expires_at,
    }
    if not insert_new(connection, holds, values):
        budget_counts.give_back(connection, reservation.counted_in, request.amount_micros)
        return AlreadyHeld(request.hold_id)
    budget_counts.count_hold(connection, request.hold_id, reservation.counted_in)
    return Held(request.hold_id, reservation.warnings)


def capture(connection: Connection, bill: Capture) -> Captured | AlreadySettled:
    """Bill a delivered job in full, also above its hold. Raises UnknownHoldError."""
    settled = _close(connection, bill.hold_id, "captured")
    if settled is None:
        return _already(connection, bill.hold_id)
    excess_micros = max(0, bill.price_micros - settled.amount_micros)
    values = {
        "hold_id": bill.hold_id,
        "kind": "captured",
        "price_micros": bill.price_micros,
        "cost_micros": bill.cost_micros,
        "excess_micros": excess_micros,
        "cost_source": bill.cost_source,
        "provider": bill.provider,
        "route": bill.route,
        "attempt_id": bill.attempt_id,
        "provider_request_id": bill.provider_request_id,
        "at": bill.at,
        "reason": bill.reason,
    }
    _SETTLE.changed(connection, values)
    _book_bill(connection, bill, settled)
    budget_counts.settle(connection, bill.hold_id, settled.amount_micros, bill.price_micros)
    return Captured(bill.price_micros, excess_micros)


def release(connection: Connection, hold_id: str, at: float, reason: str) -> Released | AlreadySettled:
    """Give a hold back: the job costs the team nothing. Raises UnknownHoldError."""
    settled = _close(connection, hold_id, "released")
    if settled is None:
        return _already(connection, hold_id)
    _give_back(connection, settled, kind="released", at=at, reason=reason)
    return Released(settled.amount_micros)


def expire(connection: Connection, hold_id: str, at: float, reason: str) -> Expired | AlreadySettled:
    """Give a hold back because the time of its job is over. Raises UnknownHoldError."""
    settled = _close(connection, hold_id, "expired")
    if settled is None:
        return _already(connection, hold_id)
    _give_back(connection, settled, kind="expired", at=at, reason=reason)
    return Expired(settled.amount_micros)


def due_holds(connection: Connection, at: float, count_max: int = 100, *, after: str | None = None) -> list[str]:
    """The ids of open holds whose time is over, the oldest first; with `after` those that come after this one."""
    query = (
        select(holds.c.id)
        .where(holds.c.state == literal_column("'open'"), holds.c.expires_at <= at)  # as its index says it
        .order_by(holds.c.expires_at, holds.c.id)
        .limit(count_max)
    )
    if after is not None:
        last = holds.alias("last")
        expired_at = select(last.c.expires_at).where(last.c.id == after).scalar_subquery()
        same = and_(holds.c.expires_at == expired_at, holds.c.id > after)
        query = query.where(or_(holds.c.expires_at > expired_at, same))
    return list(connection.execute(query).scalars())


# Whoever changes the row from `open` settles the hold; everybody else, at the same time or later, finds it settled.
_CLOSE = Prepared(
    update(holds)
    .where(holds.c.id == bindparam("of_hold"), holds.c.state == "open")
    .values(state=bindparam("kind"))
    .returning(holds.c.id, holds.c.job_id, holds.c.team_id, holds.c.amount_micros)
)


_SETTLE = Prepared(insert(settlements))


class _Closed(NamedTuple):
    id: str
    job_id: str
    team_id: str
    amount_micros: int


def _close(connection: Connection, hold_id: str, kind: SettlementKind) -> _Closed | None:
    row = _CLOSE.one(connection, {"of_hold": hold_id, "kind": kind})
    return None if row is None else _Closed(*row)


def _already(connection: Connection, hold_id: str) -> AlreadySettled:
    state = connection.execute(select(holds.c.state).where(holds.c.id == hold_id)).scalar_one_or_none()
    if state is None:
        raise UnknownHoldError(hold_id)
    return AlreadySettled(cast("SettlementKind", state))


def _give_back(connection: Connection, settled: _Closed, *, kind: SettlementKind, at: float, reason: str) -> None:
    _SETTLE.changed(connection, {"hold_id": settled.id, "kind": kind, "at": at, "reason": reason})
    budget_counts.settle(connection, settled.id, settled.amount_micros, 0)


def _book_bill(connection: Connection, bill: Capture, settled: _Closed) -> None:
    team, provider = team_account(settled.team_id), provider_account(bill.provider)
    covered_micros = min(bill.price_micros, bill.cost_micros)
    transfers = (
        ("cost", team, provider, covered_micros),
        ("margin", team, MARGIN, bill.price_micros - covered_micros),
        ("uncovered", MARGIN, provider, bill.cost_micros - covered_micros),
    )
    for part, debit, credit, amount_micros in transfers:
        fact = Fact(
            reference=f"capture:{bill.hold_id}:{part}",
            kind="capture",
            at=bill.at,
            reason=bill.reason,
            hold_id=bill.hold_id,
            job_id=settled.job_id,
            attempt_id=bill.attempt_id,
            provider=bill.provider,
            route=bill.route,
            provider_request_id=bill.provider_request_id,
        )
        book(connection, fact, debit=debit, credit=credit, amount_micros=amount_micros)
