"""Reconciliation: every charge has two sides, or is named; suspense ends by evidence; mending leaves no drift."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from gateway.money import ledger
from gateway.money.losses import COST_SUFFIX
from gateway.money.mending import Mended, mend
from gateway.money.reconcile import DayDrift, Reconciliation, import_charges, reconcile
from gateway.money.reports import UsageQuery, usage
from gateway.money.usage_files import VendorCharge
from tests.stateful.money_support import memory_engine, money_connection
from tests.unit.money.builders import NOON, billed, hold

DAY_S = 86_400.0
SINCE, UNTIL = NOON - DAY_S / 2, NOON + 2 * DAY_S
ENGINE = memory_engine()


def charge(request_id: str, amount: int, at: float = NOON) -> VendorCharge:
    """A line on the vendor's list."""
    return VendorCharge("vendor", request_id, amount, at)


def imported(connection: Connection, *charges: VendorCharge) -> None:
    """The vendor's list, imported without conflicts."""
    assert import_charges(connection, charges, NOON).conflicting == ()


def compare(connection: Connection, complete_until: float | None = None) -> Reconciliation:
    """Two days, compared."""
    return reconcile(connection, "vendor", since=SINCE, until=UNTIL, complete_until=complete_until)


def lost(connection: Connection, attempt: str, amount: int, request_id: str | None) -> None:
    """A failed attempt that the vendor charged."""
    loss = ledger.Loss("job", attempt, "vendor", amount, NOON, "failed", provider_request_id=request_id)
    ledger.book_loss(connection, loss)


def suspended(connection: Connection, attempt: str, amount: int = 100, at: float = NOON) -> None:
    """A submit in doubt."""
    ledger.suspend(connection, ledger.Suspense("job", attempt, "vendor", amount, at, "submit in doubt"))


def test_books_that_agree_have_no_drift(connection: Connection) -> None:
    """Billed and lost renders meet their charges by the vendor's own id, whatever way the bill was split."""
    billed(connection, "h1", price=120, cost=100, request_id="r1")
    billed(connection, "h2", price=50, cost=80, request_id="r2")
    lost(connection, "a3", 30, "r3")
    imported(connection, charge("r1", 100), charge("r2", 80), charge("r3", 30))
    found = compare(connection)
    assert (found.agreed, found.drift_micros) == (3, 0)
    assert (found.differences, found.only_ours, found.only_theirs, found.verdicts) == ((), (), (), ())


def in_dispute(connection: Connection, *, request_id: str | None) -> None:
    """A render billed at 100 whose vendor reported 900."""
    billed(connection, "h1", price=100, cost=100, request_id=request_id)
    name = f"attempt-h1{COST_SUFFIX}"
    rest = ledger.Suspense("job-h1", name, "vendor", 800, NOON, "beyond belief", provider_request_id=request_id)
    ledger.suspend(connection, rest)


@pytest.mark.parametrize(("theirs", "loss"), [(100, 0), (60, 0), (350, 250), (900, 800), (2_000, 1_900)])
@pytest.mark.parametrize("request_id", ["r1", None])
def test_a_cost_in_dispute_ends_as_what_the_vendors_list_says(
    connection: Connection, theirs: int, loss: int, request_id: str | None
) -> None:
    """What the list has above the bill is the operator's loss, the rest goes back, and nothing is left over."""
    in_dispute(connection, request_id=request_id)
    imported(connection, charge("r1", theirs))
    if request_id is None:  # nothing says which render the charge is for: only a complete list ends it
        found = compare(connection)
        assert {one.ours.suspended_as for one in found.verdicts} <= {f"attempt-h1{COST_SUFFIX}"}
        return
    for _ in range(2):
        mend(connection, compare(connection), NOON + DAY_S)
    again = compare(connection)
    assert (again.drift_micros, again.verdicts, again.differences) == (0, (), ())
    balances = ledger.trial_balance(connection)
    assert (balances.get("loss", 0), balances.get("suspense", 0)) == (loss, 0)
    assert balances["provider:vendor"] == -theirs
    assert balances["team:beta"] == 100


def test_a_cost_in_dispute_that_a_complete_list_does_not_have_goes_back(connection: Connection) -> None:
    """The bill's own charge is on the list under its id at the usual price: of the rest there was nothing."""
    in_dispute(connection, request_id="r1")
    imported(connection, charge("r1", 100))
    mended = mend(connection, compare(connection), NOON + DAY_S)
    assert (mended.suspense_charged, ledger.trial_balance(connection).get("suspense", 0)) == (1, 0)


def test_drift_is_told_by_day_with_what_has_no_other_side(connection: Connection) -> None:
    """A pair counts on the vendor's day; the unmatched are counted on both sides."""
    billed(connection, "h1", price=120, cost=100, request_id="r1", at=NOON + DAY_S)
    billed(connection, "h2", price=120, cost=70, request_id="r2")
    imported(connection, charge("r1", 110), charge("r9", 40))
    found = compare(connection)
    assert found.days == (DayDrift("2026-10-01", 170, 150, 1, 1),)
    assert found.days[0].drift_micros == -20
    assert [one.request_id for one in found.only_ours] == ["r2"]
    assert [one.request_id for one in found.only_theirs] == ["r9"]
    assert [(one.ours.amount_micros, one.theirs.amount_micros) for one in found.differences] == [(100, 110)]


def test_only_the_stretch_that_was_asked_for_is_compared(connection: Connection) -> None:
    """Charges of other days and other providers stay out."""
    billed(connection, "old", price=9, cost=9, request_id="old", at=SINCE - 1)
    billed(connection, "other", price=9, cost=9, request_id="x", route="other/model")
    imported(connection, charge("older", 5, SINCE - 1), charge("later", 5, UNTIL))
    import_charges(connection, [VendorCharge("other", "y", 5, NOON)], NOON)
    assert compare(connection) == Reconciliation("vendor", (), 0, (), (), (), ())


def test_a_charge_heard_of_on_the_next_day_is_no_drift(connection: Connection) -> None:
    """Booked after midnight, charged before it: a pair, counted once, on the vendor's day."""
    billed(connection, "h", price=9, cost=9, request_id="r", at=UNTIL + 60)
    imported(connection, charge("r", 9, UNTIL - 60))
    assert compare(connection).drift_micros == 0
    assert reconcile(connection, "vendor", since=UNTIL, until=UNTIL + DAY_S).days == ()


def test_an_amount_that_differs_is_corrected_to_the_vendors(connection: Connection) -> None:
    """A billed render's difference is margin, a lost one's is loss; the team's bill stays as it is."""
    billed(connection, "h", price=120, cost=100, request_id="r1")
    lost(connection, "a", 50, "r2")
    imported(connection, charge("r1", 130), charge("r2", 20))
    assert mend(connection, compare(connection), NOON + DAY_S) == Mended(0, 0, 2, 0)
    assert ledger.trial_balance(connection) == {
        "team:beta": 120,
        "margin": 10,
        "loss": 20,
        "provider:vendor": -150,
    }
    found = compare(connection)
    assert (found.agreed, found.drift_micros, found.differences) == (2, 0, ())
    assert ledger.check(connection) == []


def test_mending_twice_changes_nothing_more(connection: Connection) -> None:
    """The same finding is booked once."""
    billed(connection, "h", price=120, cost=100, request_id="r1")
    suspended(connection, "a")
    imported(connection, charge("r1", 130), charge("r2", 100))
    found = compare(connection)
    assert mend(connection, found, NOON) == Mended(1, 0, 1, 0)
    before = ledger.trial_balance(connection)
    assert mend(connection, found, NOON) == Mended(0, 0, 0, 0)
    assert mend(connection, compare(connection), NOON) == Mended(0, 0, 0, 0)
    assert ledger.trial_balance(connection) == before


def test_suspense_ends_as_charged_when_the_vendors_list_has_it(connection: Connection) -> None:
    """An unexplained charge near a submit in doubt is that submit's."""
    suspended(connection, "a", at=NOON)
    imported(connection, charge("mystery", 90, NOON + 120))
    (verdict,) = compare(connection).verdicts
    assert (verdict.ours.attempt_id, verdict.theirs) == ("a", charge("mystery", 90, NOON + 120))
    assert mend(connection, compare(connection), NOON) == Mended(1, 0, 0, 0)
    assert ledger.trial_balance(connection) == {"loss": 90, "suspense": 0, "provider:vendor": -90}
    found = compare(connection)
    assert (found.agreed, found.drift_micros, found.verdicts) == (1, 0, ())


def test_suspense_takes_the_charge_that_fits_best_and_each_charge_once(connection: Connection) -> None:
    """The same amount before the nearer time; two in doubt never share one charge."""
    suspended(connection, "a", 100, NOON)
    suspended(connection, "b", 60, NOON + 10)
    imported(connection, charge("near", 60, NOON), charge("far", 100, NOON + 900))
    pairs = {one.ours.attempt_id: one.theirs.request_id for one in compare(connection).verdicts if one.theirs}
    assert pairs == {"a": "far", "b": "near"}


def test_two_in_doubt_never_share_one_charge(connection: Connection) -> None:
    """One charge ends one suspense; the other one waits."""
    suspended(connection, "a", 100, NOON)
    suspended(connection, "b", 100, NOON + 10)
    imported(connection, charge("only", 100, NOON + 1))
    assert [one.ours.attempt_id for one in compare(connection).verdicts] == ["a"]


def test_a_charge_that_is_explained_already_ends_no_suspense(connection: Connection) -> None:
    """The bill of another render is not taken for the one in doubt, and neither is one of another hour."""
    billed(connection, "h", price=100, cost=100, request_id="r1", at=NOON)
    suspended(connection, "a")
    imported(connection, charge("r1", 100), charge("r2", 100, NOON + 3601))
    found = compare(connection)
    assert found.verdicts == ()
    assert [one.attempt_id for one in found.only_ours] == ["a"]


@pytest.mark.parametrize(("complete_until", "ended"), [(None, 0), (NOON + 3599, 0), (NOON + 3600, 1)])
def test_suspense_is_returned_only_when_the_list_is_known_to_be_whole(
    connection: Connection, complete_until: float | None, ended: int
) -> None:
    """The absence of a charge is evidence only on a list that would have it by now."""
    suspended(connection, "a")
    found = compare(connection, complete_until)
    assert mend(connection, found, NOON) == Mended(0, ended, 0, 0)
    assert ledger.trial_balance(connection)["suspense"] == (0 if ended else 100)
    assert compare(connection).drift_micros == (0 if ended else -100)


def test_an_attempt_that_was_suspended_and_then_delivered_is_two_charges(connection: Connection) -> None:
    """A repeated submit may be charged twice: once to the team, once to the operator."""
    billed(connection, "h", price=100, cost=100, request_id="second")
    suspended(connection, "attempt-h", 100)
    imported(connection, charge("first", 100, NOON + 1), charge("second", 100, NOON + 60))
    assert mend(connection, compare(connection), NOON) == Mended(1, 0, 0, 0)
    found = compare(connection)
    assert (found.agreed, found.drift_micros) == (2, 0)
    assert ledger.trial_balance(connection) == {
        "team:beta": 100,
        "loss": 100,
        "suspense": 0,
        "provider:vendor": -200,
    }


def test_what_nobody_can_explain_waits_for_a_persons_word(connection: Connection) -> None:
    """Unmatched charges are reported, and taken from the vendor's list only when asked."""
    billed(connection, "h", price=120, cost=100, request_id="r1")
    imported(connection, charge("r9", 40))
    assert mend(connection, compare(connection), NOON) == Mended(0, 0, 0, 0)
    assert mend(connection, compare(connection), NOON, accept_unmatched=True) == Mended(0, 0, 0, 2)
    assert ledger.trial_balance(connection)["provider:vendor"] == -40
    found = compare(connection)
    assert (found.drift_micros, found.only_ours, found.only_theirs) == (0, (), ())


def test_a_corrected_cost_reaches_the_usage_report(connection: Connection) -> None:
    """Billed 100 for 80 and charged 95: the report says cost 95 and margin 5, whatever it is grouped by."""
    billed(connection, "h", price=100, cost=80, request_id="r1")
    imported(connection, charge("r1", 95))
    assert mend(connection, compare(connection), NOON + 90) == Mended(0, 0, 1, 0)
    for group, name in (("team", "beta"), ("route", "vendor/model"), ("provider", "vendor"), ("key", "b1")):
        (row,) = usage(connection, UsageQuery(SINCE, UNTIL, group_by=(group,)))
        assert (row.group, row.price_micros, row.cost_micros, row.margin_micros) == ({group: name}, 100, 95, 5)
    assert ledger.check(connection) == []


def test_a_corrected_loss_stays_with_its_team_and_route(connection: Connection) -> None:
    """A failed attempt that cost more than was thought is told beside the rest of that job's losses."""
    hold(connection, "h")
    ledger.book_loss(
        connection, ledger.Loss("job-h", "a", "vendor", 50, NOON, "failed", "vendor/model", provider_request_id="r1")
    )
    imported(connection, charge("r1", 70))
    assert mend(connection, compare(connection), NOON + 90) == Mended(0, 0, 1, 0)
    (row,) = usage(connection, UsageQuery(SINCE, UNTIL, group_by=("team", "route", "provider")))
    assert row.group == {"team": "beta", "route": "vendor/model", "provider": "vendor"}
    assert (row.loss_micros, row.cost_micros) == (70, 0)


def test_an_amount_may_change_there_and_back_and_there_again(connection: Connection) -> None:
    """A finding that repeats an older one is booked again, because something was booked in between."""
    billed(connection, "h", price=120, cost=100, request_id="r1")
    imported(connection, charge("r1", 130))
    assert mend(connection, compare(connection), NOON) == Mended(0, 0, 1, 0)
    by_hand = ledger.Correction(
        "by-hand", "provider:vendor", "margin", 30, NOON, "a mistake", "h", "attempt-h", "vendor", "r1"
    )
    ledger.correct(connection, by_hand)
    found = compare(connection)
    assert (found.drift_micros, found.differences[0].ours.hold_id) == (30, "h")
    assert [mend(connection, found, NOON) for _ in range(2)] == [Mended(0, 0, 1, 0), Mended(0, 0, 0, 0)]
    assert ledger.trial_balance(connection)["provider:vendor"] == -130


@pytest.mark.parametrize(("amount", "taken"), [(19, False), (20, True), (500, True), (501, False)])
def test_suspense_takes_no_stranger_of_an_unbelievable_amount(connection: Connection, amount: int, taken: bool) -> None:
    """A charge of more than five times what was expected, or less than a fifth, is only on the vendor's list."""
    suspended(connection, "a", 100)
    imported(connection, charge("mystery", amount))
    found = compare(connection)
    assert (len(found.verdicts), len(found.only_theirs)) == ((1, 0) if taken else (0, 1))


def test_importing_twice_changes_nothing_and_a_changed_amount_is_told(connection: Connection) -> None:
    """A list that overlaps with the last one is fine; a vendor that rewrites history is named."""
    first = import_charges(connection, [charge("r1", 100), charge("r2", 50)], NOON)
    assert (first.new, first.known, first.conflicting) == (2, 0, ())
    again = import_charges(connection, [charge("r2", 60), charge("r1", 100), charge("r3", 1)], NOON)
    assert (again.new, again.known, again.conflicting) == (1, 2, ("r2",))


renders = st.lists(
    st.tuples(
        st.sampled_from(["billed", "lost", "suspended", "ours", "theirs"]),
        st.integers(1, 500),
        st.integers(1, 500),
        st.floats(0, DAY_S),
        st.floats(-1800, 1800),
    ),
    max_size=10,
)


@settings(max_examples=100, deadline=None)
@given(renders)
def test_taking_the_vendors_word_leaves_no_drift_and_no_suspense(
    done: list[tuple[str, int, int, float, float]],
) -> None:
    """Whatever happened: after mending with a complete list, our account is the vendor's invoice, to the micro."""
    with money_connection(ENGINE) as connection:
        invoice = []
        for number, (kind, ours, theirs, after_s, skew_s) in enumerate(done):
            at = NOON + after_s
            if kind in {"billed", "ours"}:
                billed(connection, f"h{number}", price=ours + 20, cost=ours, request_id=f"r{number}", at=at)
            elif kind == "lost":
                lost(connection, f"a{number}", ours, f"r{number}")
            elif kind == "suspended":
                suspended(connection, f"a{number}", ours, at)
            if kind != "ours":
                invoice.append(charge(f"r{number}", theirs, at + skew_s))
        imported(connection, *invoice)
        for _ in range(2):
            found = compare(connection, complete_until=UNTIL + DAY_S)
            mend(connection, found, UNTIL, accept_unmatched=True)
        found = compare(connection, complete_until=UNTIL + DAY_S)
        assert (found.drift_micros, found.only_ours, found.only_theirs, found.verdicts) == (0, (), (), ())
        balance = ledger.trial_balance(connection)
        assert balance.get("provider:vendor", 0) == -sum(one.amount_micros for one in invoice)
        assert balance.get("suspense", 0) == 0
        assert ledger.check(connection) == []
