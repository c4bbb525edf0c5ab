"""Statements of the hot path: compiled once, and on SQLite handed to the driver as they are.

SQLAlchemy takes some 20 microseconds to prepare, run and wrap a statement that SQLite runs in 2, and an admission has
ten of them. Values are converted on their way in, as JSON columns need; rows come back as the driver has them, so only
columns of plain numbers, texts and bytes are read this way. Outside a transaction and on every other database a
statement runs as usual, and the answer is the same.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import JSON, Connection
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable

_DIALECT: Any = pysqlite.dialect()
_encode = json.JSONEncoder().encode  # as SQLAlchemy's JSON type does, None included
Parameters = Mapping[str, Any]


class _Ready(NamedTuple):
    """What the driver is given: the text, and its values picked from the named ones in their order.

    `fixed` are the values that never change, `documents` the names of those that are written as JSON.
    """

    text: str
    pick: Callable[[Parameters], Sequence[Any]]
    fixed: dict[str, Any]
    documents: tuple[str, ...]


class Prepared:
    """One statement with named parameters. For an INSERT without values the parameters name the columns."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Ready] = {}

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
        ready = self._compiled.get(tuple(parameters)) or self._compile(tuple(parameters))
        named = parameters
        if ready.fixed or ready.documents:
            named = {**ready.fixed, **parameters}
            for name in ready.documents:
                named[name] = _to_json(named[name])
        values = ready.pick(named)
        driver: Any = connection.connection.dbapi_connection
        try:
            cursor: sqlite3.Cursor = driver.execute(ready.text, values)
        except sqlite3.Error as error:
            raise DBAPIError.instance(ready.text, values, error, sqlite3.Error, dialect=connection.dialect) from error
        return cursor

    def _compile(self, names: tuple[str, ...]) -> _Ready:
        statement: Any = self._statement
        compiled = statement.compile(dialect=_DIALECT, column_keys=list(names))
        fixed = {name: value for name, value in compiled.params.items() if name not in names}
        documents = tuple(name for name, bound in compiled.binds.items() if isinstance(bound.type, JSON))
        ready = self._compiled[names] = _Ready(str(compiled), _picker(compiled.positiontup), fixed, documents)
        return ready


def _to_json(value: Any) -> str:
    # Half of a new job's documents are empty, and an encoder takes as long as an INSERT to set itself up.
    if value == {}:
        return "{}"
    return "[]" if value == [] else _encode(value)


def _picker(names: Sequence[str]) -> Callable[[Parameters], Sequence[Any]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda named: [named[name] for name in names]


def _is_plain_sqlite(connection: Connection) -> bool:
    # Outside a transaction the usual way begins one; the driver on its own would not.
    return connection.dialect.name == "sqlite" and connection.in_transaction()
