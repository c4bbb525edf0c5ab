"""Commands that work straight on the database of a configuration, also beside a running gateway."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, select

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.servers import run
from gateway.settings import Settings
from gateway.store.database import StoreError, open_store
from gateway.store.schema import teams

P = ParamSpec("P")
T = TypeVar("T")

SPAN_MAX_S = 100 * 365 * 86_400.0
SPAN_UNITS_S = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_SPAN = re.compile(r"(\d{1,5})([hdw])")


def in_database(
    settings: Settings, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a function in one transaction of the configured database; its changes are kept when it returns."""
    return run(_once(settings, fn, *args, **kwargs))


async def _once(
    settings: Settings, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    try:
        # Beside a running gateway: the database is shared for one short transaction.
        store = await open_store(settings.store, exclusive=False)
    except StoreError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    try:
        return await store.write(fn, *args, **kwargs)
    finally:
        await store.close()


def team_of(connection: Connection, name: str, *, live: bool = False) -> tuple[str, str]:
    """A team's id and time zone by its name; with `live` only one that was not deleted. Raises CommandError."""
    query = select(teams.c.id, teams.c.timezone, teams.c.deleted_at).where(teams.c.name == name)
    row = connection.execute(query).one_or_none()
    if row is None:
        known = connection.execute(select(teams.c.name).order_by(teams.c.name)).scalars().all()
        raise CommandError(
            ExitCode.USAGE, f"there is no team {name!r}", f"one of: {', '.join(known[:20])}" if known else ""
        )
    if live and row.deleted_at is not None:
        raise CommandError(ExitCode.USAGE, f"team {name} was deleted at {when(row.deleted_at)} UTC")
    return row.id, row.timezone


def team_names(connection: Connection) -> dict[str, str]:
    """The name of every team by its id."""
    return {row.id: row.name for row in connection.execute(select(teams.c.id, teams.c.name))}


def instant(text: str, now: float, option: str) -> float:
    """A date, a time or a span back from now (`30d`, `12h`, `2w`), as unix seconds. Raises CommandError."""
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now - int(span[1]) * SPAN_UNITS_S[span[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(ExitCode.USAGE, f"{option} {text!r} is no time", "30d, 12h or 2026-10-01") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def span(amount: float, unit_s: float, option: str) -> float:
    """A length of time in seconds. Raises CommandError for what is no number, or longer than anything lasts."""
    if not 0 <= amount * unit_s <= SPAN_MAX_S:
        raise CommandError(ExitCode.USAGE, f"{option} must be a length of time of at most 100 years, not {amount}")
    return amount * unit_s


def when(at: float | None) -> str:
    """A unix time for people, in UTC to the minute."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
