"""Book what a reconciliation proposes: suspense ends, amounts are corrected, and what nobody can explain on request."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.money.losses import Booked, ClearedSuspense, Correction, clear_suspense, correct
from gateway.money.reconcile import OurCharge, Reconciliation
from gateway.money.transfers import LOSS, MARGIN, provider_account


@dataclass(frozen=True, slots=True)
class Mended:
    """How many bookings were made of each kind."""

    suspense_charged: int
    suspense_returned: int
    corrected: int
    accepted: int


def mend(connection: Connection, found: Reconciliation, at: float, *, accept_unmatched: bool = False) -> Mended:
    """Make our books agree with the vendor's list where it tells.

    Charges that only one side has are left for a person to look at; with `accept_unmatched` the vendor's word is taken
    for them too. Doing it twice changes nothing more.
    """
    charged, returned = _end_suspense(connection, found, at)
    corrected = 0
    for difference in found.differences:
        change_micros = difference.theirs.amount_micros - difference.ours.amount_micros
        corrected += _correct(connection, found.provider, difference.ours, change_micros, at=at)
    accepted = _accept(connection, found, at) if accept_unmatched else 0
    return Mended(charged, returned, corrected, accepted)


def _end_suspense(connection: Connection, found: Reconciliation, at: float) -> tuple[int, int]:
    charged = returned = 0
    for verdict in found.verdicts:
        attempt_id = verdict.ours.suspended_as
        if attempt_id is None:
            continue
        if verdict.theirs is None:
            reason = "not on the vendor's complete list of charges"
            ended = clear_suspense(connection, attempt_id, charged_micros=0, at=at, reason=reason)
            returned += isinstance(ended, ClearedSuspense)
            continue
        ended = clear_suspense(
            connection,
            attempt_id,
            charged_micros=max(0, verdict.theirs.amount_micros - verdict.ours.settled_micros),
            at=at,
            reason="on the vendor's list of charges",
            provider_request_id=verdict.theirs.request_id,
        )
        charged += isinstance(ended, ClearedSuspense)
    return charged, returned


def _accept(connection: Connection, found: Reconciliation, at: float) -> int:
    accepted = 0
    for theirs in found.only_theirs:
        unknown = OurCharge(theirs.request_id, None, "loss", 0, theirs.at)
        accepted += _correct(connection, found.provider, unknown, theirs.amount_micros, at=at)
    for ours in found.only_ours:
        if not ours.in_suspense_micros:
            accepted += _correct(connection, found.provider, ours, -ours.amount_micros, at=at)
    return accepted


def _correct(connection: Connection, provider: str, ours: OurCharge, change_micros: int, *, at: float) -> bool:
    """Change what the vendor's account was charged; a billed render's difference is margin, any other's is loss."""
    account = provider_account(provider)
    other = MARGIN if ours.cause == "capture" else LOSS
    sides = (other, account) if change_micros > 0 else (account, other)
    name, new_micros = ours.request_id or ours.attempt_id, ours.amount_micros + change_micros
    correction = Correction(
        # The same finding is booked once; a later one again, even when it goes from the same amount to the same.
        correction_id=f"reconcile:{provider}:{name}:{ours.amount_micros}->{new_micros}:{ours.corrections}",
        debit=sides[0],
        credit=sides[1],
        amount_micros=abs(change_micros),
        at=at,
        reason="reconciled with the vendor's list of charges",
        hold_id=ours.hold_id if ours.cause == "capture" else None,
        job_id=ours.job_id,
        route=ours.route,
        attempt_id=ours.attempt_id,
        provider=provider,
        provider_request_id=ours.request_id,
    )
    return isinstance(correct(connection, correction), Booked)
