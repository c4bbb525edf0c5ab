"""Admission, settlement and the end of a team, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection

from gateway.admission import Admission, Answer, IdempotencyKey, admit
from gateway.money import ledger, reports
from gateway.money.budgets import Budget, UnknownTeamError, budget_states, set_budget
from gateway.money.windows import WindowKind, period_of
from gateway.store.database import Store
from gateway.store.jobs import Job, load_job
from gateway.teams import Deleted, StillBusy, delete_team
from tests.unit.store.builders import NOW, a_job

pytestmark = pytest.mark.anyio
HELD = 1_000


def wanted(number: int, key: str | None = None) -> Admission:
    """A job to be admitted, with its answer."""
    asked = a_job(number, held_micros=HELD, request={"metadata": {"n": str(number)}})
    return Admission(asked, NOW + 7200, IdempotencyKey(key, "f" * 64) if key else None, _answer)


def _answer(admitted: Job) -> Answer:
    return Answer(202, admitted.id.encode(), {"location": f"/jobs/{admitted.id}"})


def _budgets(connection: Connection, limit: int) -> None:
    set_budget(connection, Budget("b1", "team", WindowKind.MONTH, limit), NOW)
    set_budget(connection, Budget("b2", "team", WindowKind.DAY, soft_micros=HELD, key_id="key"), NOW)


async def test_an_answer_is_kept_with_its_claim_and_restated_when_it_turns_out_otherwise(store: Store) -> None:
    """Accepted, with a warning, and refused: each is replayed byte for byte, and refused leaves no job."""
    await store.write(_budgets, 2 * HELD)
    first = await store.write(admit, wanted(1, "one"))
    warned = await store.write(admit, wanted(2, "two"))
    refused = await store.write(admit, wanted(3, "three"))
    assert (first.status, warned.status, refused.status) == (202, 202, 402)
    assert "x-vidgate-budget-warning" in warned.headers
    for number, (key, before) in enumerate((("one", first), ("two", warned), ("three", refused)), start=7):
        again = await store.write(admit, wanted(number, key))
        assert (again.replayed, again.status, again.body, again.headers) == (
            True,
            before.status,
            before.body,
            before.headers,
        )
    assert await store.read(load_job, "job_003") is None
    states = await store.read(budget_states, "team", NOW)
    assert {(state.budget.budget_id, state.held_micros) for state in states} == {("b1", 2 * HELD), ("b2", 2 * HELD)}


async def test_one_key_is_one_job_however_many_ask_at_once(store: Store) -> None:
    """Twenty requests with one key: one is admitted, the others are told its answer."""
    await store.write(_budgets, 100 * HELD)
    answers = await asyncio.gather(*(store.write(admit, wanted(number, "same")) for number in range(20)))
    assert len({answer.body for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    states = await store.read(budget_states, "team", NOW)
    assert {state.held_micros for state in states} == {HELD}


async def test_a_team_ends_when_its_money_has_and_its_statement_stays(store: Store) -> None:
    """Refused with an open hold; afterwards nothing is admitted in its name, and the bill is what it was."""
    await store.write(_budgets, 10 * HELD)
    await store.write(admit, wanted(1))
    assert await store.write(delete_team, "team", NOW) == StillBusy(1, HELD, 1)
    bill = ledger.Capture("hold_001", 900, 800, "reported", "vendor", NOW, "delivered", "vendor/model", "a1")
    await store.write(ledger.capture, bill)
    await store.write(_ended, "job_001")
    refund = ledger.Correction("r", "margin", "team:team", 50, NOW, "blurred", hold_id="hold_001")
    await store.write(ledger.correct, refund)
    before = await store.read(reports.statement, "team", period_of(NOW))
    assert isinstance(await store.write(delete_team, "team", NOW), Deleted)
    assert await store.read(reports.statement, "team", period_of(NOW)) == before
    (group,) = reports.statement_groups(before, ("route", "tag:n"))
    assert (group.group, group.amount_micros) == ({"route": "vendor/model", "tag:n": "1"}, 850)
    with pytest.raises(UnknownTeamError):
        await store.write(delete_team, "team", NOW)


def _ended(connection: Connection, job_id: str) -> None:
    connection.exec_driver_sql(f"UPDATE jobs SET status = 'succeeded', finished_at = {NOW} WHERE id = '{job_id}'")
