"""Money that no team pays: vendor charges for failed attempts, possible duplicates, top-ups and corrections.

    book_loss        loss -> provider       a failed or needless attempt was charged
    suspend          suspense -> provider   an attempt in doubt may have been charged
    in_suspense      what was suspended and not cleared yet
    clear_suspense   loss -> suspense       it was; or provider -> suspense: it was not
    top_up           provider -> treasury   credit was bought
    correct          any two accounts       a new entry that mends an old one, with its reason

Each is booked once for its attempt or id; a repetition changes nothing and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, literal, literal_column, select

from gateway.money import budget_counts
from gateway.money.amounts import require_micros
from gateway.money.transfers import LOSS, SUSPENSE, TREASURY, Fact, book, provider_account, team_account
from gateway.store.schema_money import entries, holds

# After an attempt's id: the suspense of what its vendor reported above what can be believed.
COST_SUFFIX = "/cost"


class CorrectionError(ValueError):
    """A correction that cannot be: the sentence says why."""


@dataclass(frozen=True, slots=True)
class Booked:
    """The entries were written."""

    amount_micros: int


@dataclass(frozen=True, slots=True)
class AlreadyBooked:
    """The same fact was booked before; nothing changed."""

    reference: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What a vendor charged for an attempt that delivered nothing a team pays for."""

    job_id: str
    attempt_id: str
    provider: str
    amount_micros: int
    at: float
    reason: str
    route: str | None = None
    provider_request_id: str | None = None

    def __post_init__(self) -> None:
        require_micros(self.amount_micros)


@dataclass(frozen=True, slots=True)
class Suspense:
    """What a vendor may have charged for an attempt whose fate is not known."""

    job_id: str
    attempt_id: str
    provider: str
    amount_micros: int
    at: float
    reason: str
    route: str | None = None
    provider_request_id: str | None = None

    def __post_init__(self) -> None:
        require_micros(self.amount_micros)


@dataclass(frozen=True, slots=True)
class InSuspense:
    """A suspense that nobody has cleared yet.

    `name` is its attempt's id, with `/2` for a second submit's, and `COST_SUFFIX` for a reported cost in dispute.
    """

    name: str
    job_id: str
    provider: str
    route: str | None
    amount_micros: int
    at: float
    reason: str

    @property
    def attempt_id(self) -> str:
        """The attempt whose submit it was."""
        return self.name.partition("/")[0]

    @property
    def submit(self) -> int:
        """Which submit of its attempt it was, counted from 1."""
        return int(self.name.partition("/")[2] or 1)

    @property
    def is_cost(self) -> bool:
        """Whether the render is known and only what it cost is not."""
        return self.name.endswith(COST_SUFFIX)


@dataclass(frozen=True, slots=True)
class ClearedSuspense:
    """A suspense came to its end: this much was charged and lost, this much was never charged."""

    charged_micros: int
    returned_micros: int


@dataclass(frozen=True, slots=True)
class NothingSuspended:
    """There is no suspense for this attempt."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class TopUp:
    """Credit bought at a provider, or the credit that was there when vidgate began to count."""

    top_up_id: str
    provider: str
    amount_micros: int
    at: float
    reason: str

    def __post_init__(self) -> None:
        require_micros(self.amount_micros)


@dataclass(frozen=True, slots=True)
class Correction:
    """A transfer that mends earlier ones. With `hold_id` it changes what that hold's team was billed for it.

    The job of a hold is known; `job_id` and `route` say whose loss a correction without a hold changes.
    """

    correction_id: str
    debit: str
    credit: str
    amount_micros: int
    at: float
    reason: str
    hold_id: str | None = None
    attempt_id: str | None = None
    provider: str | None = None
    provider_request_id: str | None = None
    job_id: str | None = None
    route: str | None = None

    def __post_init__(self) -> None:
        require_micros(self.amount_micros)
        if not self.reason.strip():
            raise CorrectionError("a correction needs a reason")


def book_loss(connection: Connection, loss: Loss) -> Booked | AlreadyBooked:
    """Book a vendor's charge to the operator; once an attempt."""
    fact = _fact_of_attempt(loss, "loss")
    written = book(
        connection, fact, debit=LOSS, credit=provider_account(loss.provider), amount_micros=loss.amount_micros
    )
    return Booked(loss.amount_micros) if written else AlreadyBooked(fact.reference)


def suspend(connection: Connection, suspense: Suspense) -> Booked | AlreadyBooked:
    """Put a possible charge into suspense; once an attempt. The team's account is not touched."""
    fact = _fact_of_attempt(suspense, "suspend")
    account = provider_account(suspense.provider)
    written = book(connection, fact, debit=SUSPENSE, credit=account, amount_micros=suspense.amount_micros)
    return Booked(suspense.amount_micros) if written else AlreadyBooked(fact.reference)


def in_suspense(connection: Connection, *, job_id: str | None = None) -> list[InSuspense]:
    """Every suspense that nobody has cleared yet, or a job's, the oldest first."""
    cleared = entries.alias("cleared")
    clearing = select(cleared.c.id).where(cleared.c.reference == literal("clear:") + entries.c.attempt_id)
    # In the index's own words: with a parameter in its place SQLite walks all entries there ever were.
    is_suspense = entries.c.kind == literal_column("'suspend'")
    query = select(entries).where(is_suspense, ~clearing.exists()).order_by(entries.c.at, entries.c.id)
    rows = connection.execute(query if job_id is None else query.where(entries.c.job_id == job_id))
    return [
        InSuspense(row.attempt_id, row.job_id, row.provider, row.route, row.amount_micros, row.at, row.reason)
        for row in rows
    ]


def clear_suspense(
    connection: Connection,
    attempt_id: str,
    *,
    charged_micros: int,
    at: float,
    reason: str,
    provider_request_id: str | None = None,
) -> ClearedSuspense | AlreadyBooked | NothingSuspended:
    """End an attempt's suspense with what the vendor really charged: that becomes loss, the rest goes back."""
    require_micros(charged_micros, "charged_micros")
    row = connection.execute(select(entries).where(entries.c.reference == f"suspend:{attempt_id}")).one_or_none()
    if row is None:
        return NothingSuspended(attempt_id)
    account = provider_account(row.provider)
    lost = min(charged_micros, row.amount_micros)
    parts = [
        (LOSS, SUSPENSE, lost),
        (account, SUSPENSE, row.amount_micros - lost),
        (LOSS, account, charged_micros - lost),
    ]
    # The first transfer that is not empty carries the reference, so that a second clearing of any amount is refused.
    moving = [part for part in parts if part[2] > 0]
    for number, (debit, credit, amount_micros) in enumerate(moving):
        fact = Fact(
            reference=f"clear:{attempt_id}" if number == 0 else f"clear:{attempt_id}:rest",
            kind="clear",
            at=at,
            reason=reason,
            job_id=row.job_id,
            attempt_id=attempt_id,
            provider=row.provider,
            route=row.route,
            provider_request_id=provider_request_id or row.provider_request_id,
        )
        if not book(connection, fact, debit=debit, credit=credit, amount_micros=amount_micros):
            return AlreadyBooked(fact.reference)
    return ClearedSuspense(charged_micros, row.amount_micros - lost)


def top_up(connection: Connection, bought: TopUp) -> Booked | AlreadyBooked:
    """Book credit bought at a provider."""
    reference = f"top_up:{bought.top_up_id}"
    fact = Fact(reference=reference, kind="top_up", at=bought.at, reason=bought.reason, provider=bought.provider)
    account = provider_account(bought.provider)
    written = book(connection, fact, debit=account, credit=TREASURY, amount_micros=bought.amount_micros)
    return Booked(bought.amount_micros) if written else AlreadyBooked(reference)


def correct(connection: Connection, correction: Correction) -> Booked | AlreadyBooked:
    """Book a correction. Raises CorrectionError when it would take back more than the hold was billed."""
    job_id, change_micros = _effect_on_hold(connection, correction)
    fact = Fact(
        reference=f"correct:{correction.correction_id}",
        kind="correct",
        at=correction.at,
        reason=correction.reason,
        hold_id=correction.hold_id,
        job_id=job_id or correction.job_id,
        attempt_id=correction.attempt_id,
        provider=correction.provider,
        route=correction.route,
        provider_request_id=correction.provider_request_id,
    )
    amount_micros = correction.amount_micros
    if not book(connection, fact, debit=correction.debit, credit=correction.credit, amount_micros=amount_micros):
        return AlreadyBooked(fact.reference)
    if correction.hold_id is not None and change_micros != 0:
        budget_counts.correct(connection, correction.hold_id, change_micros)
    return Booked(amount_micros)


def _effect_on_hold(connection: Connection, correction: Correction) -> tuple[str | None, int]:
    """The hold's job and the change of its bill; (None, 0) without a hold."""
    if correction.hold_id is None:
        return None, 0
    # The row is locked where the database locks rows, so that two corrections do not both take back the last cent.
    query = select(holds.c.job_id, holds.c.team_id, holds.c.state).where(holds.c.id == correction.hold_id)
    hold = connection.execute(query.with_for_update()).one_or_none()
    if hold is None or hold.state == "open":
        raise CorrectionError(f"hold {correction.hold_id} does not exist or is not settled yet")
    account = team_account(hold.team_id)
    sides = (correction.debit, correction.credit)
    if any(side.startswith("team:") and side != account for side in sides):
        raise CorrectionError(f"hold {correction.hold_id} belongs to another team")
    change = {correction.debit: 1, correction.credit: -1}.get(account, 0) * correction.amount_micros
    billed = _billed(connection, correction.hold_id, account)
    if billed + change < 0 and not _booked(connection, correction):
        raise CorrectionError(f"hold {correction.hold_id} was billed {billed} micro-USD: no more can go back")
    return hold.job_id, change


def _booked(connection: Connection, correction: Correction) -> bool:
    reference = f"correct:{correction.correction_id}"
    return connection.execute(select(entries.c.id).where(entries.c.reference == reference)).first() is not None


def _billed(connection: Connection, hold_id: str, account: str) -> int:
    signed = case((entries.c.debit == account, entries.c.amount_micros), else_=-entries.c.amount_micros)
    sides = (entries.c.debit == account) | (entries.c.credit == account)
    total: Any = connection.execute(select(func.sum(signed)).where(entries.c.hold_id == hold_id, sides)).scalar_one()
    return int(total or 0)


def _fact_of_attempt(charge: Loss | Suspense, kind: str) -> Fact:
    return Fact(
        reference=f"{kind}:{charge.attempt_id}",
        kind=kind,
        at=charge.at,
        reason=charge.reason,
        job_id=charge.job_id,
        attempt_id=charge.attempt_id,
        provider=charge.provider,
        route=charge.route,
        provider_request_id=charge.provider_request_id,
    )
