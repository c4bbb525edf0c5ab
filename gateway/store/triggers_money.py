"""Triggers that keep history as it was written, for SQLite and PostgreSQL, as data that a migration can run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import DDL, Connection, Table, event

# table, name, when, condition ("" is always), what is said
Rule = tuple[str, str, str, str, str]
Dialect = Literal["sqlite", "postgresql"]

APPEND_ONLY = (
    "hold_budgets",
    "settlements",
    "entries",
    "period_closes",
    "provider_balances",
    "price_observations",
    "vendor_charges",
)
HOLD_FIELDS = ("id", "job_id", "team_id", "key_id", "amount_micros", "tags", "created_at", "expires_at")

_HOLD_CHANGED = " OR ".join(
    ["OLD.state <> 'open'", "NEW.state = 'open'"] + [f"NEW.{name} {{differs}} OLD.{name}" for name in HOLD_FIELDS]
)
_SETTLED_OTHERWISE = "(SELECT state FROM holds WHERE id = NEW.hold_id) {differs} NEW.kind"
_PERIOD_CLOSED = "EXISTS (SELECT 1 FROM period_closes WHERE period >= NEW.period)"

RULES: tuple[Rule, ...] = (
    *((table, f"{table}_no_update", "UPDATE", "", f"{table} is append-only") for table in APPEND_ONLY),
    *((table, f"{table}_no_delete", "DELETE", "", f"{table} is append-only") for table in (*APPEND_ONLY, "holds")),
    ("holds", "holds_settle_once", "UPDATE", _HOLD_CHANGED, "a hold settles once and changes in no other way"),
    ("settlements", "settlements_match", "INSERT", _SETTLED_OTHERWISE, "a settlement is of the kind its hold became"),
    ("entries", "entries_period_open", "INSERT", _PERIOD_CLOSED, "the accounting month is closed"),
    ("period_closes", "period_closes_forward", "INSERT", _PERIOD_CLOSED, "a later accounting month is closed already"),
)

AUDIT_RULES: tuple[Rule, ...] = (
    ("audit", "audit_no_update", "UPDATE", "", "audit is append-only"),
    ("audit", "audit_no_delete", "DELETE", "", "audit is append-only"),
)


def trigger_statements(dialect: Dialect, rules: tuple[Rule, ...] = RULES) -> tuple[tuple[str, str], ...]:
    """Every (table, statement) to run after the tables exist, in order; each statement is run on its own."""
    make = {"sqlite": _sqlite, "postgresql": _postgresql}[dialect]
    return tuple((rule[0], statement) for rule in rules for statement in make(*rule))


def create_triggers(connection: Connection, rules: tuple[Rule, ...]) -> None:
    """Make the triggers of a migration, whose rules stay as they were then."""
    dialect: Dialect = "postgresql" if connection.dialect.name == "postgresql" else "sqlite"
    for _, statement in trigger_statements(dialect, rules):
        connection.exec_driver_sql(statement)


def drop_functions(connection: Connection, rules: tuple[Rule, ...]) -> None:
    """Take away what PostgreSQL's triggers leave behind when their tables go."""
    if connection.dialect.name == "postgresql":
        for rule in rules:
            connection.execute(DDL("DROP FUNCTION %(name)s()", context={"name": rule[1]}))  # type: ignore[no-untyped-call]


def attach_triggers(tables: Mapping[str, Table], rules: tuple[Rule, ...] = RULES) -> None:
    """Run the statements of the database in use whenever one of these tables is created through the metadata."""
    dialects: tuple[Dialect, ...] = ("sqlite", "postgresql")
    for dialect in dialects:
        for table, statement in trigger_statements(dialect, rules):
            ddl = DDL(statement.replace("%", "%%")).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
            event.listen(tables[table], "after_create", ddl)


def _sqlite(table: str, name: str, verb: str, condition: str, message: str) -> tuple[str, ...]:
    when = f" WHEN {condition.format(differs='IS NOT')}" if condition else ""
    body = f"SELECT RAISE(ABORT, '{message}');"
    return (f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW{when} BEGIN {body} END",)


def _postgresql(table: str, name: str, verb: str, condition: str, message: str) -> tuple[str, ...]:
    # The condition stands inside the function, because a WHEN clause may not look into other tables.
    guard = condition.format(differs="IS DISTINCT FROM") or "true"
    result = "OLD" if verb == "DELETE" else "NEW"
    function = (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {guard} THEN RAISE EXCEPTION USING MESSAGE = '{message}', ERRCODE = 'integrity_constraint_violation'; "
        f"END IF; RETURN {result}; END $$"
    )
    trigger = f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
    return function, trigger
