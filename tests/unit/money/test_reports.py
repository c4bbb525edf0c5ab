"""Usage and statements: every micro is in exactly one group, and bills show the team's side only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from gateway.money import ledger
from gateway.money.reports import GROUPS, UsageQuery, UsageRow, statement, statement_groups, usage
from tests.stateful.money_support import memory_engine, money_connection
from tests.unit.money.builders import NOON, billed, hold

DAY_S = 86_400.0
MIDNIGHT = NOON + DAY_S / 2
ENGINE: Engine = memory_engine()


def rows(connection: Connection, *group_by: str, **more: object) -> list[UsageRow]:
    """Usage of the week around noon."""
    query = UsageQuery(NOON - 3 * DAY_S, NOON + 4 * DAY_S, group_by=group_by, **more)  # type: ignore[arg-type]
    return usage(connection, query)


def prices(connection: Connection, *group_by: str, **more: object) -> dict[tuple[str | None, ...], int]:
    """Price by group."""
    return {tuple(row.group.values()): row.price_micros for row in rows(connection, *group_by, **more)}


@pytest.fixture
def week(connection: Connection, arrange: Callable[..., Any]) -> Connection:
    """Some jobs of two teams on two routes, one released, one lost, one corrected."""
    arrange(fill_week, connection)
    return connection


def fill_week(connection: Connection) -> None:
    billed(connection, "one", price=100, cost=80, tags={"project": "red"})
    billed(connection, "two", price=50, cost=40, tags={"project": "blue"}, route="other/model")
    billed(connection, "three", price=30, cost=20, team="alpha", key="a2", at=MIDNIGHT + 3600)
    billed(connection, "four", price=300, cost=200, amount=250, at=MIDNIGHT)
    hold(connection, "five")
    ledger.release(connection, "five", NOON, "canceled")
    ledger.book_loss(connection, ledger.Loss("job-five", "lost", "vendor", 25, NOON, "failed", "vendor/model"))
    ledger.correct(connection, ledger.Correction("c", "margin", "team:beta", 10, NOON, "goodwill", hold_id="one"))


def test_without_groups_everything_is_one_row(week: Connection) -> None:
    """The whole in one line: billed, not billed, price, cost, margin, excess and loss."""
    (row,) = rows(week)
    assert (row.jobs_billed, row.jobs_not_billed) == (4, 1)
    assert (row.price_micros, row.cost_micros, row.margin_micros) == (470, 340, 130)
    assert (row.excess_micros, row.loss_micros) == (50, 25)


def test_nothing_used_is_a_row_of_nothing(connection: Connection) -> None:
    """An empty report is not an error."""
    assert rows(connection) == [UsageRow({})]
    assert rows(connection, "team") == []


def test_usage_is_told_apart_by_each_dimension(week: Connection) -> None:
    """Team, key, route, provider and tag."""
    assert prices(week, "team") == {("alpha",): 30, ("beta",): 440}
    assert prices(week, "team", "key") == {("alpha", "a2"): 30, ("beta", "b1"): 440}
    assert prices(week, "provider") == {(None,): 0, ("other",): 50, ("vendor",): 420}
    assert prices(week, "route") == {(None,): 0, ("other/model",): 50, ("vendor/model",): 420}
    assert prices(week, "tag:project") == {(None,): 330, ("blue",): 50, ("red",): 90}


def test_days_are_the_calendars_of_the_zone_asked_for(week: Connection) -> None:
    """Midnight in Kathmandu is not midnight in UTC."""
    assert prices(week, "day") == {("2026-10-01",): 140, ("2026-10-02",): 330}
    assert prices(week, "day", timezone="America/New_York") == {("2026-10-01",): 470}


def test_a_team_sees_only_its_own(week: Connection) -> None:
    """The losses of other teams' jobs are not there either."""
    (row,) = rows(week, team_id="alpha")
    assert (row.jobs_billed, row.price_micros, row.loss_micros) == (1, 30, 0)


def test_the_end_of_the_stretch_is_not_in_it(connection: Connection) -> None:
    """Two reports that touch count nothing twice."""
    billed(connection, "h", price=100, at=NOON)
    before = usage(connection, UsageQuery(NOON - 10, NOON))
    after = usage(connection, UsageQuery(NOON, NOON + 10))
    assert [row.price_micros for row in (*before, *after)] == [0, 100]


@pytest.mark.parametrize(
    ("since", "until", "group_by"),
    [(0, 1, ("colour",)), (1, 0, ()), (0, 401 * DAY_S, ()), (float("nan"), 1, ()), (-1, 1, ()), (3e11, 3e11, ())],
)
def test_an_impossible_report_is_refused(since: float, until: float, group_by: tuple[str, ...]) -> None:
    """Unknown groups, reversed and endless stretches."""
    with pytest.raises(ValueError):
        UsageQuery(since, until, group_by=group_by)


jobs = st.lists(
    st.tuples(
        st.sampled_from([("alpha", "a1"), ("alpha", "a2"), ("beta", "b1")]),
        st.sampled_from(["vendor/one", "other/two"]),
        st.integers(0, 500),
        st.integers(0, 500),
        st.floats(0, 5 * DAY_S),
        st.sampled_from(["red", "blue"]),
    ),
    max_size=12,
)
groupings = st.lists(st.sampled_from([*GROUPS, "tag:project"]), unique=True)


@settings(max_examples=60, deadline=None)
@given(jobs, groupings, st.sampled_from(["UTC", "Asia/Kathmandu", "America/New_York"]))
def test_every_grouping_adds_up_to_the_same(
    done: list[tuple[tuple[str, str], str, int, int, float, str]], group_by: list[str], zone: str
) -> None:
    """However usage is split, nothing is lost and nothing is counted twice, and it is what the ledger says."""
    with money_connection(ENGINE) as connection:
        for number, ((team, key), route, price, cost, after_s, project) in enumerate(done):
            billed(
                connection,
                f"h{number}",
                team=team,
                key=key,
                route=route,
                price=price,
                cost=cost,
                at=NOON + after_s,
                tags={"project": project},
            )
        found = usage(connection, UsageQuery(NOON, NOON + 6 * DAY_S, group_by=tuple(group_by), timezone=zone))
        balance = ledger.trial_balance(connection)
        assert sum(row.jobs_billed for row in found) == len(done)
        assert sum(row.price_micros for row in found) == sum(v for k, v in balance.items() if k.startswith("team:"))
        assert sum(row.margin_micros for row in found) == -balance.get("margin", 0)


def test_a_statement_lists_jobs_and_corrections_and_no_cost(week: Connection) -> None:
    """A team reads what it pays for; what the vendor gets is not on its bill."""
    bill = statement(week, "beta", "2026-10")
    assert [(line.kind, line.job_id, line.amount_micros) for line in bill.lines] == [
        ("correct", "job-one", -10),
        ("capture", "job-one", 100),
        ("capture", "job-two", 50),
        ("capture", "job-four", 300),
    ]
    assert bill.total_micros == ledger.trial_balance(week)["team:beta"] == 440
    assert bill.lines[1].tags == {"project": "red"}
    assert bill.lines[1].key_id == "b1"


def test_two_corrections_alike_are_two_lines(connection: Connection) -> None:
    """A statement never folds two facts into one."""
    billed(connection, "h", price=100)
    for number in (1, 2):
        ledger.correct(
            connection, ledger.Correction(f"c{number}", "margin", "team:beta", 10, NOON, "goodwill", hold_id="h")
        )
    amounts = [line.amount_micros for line in statement(connection, "beta", "2026-10").lines]
    assert amounts == [-10, -10, 100]


def test_a_statement_of_a_month_without_jobs_is_empty(connection: Connection) -> None:
    """Nothing is owed for nothing."""
    bill = statement(connection, "beta", "2026-10")
    assert (bill.total_micros, bill.lines, bill.closed) == (0, (), False)


def test_a_statement_is_summed_up_by_each_dimension(week: Connection) -> None:
    """Every line is in exactly one group, a refund with the job it gives back; other names are refused."""
    bill = statement(week, "beta", "2026-10")

    def sums(*names: str) -> dict[tuple[str | None, ...], int]:
        return {tuple(one.group.values()): one.amount_micros for one in statement_groups(bill, names)}

    assert sums("route") == {("other/model",): 50, ("vendor/model",): 390}
    assert sums("provider", "tag:project") == {("other", "blue"): 50, ("vendor", None): 300, ("vendor", "red"): 90}
    assert sums("day") == {("2026-10-01",): 140, ("2026-10-02",): 300}
    assert sums("key", "team") == {("b1", "beta"): 440}
    for names in (GROUPS, ("tag:project",), ("tag:nothing",)):
        assert sum(sums(*names).values()) == bill.total_micros
        assert sum(one.lines for one in statement_groups(bill, names)) == len(bill.lines)
    with pytest.raises(ValueError, match="colour"):
        statement_groups(bill, ("colour",))
