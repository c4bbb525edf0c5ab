"""Our books against the vendor's list of charges: matched by request id, told apart by day.

    import_charges   keep the vendor's rows; a row already known is left as it is
    reconcile        what agrees, what differs, what only one side has, and which suspense the list ends

Nothing is changed by looking; `mending` books what a reconciliation proposes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, case, func, select

from gateway.money.transfers import SUSPENSE, provider_account
from gateway.money.true_cost import BALANCE_TRUST_FACTOR
from gateway.money.usage_files import VendorCharge
from gateway.money.windows import local_day
from gateway.store.conflict import insert_new
from gateway.store.schema_money import entries, vendor_charges

# A charge that may belong to a submit in doubt lies no further from it than this: a render takes minutes.
SUSPENSE_WINDOW_S = 3600.0

Cause = Literal["capture", "loss", "suspense"]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of imported rows; `conflicting` are request ids that were known with another amount."""

    new: int
    known: int
    conflicting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OurCharge:
    """What our books say a vendor charged for one render, corrections included. `in_suspense_micros` waits in doubt.

    `corrections` counts those booked so far; `hold_id` is only known of a render that was billed. `suspended_as` is the
    name of what waits.
    """

    request_id: str | None
    attempt_id: str | None
    cause: Cause
    amount_micros: int
    at: float
    in_suspense_micros: int = 0
    hold_id: str | None = None
    job_id: str | None = None
    route: str | None = None
    corrections: int = 0
    suspended_as: str | None = None

    @property
    def settled_micros(self) -> int:
        """What is booked for good."""
        return self.amount_micros - self.in_suspense_micros


@dataclass(frozen=True, slots=True)
class Difference:
    """Both sides know the render and disagree on the amount."""

    ours: OurCharge
    theirs: VendorCharge


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a suspense ends: as this charge, or with None because the complete list does not have it."""

    ours: OurCharge
    theirs: VendorCharge | None


@dataclass(frozen=True, slots=True)
class DayDrift:
    """One day: the vendor's charges less ours, and how many of each have no other side."""

    day: str
    ours_micros: int
    theirs_micros: int
    only_ours: int
    only_theirs: int

    @property
    def drift_micros(self) -> int:
        """What the vendor charged above our books; 0 is agreement."""
        return self.theirs_micros - self.ours_micros


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One provider's charges from `since` to `until` (unix seconds, end excluded), compared."""

    provider: str
    days: tuple[DayDrift, ...]
    agreed: int
    differences: tuple[Difference, ...]
    only_ours: tuple[OurCharge, ...]
    only_theirs: tuple[VendorCharge, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def drift_micros(self) -> int:
        """The drift of all days together."""
        return sum(day.drift_micros for day in self.days)


def import_charges(connection: Connection, charges: Iterable[VendorCharge], at: float) -> ImportResult:
    """Keep a vendor's charges. A request id that is known keeps the amount it came with first."""
    new, known, conflicting = 0, 0, []
    for charge in charges:
        row = {
            "provider": charge.provider,
            "request_id": charge.request_id,
            "amount_micros": charge.amount_micros,
            "at": charge.at,
            "imported_at": at,
        }
        if insert_new(connection, vendor_charges, row):
            new += 1
            continue
        known += 1
        if _known_amount(connection, charge) != charge.amount_micros:
            conflicting.append(charge.request_id)
    return ImportResult(new, known, tuple(conflicting))


def reconcile(
    connection: Connection,
    provider: str,
    *,
    since: float,
    until: float,
    complete_until: float | None = None,
    timezone: str = "UTC",
) -> Reconciliation:
    """Compare the imported charges of a provider with our books.

    `complete_until` says up to when the vendor's list is known to be whole; without it nothing is concluded from a
    charge being absent. A pair counts on the vendor's day, wherever ours was booked.
    """
    sides = _match(_our_charges(connection, provider), _their_charges(connection, provider))
    pairs = [pair for pair in sides.pairs if since <= pair[1].at < until]
    only_ours = [one for one in sides.only_ours if since <= one.at < until]
    only_theirs = [charge for charge in sides.only_theirs if since <= charge.at < until]
    never_charged = [
        one
        for one in only_ours
        if one.in_suspense_micros and complete_until is not None and one.at + SUSPENSE_WINDOW_S <= complete_until
    ]
    return Reconciliation(
        provider=provider,
        days=_days(pairs, only_ours, only_theirs, timezone),
        agreed=sum(ours.amount_micros == theirs.amount_micros for ours, theirs in pairs),
        differences=tuple(
            Difference(ours, theirs)
            for ours, theirs in pairs
            if ours.amount_micros != theirs.amount_micros and not ours.in_suspense_micros
        ),
        only_ours=tuple(only_ours),
        only_theirs=tuple(only_theirs),
        verdicts=(
            *(Verdict(ours, theirs) for ours, theirs in pairs if ours.in_suspense_micros),
            *(Verdict(ours, None) for ours in never_charged),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Matching:
    pairs: list[tuple[OurCharge, VendorCharge]]
    only_ours: list[OurCharge]
    only_theirs: list[VendorCharge]


def _match(ours: Sequence[OurCharge], theirs: Sequence[VendorCharge]) -> _Matching:
    """Pair by request id, then give what waits in suspense the charges that nothing else explains."""
    by_request: dict[str | None, VendorCharge] = {charge.request_id: charge for charge in theirs}
    named = [one for one in ours if one.request_id in by_request]
    pairs = [(one, by_request.pop(one.request_id)) for one in named]
    found = set(named)
    unnamed = [one for one in ours if one not in found]
    pairs += _pair_suspense([one for one in unnamed if one.in_suspense_micros], list(by_request.values()))
    paired_ours, paired_theirs = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    return _Matching(
        pairs=pairs,
        only_ours=[one for one in unnamed if one not in paired_ours and one.amount_micros],
        only_theirs=[charge for charge in by_request.values() if charge not in paired_theirs],
    )


def _pair_suspense(suspended: Sequence[OurCharge], charges: list[VendorCharge]) -> list[tuple[OurCharge, VendorCharge]]:
    """Give every suspense the unclaimed charge that fits it best: the same amount first, then the nearest in time.

    A charge of an amount that cannot be believed stays a stranger's.
    """
    possible = sorted(
        (
            (one.in_suspense_micros != charge.amount_micros, abs(one.at - charge.at), one.at, number, other)
            for number, one in enumerate(suspended)
            for other, charge in enumerate(charges)
            if abs(one.at - charge.at) <= SUSPENSE_WINDOW_S
            and _is_believable(one.in_suspense_micros, charge.amount_micros)
        ),
    )
    pairs: dict[int, int] = {}
    for *_, number, other in possible:
        if number not in pairs and other not in pairs.values():
            pairs[number] = other
    return [(suspended[number], charges[other]) for number, other in sorted(pairs.items())]


def _is_believable(expected_micros: int, charged_micros: int) -> bool:
    smaller, larger = sorted((expected_micros, charged_micros))
    return larger <= BALANCE_TRUST_FACTOR * smaller


def _days(
    pairs: Iterable[tuple[OurCharge, VendorCharge]],
    only_ours: Iterable[OurCharge],
    only_theirs: Iterable[VendorCharge],
    timezone: str,
) -> tuple[DayDrift, ...]:
    days: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for ours, theirs in pairs:
        _count(days[local_day(theirs.at, timezone)], (ours.amount_micros, theirs.amount_micros, 0, 0))
    for ours in only_ours:
        _count(days[local_day(ours.at, timezone)], (ours.amount_micros, 0, 1, 0))
    for theirs in only_theirs:
        _count(days[local_day(theirs.at, timezone)], (0, theirs.amount_micros, 0, 1))
    return tuple(DayDrift(day, *counts) for day, counts in sorted(days.items()))


def _count(counts: list[int], change: tuple[int, int, int, int]) -> None:
    counts[:] = [count + more for count, more in zip(counts, change, strict=True)]


def _their_charges(connection: Connection, provider: str) -> list[VendorCharge]:
    query = (
        select(vendor_charges)
        .where(vendor_charges.c.provider == provider)
        .order_by(vendor_charges.c.at, vendor_charges.c.request_id)
    )
    return [VendorCharge(row.provider, row.request_id, row.amount_micros, row.at) for row in connection.execute(query)]


def _our_charges(connection: Connection, provider: str) -> list[OurCharge]:
    """Every render that our books have on the provider's account, from all time: corrections may come much later."""
    account = provider_account(provider)
    suspense = case((entries.c.kind.in_(("suspend", "clear")), 1), else_=0).label("suspense")
    query = (
        select(
            suspense,
            entries.c.attempt_id,
            entries.c.provider_request_id,
            func.min(entries.c.at).label("at"),
            func.sum(_signed(account)).label("amount_micros"),
            func.sum(-_signed(SUSPENSE)).label("in_suspense_micros"),
            func.max(case((entries.c.kind == "capture", 1), else_=0)).label("captured"),
            func.max(entries.c.hold_id).label("hold_id"),
            func.max(entries.c.job_id).label("job_id"),
            func.max(entries.c.route).label("route"),
            func.sum(case((entries.c.kind == "correct", 1), else_=0)).label("corrections"),
        )
        .where(entries.c.provider == provider, entries.c.kind != "top_up")
        .group_by(suspense, entries.c.attempt_id, entries.c.provider_request_id)
        .order_by(func.min(entries.c.at))
    )
    rows = list(connection.execute(query))
    # A suspense learns its request id only when it is cleared, so its rows come together by the attempt.
    cleared_as = {row.attempt_id: row.provider_request_id for row in rows if row.suspense and row.provider_request_id}
    merged: dict[tuple[str, str | None], OurCharge] = {}
    for row in rows:
        request_id = cleared_as.get(row.attempt_id) if row.suspense else row.provider_request_id
        kind = "request" if request_id else "suspense" if row.suspense else "attempt"
        _merge(merged, (kind, request_id or row.attempt_id), _our_charge(row, request_id))
    return list(merged.values())


def _our_charge(row: Any, request_id: str | None) -> OurCharge:
    return OurCharge(
        request_id=request_id,
        attempt_id=row.attempt_id,
        cause="suspense" if row.suspense else "capture" if row.captured else "loss",
        amount_micros=int(row.amount_micros),
        at=row.at,
        in_suspense_micros=int(row.in_suspense_micros),
        hold_id=row.hold_id,
        job_id=row.job_id,
        route=row.route,
        corrections=int(row.corrections),
        suspended_as=row.attempt_id if row.suspense and row.in_suspense_micros else None,
    )


def _merge(merged: dict[tuple[str, str | None], OurCharge], identity: tuple[str, str | None], one: OurCharge) -> None:
    before = merged.get(identity)
    if before is None:
        merged[identity] = one
        return
    merged[identity] = replace(
        before,
        attempt_id=before.attempt_id or one.attempt_id,
        cause=before.cause if before.cause == "capture" else one.cause if one.cause == "capture" else before.cause,
        amount_micros=before.amount_micros + one.amount_micros,
        in_suspense_micros=before.in_suspense_micros + one.in_suspense_micros,
        hold_id=before.hold_id or one.hold_id,
        job_id=before.job_id or one.job_id,
        route=before.route or one.route,
        corrections=before.corrections + one.corrections,
        suspended_as=before.suspended_as or one.suspended_as,
    )


def _signed(account: str) -> Any:
    """SQL for what an entry takes from an account: positive on its credit side, negative on its debit side."""
    credited = case((entries.c.credit == account, entries.c.amount_micros), else_=0)
    debited = case((entries.c.debit == account, entries.c.amount_micros), else_=0)
    return credited - debited


def _known_amount(connection: Connection, charge: VendorCharge) -> int:
    query = select(vendor_charges.c.amount_micros).where(
        vendor_charges.c.provider == charge.provider, vendor_charges.c.request_id == charge.request_id
    )
    return int(connection.execute(query).scalar_one())
