"""A team that is deleted: nothing new in its name, nothing of its past lost, never with money under way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from gateway import webhooks
from gateway.admission import Admission, Answer, admit
from gateway.keys import KeyGrantError
from gateway.money import reports
from gateway.money.budgets import Budget, UnknownTeamError, budget_states, reserve, set_budget
from gateway.money.windows import WindowKind, period_of
from gateway.problems import Unauthorized
from gateway.store.jobs import Job
from gateway.store.listing import JobFilter, list_jobs
from gateway.store.schema import teams
from gateway.store.schema_events import webhook_deliveries
from gateway.teams import Deleted, StillBusy, delete_team
from gateway.webhooks import NewWebhook
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
PRICE = 100_000


async def test_a_team_with_a_running_job_is_not_deleted(start: Start) -> None:
    """The refusal counts what is under way and changes nothing; after the job's end it goes through, once."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    now = gateway.clock.now()
    assert await gateway.write(delete_team, gateway.team_id, now) == StillBusy(1, PRICE, 1)
    assert (await gateway.ended(job_id))["status"] == "succeeded"
    assert await gateway.write(delete_team, gateway.team_id, now) == Deleted(keys=1, budgets=0, webhooks=0)
    with pytest.raises(UnknownTeamError):
        await gateway.write(delete_team, gateway.team_id, now)


async def test_its_keys_budgets_and_webhooks_end_and_its_books_stay(start: Start) -> None:
    """Every key answers 401, nothing more is sent, and the statement is what it was."""
    gateway = await start(Scripted())
    now = gateway.clock.now()
    _, _, second = await gateway.new_key()
    await gateway.set_budget(10 * PRICE)
    await gateway.write(webhooks.add_webhook, NewWebhook("hook", gateway.team_id, "https://hook.test/in", now))
    await gateway.made()
    before = await gateway.read(reports.statement, gateway.team_id, period_of(now))
    balances = await gateway.balances()
    assert await gateway.write(delete_team, gateway.team_id, now) == Deleted(keys=2, budgets=1, webhooks=1)
    assert [(await gateway.client.get("/jobs", headers=key)).status_code for key in ({}, second)] == [401, 401]
    assert await gateway.read(reports.statement, gateway.team_id, period_of(now)) == before
    assert await gateway.balances() == balances
    assert await gateway.read(budget_states, gateway.team_id, now) == []
    assert await gateway.read(lambda connection: connection.execute(select(webhook_deliveries)).all()) == []


async def test_its_name_is_not_given_to_another(start: Start) -> None:
    """In the books one name is one team; another team goes on untouched."""
    gateway = await start(Scripted())
    _, _, other = await gateway.new_key("other")
    await gateway.write(delete_team, gateway.team_id, gateway.clock.now())
    with pytest.raises(KeyGrantError, match="was deleted"):
        await gateway.new_key()
    assert (await gateway.client.get("/jobs", headers=other)).status_code == 200


async def test_a_request_that_a_deletion_overtakes_is_refused(start: Start) -> None:
    """Its key was looked up before, its job is admitted after: 401, and nothing is left behind."""
    gateway = await start(Scripted())
    await gateway.made()
    counts = await gateway.counts()
    job = await gateway.read(_any_job, gateway.team_id)
    await gateway.write(delete_team, gateway.team_id, gateway.clock.now())
    late = Admission(job, job.give_up_at + 1.0, None, lambda _job: Answer(202, b"{}", {}))
    with pytest.raises(Unauthorized, match="deleted"):
        await gateway.write(admit, late)
    assert await gateway.counts() == counts


async def test_nothing_is_reserved_or_budgeted_in_its_name(start: Start) -> None:
    """Both ask for the team's row, which is there no more for them; the row itself cannot be taken away."""
    gateway = await start(Scripted())
    await gateway.made()
    now = gateway.clock.now()
    await gateway.write(delete_team, gateway.team_id, now)
    with pytest.raises(UnknownTeamError):
        await gateway.write(set_budget, Budget("b", gateway.team_id, WindowKind.DAY, 5), now)
    with pytest.raises(UnknownTeamError):
        await gateway.write(_reserve, gateway.team_id, now)
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        await gateway.write(lambda connection: connection.execute(text("DELETE FROM teams")))
    row = await gateway.read(lambda connection: connection.execute(select(teams.c.deleted_at)).scalar_one())
    assert row == now


def _reserve(connection: Connection, team_id: str, at: float) -> None:
    reserve(connection, team_id=team_id, key_id=None, amount_micros=1, at=at)


def _any_job(connection: Connection, team_id: str) -> Job:
    """A job like the team's last one, not admitted yet."""
    (job,) = list_jobs(connection, team_id, JobFilter(), 1)
    return replace(job, id="job_late", hold_id="hold_late")
