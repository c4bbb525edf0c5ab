"""Statements of the hot path: compiled once, and on SQLite handed to the driver as they are.

SQLAlchemy takes some 20 microseconds to prepare, run and wrap a statement that SQLite runs in 2, and an admission has
ten of them. Only for tables whose columns hold plain numbers, texts and bytes: nothing is converted on the way.
Everywhere else, and on every other database, a statement runs as usual, and the answer is the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable

Parameters = Mapping[str, Any]


class Prepared:
    """One statement with named parameters. For an INSERT without values the parameters name the columns."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def rows(self, connection: Connection, parameters: Parameters) -> Sequence[Sequence[Any]]:
        """Run it and return its rows, each a tuple of the columns in order."""
        if not _is_plain_sqlite(connection):
            return connection.execute(self._statement, parameters).all()
        return self._run(connection, parameters).fetchall()

    def one(self, connection: Connection, parameters: Parameters) -> Sequence[Any] | None:
        """Run it and return its only row, or None when there is none."""
        found = self.rows(connection, parameters)
        return found[0] if found else None

    def changed(self, connection: Connection, parameters: Parameters) -> int:
        """Run it and return how many rows it wrote."""
        if not _is_plain_sqlite(connection):
            # Without the option the rows that an INSERT wrote are not counted by every driver.
            options = {"preserve_rowcount": True}
            return connection.execute(self._statement, parameters, execution_options=options).rowcount
        return self._run(connection, parameters).rowcount

    def each(self, connection: Connection, rows: Sequence[Parameters]) -> None:
        """Run it for every row, in order."""
        for parameters in rows:
            self.changed(connection, parameters)

    def _run(self, connection: Connection, parameters: Parameters) -> sqlite3.Cursor:
        text, names, fixed = self._compile(connection, tuple(parameters))
        values = [parameters[name] if name in parameters else fixed[name] for name in names]
        driver: Any = connection.connection.driver_connection
        try:
            cursor: sqlite3.Cursor = driver.execute(text, values)
        except sqlite3.Error as error:
            raise DBAPIError.instance(text, values, error, sqlite3.Error, dialect=connection.dialect) from error
        return cursor

    def _compile(self, connection: Connection, names: tuple[str, ...]) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        found = self._compiled.get(names)
        if found is None:
            statement: Any = self._statement
            compiled = statement.compile(dialect=connection.dialect, column_keys=list(names))
            found = self._compiled[names] = (str(compiled), tuple(compiled.positiontup), dict(compiled.params))
        return found


def _is_plain_sqlite(connection: Connection) -> bool:
    # Outside a transaction the usual way begins one; the driver on its own would not.
    return connection.dialect.name == "sqlite" and connection.in_transaction()
