"""Two teams against each other, in thousands of calls: neither is ever told anything of the other's.

`make tenants` plays 10,000 calls; here it is a short game, and the seeded faults that such a game must find.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import Connection, select

import gateway.app
from gateway import admission, outbox
from gateway.api import billing
from gateway.money import reports
from gateway.store import jobs as rows
from gateway.store import listing
from gateway.store.schema import teams
from tests.api.test_billing import Receiver
from tests.api.two_teams import CrossReadError, Game, players
from tests.support.fixtures import Start
from tests.support.scripted import Scripted
from tests.support.wire import Wire

pytestmark = pytest.mark.anyio
CALLS = int(os.environ.get("VIDGATE_FUZZ_CALLS", "300"))
MUTANT_CALLS_MAX = 600


async def game(start: Start, seed: int) -> Game:
    """Two teams that have begun, with vendors and a receiver of webhooks on a wire in this process."""
    wire = Wire()
    wire.apps["hook.test"] = Receiver().app
    with patch.object(gateway.app, "Outbound", wire.outbound()):
        bench = await start(Scripted())
    made = Game(bench, players(), Random(seed))
    await made.begin()
    return made


async def test_neither_team_is_told_anything_of_the_others(start: Start) -> None:
    """Every address, in any mix of the other's ids, cursors, idempotency keys, event ids, links and filters."""
    played = await game(start, seed=1)
    await played.play(CALLS)
    told = ", ".join(f"{name}: {count:,}" for name, count in sorted(played.tally.items()))
    print(f"two teams: {told}; 0 cross reads")
    assert played.tally["calls"] == CALLS
    assert played.tally["2xx"] > CALLS // 8, "hardly anything was answered: this shows little"
    assert played.tally["named something of the other's in the path"] > CALLS // 10


def everybody(connection: Connection) -> list[str]:
    return list(connection.execute(select(teams.c.id)).scalars())


def job_of_anybody(real: Any) -> Any:
    return lambda connection, job_id, _team_id=None: real(connection, job_id)


def jobs_of_all(real: Any) -> Any:
    def listed(connection: Connection, _team_id: str, wanted: Any, limit: int) -> list[rows.Job]:
        found = [job for one in everybody(connection) for job in real(connection, one, wanted, limit)]
        return sorted(found, key=lambda job: job.id, reverse=True)[:limit]

    return listed


def usage_of_all(real: Any) -> Any:
    return lambda connection, query: real(connection, replace(query, team_id=None))


def statement_of_another(real: Any) -> Any:
    def told(connection: Connection, team_id: str, period: str) -> Any:
        return real(connection, next(one for one in reversed(everybody(connection)) if one != team_id), period)

    return told


def deliveries_of_all(real: Any) -> Any:
    return lambda connection, **asked: real(connection, **{**asked, "team_id": None})


def budgets_of_all(real: Any) -> Any:
    return lambda connection, _team_id, at, **page: [
        state for one in everybody(connection) for state in real(connection, one, at, **page)
    ]


def replay_to_anybody(real: Any) -> Any:
    def replayed(connection: Connection, _team_id: str, key: Any, at: float) -> Any:
        fingerprints = "SELECT team_id, fingerprint FROM idempotency WHERE key = ?"
        found = connection.exec_driver_sql(fingerprints, (key.key,)).all()
        return next((real(connection, team, replace(key, fingerprint=text), at) for team, text in found), None)

    return replayed


# A fault of each kind that a handler could have: where it is, and what stands there instead.
MUTANTS: dict[str, tuple[object, str, Callable[[Any], Any]]] = {
    "a job is found whoever asks": (rows, "load_job", job_of_anybody),
    "a list is of all teams": (listing, "list_jobs", jobs_of_all),
    "usage is everybody's": (reports, "usage", usage_of_all),
    "a statement is another team's": (reports, "statement", statement_of_another),
    "deliveries are everybody's": (outbox, "deliveries", deliveries_of_all),
    "budgets are everybody's": (billing, "page_of_budget_states", budgets_of_all),
    "an idempotency key is anybody's": (admission, "replay", replay_to_anybody),
}


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_game_finds_a_handler_that_forgets_the_team(start: Start, name: str) -> None:
    """Each seeded fault is found, so that finding none means something."""
    played = await game(start, seed=2)
    place, attribute, mutate = MUTANTS[name]
    with patch.object(place, attribute, mutate(getattr(place, attribute))), pytest.raises(CrossReadError):
        await played.play(MUTANT_CALLS_MAX)
