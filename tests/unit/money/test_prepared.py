"""Prepared statements: the fast way answers as the usual way does, errors and transactions included."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Text,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    literal,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from gateway.store.prepared import Prepared
from gateway.store.schema import teams
from gateway.store.schema_money import budgets, hold_budgets, holds
from tests.unit.money.builders import budget, hold

LIMITS = select(budgets.c.id, budgets.c.limit_micros + literal(5)).where(budgets.c.team_id == bindparam("team"))


def test_rows_are_those_of_the_usual_way(connection: Connection) -> None:
    """Values, also those that stand in the statement itself, and the order of the columns."""
    budget(connection, 100)
    assert Prepared(LIMITS).rows(connection, {"team": "beta"}) == [("beta-None-day", 105)]
    assert connection.execute(LIMITS, {"team": "beta"}).all() == [("beta-None-day", 105)]
    assert Prepared(LIMITS).one(connection, {"team": "alpha"}) is None


def test_the_number_of_changed_rows_is_counted(connection: Connection) -> None:
    """A conditional UPDATE tells whether it did anything."""
    hold(connection)
    close = Prepared(
        update(holds).where(holds.c.id == bindparam("of"), holds.c.state == "open").values(state="expired")
    )
    assert [close.changed(connection, {"of": "h"}), close.changed(connection, {"of": "h"})] == [1, 0]


def test_an_insert_takes_the_columns_it_is_given(connection: Connection) -> None:
    """Columns that are not named keep their defaults."""
    row = {"id": "b", "team_id": "beta", "window": "day", "limit_micros": 5, "created_at": 1.0}
    make = Prepared(insert(budgets))
    make.each(connection, [row, {**row, "id": "c", "key_id": "b1"}])
    assert connection.execute(select(budgets.c.id, budgets.c.key_id)).all() == [("b", None), ("c", "b1")]


@pytest.mark.parametrize("plan", [{"percent": "5", "ü": [1, None]}, {}, [], "", 0, False, [{}]])
def test_json_is_written_as_the_usual_way_writes_it(sqlite_connection: Connection, plan: Any) -> None:
    """Text, objects and null; a column that is left out keeps its default."""
    rows = [{"id": name, "name": name, "plan": plan, "created_at": 1.0} for name in "pq"]
    Prepared(insert(teams)).changed(sqlite_connection, rows[0])
    sqlite_connection.execute(insert(teams), rows[1])
    query = select(func.quote(type_coerce(teams.c.plan, Text))).where(teams.c.name.in_(("p", "q")))
    fast, usual = sqlite_connection.execute(query).scalars()
    assert fast == usual
    assert sqlite_connection.execute(select(teams.c.plan).where(teams.c.id == "p")).scalar_one() == plan


def test_several_rows_in_one_statement_are_those_of_the_usual_way(connection: Connection) -> None:
    """Parameters of their own for each row, one that all rows share."""
    made = insert(hold_budgets).values(
        [
            {"hold_id": bindparam("of_hold"), "budget_id": bindparam(f"b{n}"), "starts_at": bindparam(f"s{n}")}
            for n in range(2)
        ]
    )
    for name in ("fast", "usual"):
        hold(connection, name)
        values = {"of_hold": name, "b0": "x", "s0": 1.0, "b1": "y", "s1": 2.0}
        if name == "fast":
            Prepared(made).changed(connection, values)
        else:
            connection.execute(made, values)
    rows = connection.execute(select(hold_budgets).order_by(hold_budgets.c.hold_id, hold_budgets.c.budget_id)).all()
    assert rows == [(name, *row) for name in ("fast", "usual") for row in (("x", 1.0), ("y", 2.0))]


def test_a_broken_rule_is_the_same_error(sqlite_connection: Connection) -> None:
    """Callers need not know which way a statement went."""
    hold(sqlite_connection)
    change = Prepared(update(holds).values(amount_micros=bindparam("amount")))
    with pytest.raises(IntegrityError, match="settles once"):
        change.changed(sqlite_connection, {"amount": 1})
    with pytest.raises(OperationalError, match="no such table"):
        Prepared(text("SELECT * FROM nowhere")).rows(sqlite_connection, {})


def test_the_usual_way_asks_for_the_number_of_rows_an_insert_wrote() -> None:
    """Not every driver counts them unasked."""
    engine, asked = create_engine("sqlite://"), []
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE numbers (n INTEGER)"))
        connection.commit()
        event.listen(connection, "before_cursor_execute", lambda *facts: asked.append(facts[4].execution_options))
        assert Prepared(text("INSERT INTO numbers VALUES (:n)")).changed(connection, {"n": 1}) == 1
    engine.dispose()
    assert [options.get("preserve_rowcount") for options in asked] == [True]


def test_outside_a_transaction_it_begins_one_as_usual() -> None:
    """What is read first in a transaction is read in it."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        assert not connection.in_transaction()
        assert Prepared(select(literal(1))).rows(connection, {}) == [(1,)]
        assert connection.in_transaction()
    engine.dispose()
