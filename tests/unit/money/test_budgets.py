"""Budgets: limits of teams and keys in calendar windows, all or none, with the numbers of every refusal."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from gateway.money import budgets, ledger
from gateway.money.amounts import AmountError
from gateway.money.windows import WindowKind
from tests.unit.money.builders import NOON, budget, capture, hold

DAY_S = 86_400.0
MIDNIGHT = NOON + DAY_S / 2


def counts(connection: Connection, at: float = NOON, team: str = "beta") -> dict[str, tuple[int, int]]:
    """Spent and held of every active budget by its id."""
    states = budgets.budget_states(connection, team, at)
    return {state.budget.budget_id: (state.spent_micros, state.held_micros) for state in states}


def test_a_team_without_a_budget_is_not_limited(connection: Connection) -> None:
    """No budget, no limit."""
    assert hold(connection, amount=10**15) == ledger.Held("h")


def test_a_hold_may_use_the_last_micro_and_not_one_more(connection: Connection) -> None:
    """The limit itself is still allowed."""
    budget(connection, 100)
    assert isinstance(hold(connection, "one", amount=100), ledger.Held)
    assert isinstance(hold(connection, "two", amount=0), ledger.Held)
    assert isinstance(hold(connection, "three", amount=1), ledger.BudgetRefusal)


def test_a_refusal_tells_the_numbers_and_when_it_resets(connection: Connection) -> None:
    """Whoever is refused learns limit, spent, held, needed and the reset time."""
    budget(connection, 200)
    hold(connection, "spent", amount=60)
    capture(connection, "spent", price=50)
    hold(connection, "held", amount=100)
    assert hold(connection, "more", amount=51) == ledger.BudgetRefusal(
        scope="team",
        window=WindowKind.DAY,
        limit_micros=200,
        spent_micros=50,
        held_micros=100,
        needed_micros=51,
        resets_at=MIDNIGHT,
    )


def test_a_refused_hold_leaves_nothing_reserved_in_the_budgets_that_allowed_it(connection: Connection) -> None:
    """All budgets or none."""
    budget(connection, 1_000, window=WindowKind.DAY)
    budget(connection, 1_000, window=WindowKind.MONTH)
    budget(connection, 50, window=WindowKind.WEEK)
    assert isinstance(hold(connection, amount=51), ledger.BudgetRefusal)
    assert set(counts(connection).values()) == {(0, 0)}
    assert ledger.check(connection) == []


def test_a_keys_budget_counts_that_key_only_and_the_teams_counts_all(connection: Connection) -> None:
    """A key's limit is its own; a team's is everybody's."""
    budget(connection, 100, team="alpha", key="a1")
    budget(connection, 250, team="alpha")
    assert isinstance(hold(connection, "one", team="alpha", key="a1"), ledger.Held)
    refusal = hold(connection, "two", team="alpha", key="a1")
    assert isinstance(refusal, ledger.BudgetRefusal)
    assert refusal.scope == "key"
    assert isinstance(hold(connection, "three", team="alpha", key="a2"), ledger.Held)
    refusal = hold(connection, "four", team="alpha", key="a2")
    assert isinstance(refusal, ledger.BudgetRefusal)
    assert refusal.scope == "team"
    assert counts(connection, team="alpha") == {"alpha-a1-day": (0, 100), "alpha-None-day": (0, 200)}


def test_one_team_never_touches_the_budget_of_another(connection: Connection) -> None:
    """Budgets are per team."""
    budget(connection, 100, team="alpha")
    hold(connection, team="beta", amount=90)
    assert counts(connection, team="alpha") == {"alpha-None-day": (0, 0)}


@pytest.mark.parametrize("window", [WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH])
def test_a_budget_starts_anew_at_the_edge_of_its_window_and_not_before(
    connection: Connection, window: WindowKind
) -> None:
    """The last instant of a window still counts, the first of the next does not."""
    budget(connection, 100, window=window)
    (state,) = budgets.budget_states(connection, "beta", NOON)
    assert state.window.ends_at is not None
    hold(connection, "old", amount=100)
    assert isinstance(hold(connection, "late", amount=1, at=state.window.ends_at - 0.001), ledger.BudgetRefusal)
    assert isinstance(hold(connection, "new", amount=100, at=state.window.ends_at), ledger.Held)
    assert isinstance(hold(connection, "early", amount=1, at=state.window.starts_at), ledger.BudgetRefusal)


def test_the_edge_is_the_teams_own_midnight(connection: Connection) -> None:
    """A team in New York starts its day four hours after one in UTC."""
    budget(connection, 100, team="alpha")
    hold(connection, "old", team="alpha", key="a1")
    assert isinstance(hold(connection, "utc", team="alpha", key="a1", at=MIDNIGHT), ledger.BudgetRefusal)
    assert isinstance(hold(connection, "local", team="alpha", key="a1", at=MIDNIGHT + 4 * 3600), ledger.Held)


def test_a_total_budget_never_starts_anew(connection: Connection) -> None:
    """Total is for ever, and says so."""
    budget(connection, 100, window=WindowKind.TOTAL)
    hold(connection, "old", amount=100)
    refusal = hold(connection, "new", amount=1, at=NOON + 1_000 * DAY_S)
    assert isinstance(refusal, ledger.BudgetRefusal)
    assert refusal.resets_at is None


def test_a_hold_settled_after_the_edge_counts_where_it_was_made(connection: Connection) -> None:
    """A clock that passes the edge of a window, or jumps over it, moves no money from one day to another."""
    budget(connection, 100)
    hold(connection, amount=100)
    capture(connection, price=70, at=MIDNIGHT + 5)
    assert counts(connection, NOON) == {"beta-None-day": (70, 0)}
    assert counts(connection, MIDNIGHT + 5) == {"beta-None-day": (0, 0)}


def test_a_clock_that_goes_back_finds_the_window_as_it_was(connection: Connection) -> None:
    """Time running backwards over an edge gives nobody a second budget."""
    budget(connection, 100)
    hold(connection, "today", amount=100)
    hold(connection, "tomorrow", amount=100, at=MIDNIGHT)
    assert isinstance(hold(connection, "back", amount=1, at=NOON), ledger.BudgetRefusal)


def test_a_soft_limit_warns_and_lets_through(connection: Connection) -> None:
    """At the soft limit a hold is told so; the one that crosses it is marked as the first."""
    budget(connection, None, soft=150)
    first = hold(connection, "one", amount=149)
    crossing = hold(connection, "two", amount=1)
    after = hold(connection, "three", amount=1_000)
    assert isinstance(first, ledger.Held)
    assert isinstance(crossing, ledger.Held)
    assert isinstance(after, ledger.Held)
    assert first.warnings == ()
    assert [(warning.held_micros, warning.first) for warning in crossing.warnings] == [(150, True)]
    assert [(warning.held_micros, warning.first) for warning in after.warnings] == [(1_150, False)]


def test_a_soft_limit_warns_once_a_window(connection: Connection) -> None:
    """The next window has its own first warning."""
    budget(connection, None, soft=100)
    hold(connection, "one", amount=100)
    answer = hold(connection, "two", amount=100, at=MIDNIGHT)
    assert isinstance(answer, ledger.Held)
    assert [warning.first for warning in answer.warnings] == [True]


def test_a_refused_hold_uses_up_no_warning(connection: Connection) -> None:
    """The first warning goes to a hold that was made, not to one that another budget refused."""
    budget(connection, None, soft=100)
    budget(connection, 150, window=WindowKind.WEEK)
    assert isinstance(hold(connection, "refused", amount=151), ledger.BudgetRefusal)
    answer = hold(connection, "made", amount=150)
    assert isinstance(answer, ledger.Held)
    assert [warning.first for warning in answer.warnings] == [True]


def test_changing_a_limit_keeps_what_was_counted(connection: Connection) -> None:
    """A raised limit is in force at once, a lowered one refuses and takes nothing back."""
    first = budget(connection, 100)
    hold(connection, "one", amount=100)
    assert budgets.set_budget(connection, budgets.Budget("other", "beta", WindowKind.DAY, 150), NOON) == first
    assert isinstance(hold(connection, "two", amount=50), ledger.Held)
    budget(connection, 10)
    refusal = hold(connection, "three", amount=1)
    assert isinstance(refusal, ledger.BudgetRefusal)
    assert (refusal.limit_micros, refusal.held_micros) == (10, 150)


def test_a_new_budget_counts_what_the_window_has_seen_already(connection: Connection) -> None:
    """A budget made in the middle of a month does not forget its first half."""
    hold(connection, "spent", amount=100)
    capture(connection, "spent", price=70)
    hold(connection, "held", amount=20)
    hold(connection, "before", amount=500, at=NOON - DAY_S)
    hold(connection, "after", amount=500, at=MIDNIGHT)
    budget(connection, 100)
    assert counts(connection) == {"beta-None-day": (70, 20)}
    assert isinstance(hold(connection, "more", amount=11), ledger.BudgetRefusal)
    capture(connection, "held", price=5)
    assert counts(connection) == {"beta-None-day": (75, 0)}
    assert ledger.check(connection) == []


def test_another_time_zone_gives_nobody_a_second_budget(connection: Connection) -> None:
    """When a team moves, its new windows begin with what they have seen already."""
    budget(connection, 100)
    hold(connection, amount=100)
    connection.execute(text("UPDATE teams SET timezone = 'Asia/Tokyo' WHERE id = 'beta'"))
    assert isinstance(hold(connection, "again", amount=1), ledger.BudgetRefusal)
    capture(connection, price=60)
    assert isinstance(hold(connection, "rest", amount=40), ledger.Held)
    assert ledger.check(connection) == []


def test_a_retired_budget_lets_go_and_its_holds_settle(connection: Connection) -> None:
    """After its end a budget refuses nothing, and what it counted still settles."""
    name = budget(connection, 100)
    hold(connection, amount=100)
    assert budgets.retire_budget(connection, name, NOON)
    assert not budgets.retire_budget(connection, name, NOON)
    assert isinstance(hold(connection, "free", amount=1_000), ledger.Held)
    assert isinstance(capture(connection, price=100), ledger.Captured)
    assert ledger.check(connection) == []


def test_an_unknown_team_is_an_error(connection: Connection) -> None:
    """Money of nobody is never reserved."""
    with pytest.raises(budgets.UnknownTeamError):
        hold(connection, team="nobody")
    with pytest.raises(budgets.UnknownTeamError):
        budget(connection, team="nobody")
    with pytest.raises(budgets.UnknownTeamError):
        budgets.budget_states(connection, "nobody", NOON)


def test_a_budget_limits_something_by_a_real_amount() -> None:
    """A budget without limits, or with an impossible one, is refused where it is made."""
    with pytest.raises(ValueError, match="limit_micros, soft_micros or both"):
        budgets.Budget("b", "beta", WindowKind.DAY)
    with pytest.raises(AmountError):
        budgets.Budget("b", "beta", WindowKind.DAY, limit_micros=-1)
    with pytest.raises(AmountError):
        budgets.Budget("b", "beta", WindowKind.DAY, soft_micros=10**16)
