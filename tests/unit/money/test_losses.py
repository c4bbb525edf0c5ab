"""Losses, suspense, top-ups and corrections: booked once, never to a team that has nothing to do with it."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from gateway.money import budgets, ledger
from tests.unit.money.builders import NOON, billed, budget, hold


def suspend(connection: Connection, amount: int = 100) -> ledger.Booked | ledger.AlreadyBooked:
    """Suspend a possible charge of one attempt."""
    return ledger.suspend(connection, ledger.Suspense("job", "a", "vendor", amount, NOON, "submit in doubt"))


def refund(hold_id: str = "h", amount: int = 30, number: int = 1, team: str = "beta") -> ledger.Correction:
    """A correction that gives a team money back."""
    return ledger.Correction(f"c{number}", "margin", f"team:{team}", amount, NOON, "goodwill", hold_id=hold_id)


def test_a_loss_is_the_operators_and_booked_once_an_attempt(connection: Connection) -> None:
    """What a vendor charged for a failure costs no team anything."""
    loss = ledger.Loss("job", "a", "vendor", 40, NOON, "render_failed")
    assert ledger.book_loss(connection, loss) == ledger.Booked(40)
    assert ledger.book_loss(connection, loss) == ledger.AlreadyBooked("loss:a")
    assert ledger.trial_balance(connection) == {"loss": 40, "provider:vendor": -40}


@pytest.mark.parametrize(
    ("charged", "expected"),
    [
        (0, {"suspense": 0, "provider:vendor": 0}),
        (40, {"suspense": 0, "loss": 40, "provider:vendor": -40}),
        (100, {"suspense": 0, "loss": 100, "provider:vendor": -100}),
        (130, {"suspense": 0, "loss": 130, "provider:vendor": -130}),
    ],
)
def test_suspense_ends_with_what_was_really_charged(
    connection: Connection, charged: int, expected: dict[str, int]
) -> None:
    """Nothing, less, just as much or more than was feared: the vendor's account ends with the truth."""
    suspend(connection)
    assert ledger.trial_balance(connection) == {"suspense": 100, "provider:vendor": -100}
    cleared = ledger.clear_suspense(connection, "a", charged_micros=charged, at=NOON, reason="reconciled")
    assert cleared == ledger.ClearedSuspense(charged, max(0, 100 - charged))
    assert ledger.trial_balance(connection) == expected


@pytest.mark.parametrize("first", [0, 40, 130])
@pytest.mark.parametrize("second", [0, 40, 130])
def test_suspense_ends_once_whatever_is_said_later(connection: Connection, first: int, second: int) -> None:
    """A second clearing, of any amount, changes nothing."""
    suspend(connection)
    ledger.clear_suspense(connection, "a", charged_micros=first, at=NOON, reason="one")
    before = ledger.trial_balance(connection)
    again = ledger.clear_suspense(connection, "a", charged_micros=second, at=NOON, reason="two")
    assert again == ledger.AlreadyBooked("clear:a")
    assert suspend(connection) == ledger.AlreadyBooked("suspend:a")
    assert ledger.trial_balance(connection) == before


def test_clearing_what_was_never_suspended_says_so(connection: Connection) -> None:
    """There is nothing to clear for an attempt without suspense."""
    answer = ledger.clear_suspense(connection, "b", charged_micros=1, at=NOON, reason="?")
    assert answer == ledger.NothingSuspended("b")


def test_a_top_up_raises_the_providers_account(connection: Connection) -> None:
    """Credit bought is there until it is charged."""
    assert ledger.top_up(connection, ledger.TopUp("t", "vendor", 500, NOON, "invoice 7")) == ledger.Booked(500)
    assert ledger.top_up(connection, ledger.TopUp("t", "vendor", 500, NOON, "again")) == ledger.AlreadyBooked(
        "top_up:t"
    )
    billed(connection, "h", price=100, cost=80)
    assert ledger.trial_balance(connection)["provider:vendor"] == 420


def test_a_refund_is_a_new_entry_and_frees_the_budget(connection: Connection) -> None:
    """A correction takes back what was billed, in the books and in the window that counted it."""
    budget(connection, 100)
    billed(connection, "h", price=90, cost=80)
    assert ledger.correct(connection, refund()) == ledger.Booked(30)
    assert ledger.correct(connection, refund()) == ledger.AlreadyBooked("correct:c1")
    (state,) = budgets.budget_states(connection, "beta", NOON)
    assert state.spent_micros == 60
    assert ledger.trial_balance(connection)["team:beta"] == 60
    assert ledger.check(connection) == []


def test_a_refund_never_exceeds_the_bill(connection: Connection) -> None:
    """The last micro can go back, and then no more."""
    billed(connection, "h", price=90, cost=80)
    ledger.correct(connection, refund(amount=60, number=1))
    with pytest.raises(ledger.CorrectionError, match="was billed 30"):
        ledger.correct(connection, refund(amount=31, number=2))
    ledger.correct(connection, refund(amount=30, number=3))
    with pytest.raises(ledger.CorrectionError, match="was billed 0"):
        ledger.correct(connection, refund(amount=1, number=4))


def test_a_correction_belongs_to_a_settled_hold_of_the_same_team(connection: Connection) -> None:
    """Open holds, unknown holds and other teams' holds are not corrected."""
    hold(connection, "open")
    billed(connection, "h")
    for correction in (refund("open"), refund("nothing"), refund("h", team="alpha")):
        with pytest.raises(ledger.CorrectionError):
            ledger.correct(connection, correction)


def test_a_correction_without_a_reason_is_refused() -> None:
    """Whoever changes a bill says why."""
    with pytest.raises(ledger.CorrectionError, match="reason"):
        ledger.Correction("c", "margin", "loss", 1, NOON, " ")


def test_a_correction_of_the_cost_leaves_the_teams_bill_alone(connection: Connection) -> None:
    """When a vendor charged otherwise than it said, the margin carries it."""
    budget(connection, 100)
    billed(connection, "h", price=90, cost=80)
    correction = ledger.Correction("c", "margin", "provider:vendor", 5, NOON, "invoice", hold_id="h")
    assert ledger.correct(connection, correction) == ledger.Booked(5)
    assert ledger.trial_balance(connection) == {"team:beta": 90, "provider:vendor": -85, "margin": -5}
    assert ledger.check(connection) == []
