"""INSERT that leaves an existing row alone, in the words of the database in use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.prepared import Prepared

DIALECT_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; False when one with the same key, by any unique index, is there already.

    Only for tables of plain numbers, texts and bytes (see prepared.py).
    """
    return _insert_or_leave(connection.dialect.name, table).changed(connection, values) == 1


@lru_cache
def _insert_or_leave(dialect: str, table: Table) -> Prepared:
    return Prepared(DIALECT_INSERTS[dialect](table).on_conflict_do_nothing())
