"""Hold, capture, release and expire: once each, in full, with an answer for every repetition."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, select

from gateway.money import ledger
from gateway.money.amounts import AmountError
from gateway.store.schema_money import entries, holds, settlements
from tests.unit.money.builders import NOON, billed, capture, hold


def test_a_capture_moves_cost_to_the_provider_and_the_rest_to_the_margin(connection: Connection) -> None:
    """The team's bill is split into what the vendor gets and what stays."""
    billed(connection, "h", price=120, cost=100, amount=150)
    assert ledger.trial_balance(connection) == {"team:beta": 120, "provider:vendor": -100, "margin": -20}


def test_a_price_under_the_cost_is_paid_by_the_margin(connection: Connection) -> None:
    """A price list may lie under a cost; the vendor's account says what it really charged."""
    billed(connection, "h", price=70, cost=100)
    assert ledger.trial_balance(connection) == {"team:beta": 70, "provider:vendor": -100, "margin": 30}


def test_a_free_render_is_settled_without_an_entry(connection: Connection) -> None:
    """Nothing moves for nothing."""
    billed(connection, "h", price=0, cost=0, amount=0)
    assert ledger.trial_balance(connection) == {}
    assert ledger.check(connection) == []


def test_a_capture_above_the_hold_is_billed_in_full_and_flagged(connection: Connection) -> None:
    """The excess is recorded, never dropped."""
    hold(connection, amount=100)
    assert capture(connection, price=130) == ledger.Captured(130, 30)
    row = connection.execute(select(settlements)).one()
    assert (row.price_micros, row.excess_micros) == (130, 30)


def test_a_released_or_expired_hold_costs_nothing(connection: Connection) -> None:
    """A job that did not deliver is not on any bill."""
    hold(connection, "one")
    hold(connection, "two")
    assert ledger.release(connection, "one", NOON, "canceled") == ledger.Released(100)
    assert ledger.expire(connection, "two", NOON, "deadline") == ledger.Expired(100)
    assert ledger.trial_balance(connection) == {}


@pytest.mark.parametrize("first", ["captured", "released", "expired"])
def test_a_second_settlement_is_told_of_the_first_and_changes_nothing(connection: Connection, first: str) -> None:
    """Late, duplicate and reordered events are answered, not obeyed."""
    hold(connection)
    verbs = {
        "captured": lambda: capture(connection),
        "released": lambda: ledger.release(connection, "h", NOON, "why"),
        "expired": lambda: ledger.expire(connection, "h", NOON, "why"),
    }
    verbs[first]()
    before = ledger.trial_balance(connection)
    for verb in verbs.values():
        assert verb() == ledger.AlreadySettled(first)  # type: ignore[arg-type]
    assert ledger.trial_balance(connection) == before
    assert connection.execute(select(settlements.c.kind)).scalars().all() == [first]


def test_an_unknown_hold_is_an_error(connection: Connection) -> None:
    """Settling what was never held is a mistake of the caller."""
    with pytest.raises(ledger.UnknownHoldError):
        capture(connection, "nothing")
    with pytest.raises(ledger.UnknownHoldError):
        ledger.release(connection, "nothing", NOON, "why")
    with pytest.raises(ledger.UnknownHoldError):
        ledger.expire(connection, "nothing", NOON, "why")


def test_one_job_has_one_hold(connection: Connection) -> None:
    """A second hold, under the same id or for the same job, is not made."""
    hold(connection)
    assert hold(connection) == ledger.AlreadyHeld("h")
    request = ledger.HoldRequest("other", "job-h", "beta", "b1", 5, NOON, NOON + 1)
    assert ledger.hold(connection, request) == ledger.AlreadyHeld("other")
    assert connection.execute(select(holds.c.id)).scalars().all() == ["h"]


def test_the_sweeper_expires_what_is_due_the_oldest_first(connection: Connection) -> None:
    """A hold's time is over at its end, not before, and settled ones are left alone."""
    for number in range(4):
        hold(connection, f"h{number}", at=NOON - number)
    capture(connection, "h3")
    assert ledger.due_holds(connection, NOON + 3598.5) == ["h2"]
    pages = [ledger.due_holds(connection, NOON + 3600, 1, after=last) for last in (None, "h2", "h1", "h0")]
    assert pages == [["h2"], ["h1"], ["h0"], []]
    for batch in (["h2", "h1"], ["h0"], []):
        due = ledger.due_holds(connection, NOON + 3600, 2)
        assert due == batch
        assert all(isinstance(ledger.expire(connection, one, NOON + 3600, "overdue"), ledger.Expired) for one in due)


@pytest.mark.parametrize("amount", [-1, 10**15 + 1, 1.5, float("nan"), True])
def test_impossible_amounts_never_reach_the_ledger(amount: int) -> None:
    """Negative, huge, fractional and not a number are refused where a booking is made."""
    with pytest.raises(AmountError):
        ledger.HoldRequest("h", "j", "beta", "b1", amount, NOON, NOON + 1)
    with pytest.raises(AmountError):
        ledger.Capture("h", amount, 1, "reported", "vendor", NOON, "delivered")
    with pytest.raises(AmountError):
        ledger.Capture("h", 1, amount, "reported", "vendor", NOON, "delivered")
    with pytest.raises(AmountError):
        ledger.Loss("j", "a", "vendor", amount, NOON, "why")
    with pytest.raises(AmountError):
        ledger.Suspense("j", "a", "vendor", amount, NOON, "why")
    with pytest.raises(AmountError):
        ledger.TopUp("t", "vendor", amount, NOON, "why")


@pytest.mark.parametrize("expires_at", [NOON, NOON - 1, float("nan")])
def test_a_hold_ends_after_it_begins(expires_at: float) -> None:
    """A hold that is over before it starts is a mistake."""
    with pytest.raises(ValueError, match="expire after it begins"):
        ledger.HoldRequest("h", "j", "beta", "b1", 1, NOON, expires_at)


def test_the_bill_explains_itself(connection: Connection) -> None:
    """Every entry names its hold, job, attempt, route and the vendor's own request id."""
    billed(connection, "h", price=120, cost=100, amount=150, request_id="vendor-7")
    rows = connection.execute(select(entries)).all()
    assert {row.reference for row in rows} == {"capture:h:cost", "capture:h:margin"}
    for row in rows:
        assert (row.hold_id, row.job_id, row.attempt_id) == ("h", "job-h", "attempt-h")
        assert (row.provider, row.route, row.provider_request_id) == ("vendor", "vendor/model", "vendor-7")
        assert row.period == "2026-10"


def test_tags_are_kept_with_the_hold_and_bounded(connection: Connection) -> None:
    """A few short texts by which bills are split, and no more."""
    hold(connection, "tagged", tags={"cost_centre": "42"})
    assert connection.execute(select(holds.c.tags)).scalar_one() == '{"cost_centre":"42"}'
    with pytest.raises(ValueError, match="at most 16 tags"):
        hold(connection, "many", tags={str(number): "" for number in range(17)})
    with pytest.raises(ValueError, match="too long"):
        hold(connection, "long", tags={"name": "x" * 257})
