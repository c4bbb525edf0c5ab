"""A clock that was wrong and is set right while jobs run: nothing lost, nothing double, no hold that ends wrongly.

A jump that is taken back within a minute does not reach the service (tests/unit/test_clock.py): here are the others.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.money import budgets
from gateway.store.schema import jobs
from gateway.store.schema_money import holds
from providers.contract import Pending
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
SHORT = {"lease_s": 15, "heartbeat_s": 4}
HOUR_S, DAY_S = 3_600.0, 86_400.0


def rows_of(connection: Connection) -> list[Any]:
    columns = jobs.c.id, jobs.c.status, jobs.c.fence, jobs.c.crashes, jobs.c.lease_until, holds.c.state
    return list(connection.execute(select(*columns).join(holds, holds.c.id == jobs.c.hold_id)))


async def rendering(gateway: Gateway, count: int) -> list[str]:
    ids = [await gateway.submit() for _ in range(count)]
    for job_id in ids:
        await gateway.until(job_id, "rendering")
    return ids


@pytest.mark.parametrize("jump_s", [60.0, 600.0, -60.0, -HOUR_S])
async def test_jobs_that_render_survive_a_jump_past_their_leases(start: Start, jump_s: float) -> None:
    """The very process that drives them may be the first to claim them: it goes on, one driver a job, one render."""
    alpha = Scripted(trouble=Pending(), trouble_s=9e9)
    gateway = await start(alpha, jobs=SHORT, claim_interval_s=1.0)
    ids = await rendering(gateway, 5)
    gateway.clock.jumped_s = jump_s
    await gateway.clock.sleep(30)
    assert {row.state for row in await gateway.read(rows_of)} == {"open"}
    assert set(gateway.service.dispatcher._runs) == set(ids)
    now = gateway.clock.now()
    assert all(now < row.lease_until <= now + 15 for row in await gateway.read(rows_of))
    alpha.trouble = None
    assert {(await gateway.ended(job_id))["status"] for job_id in ids} == {"succeeded"}
    assert (len(alpha.asked), len(alpha.charged)) == (5, 5)
    assert all(row.crashes <= 1 for row in await gateway.read(rows_of))


@pytest.mark.parametrize("jump_s", [40 * DAY_S, -40 * DAY_S])
async def test_what_a_vendor_has_done_is_captured_across_deadlines_and_budget_windows(
    start: Start, jump_s: float
) -> None:
    """Deadlines, the hold's time and the month are over by the clock: the last question is still asked, and billed."""
    alpha = Scripted(trouble=Pending(), trouble_s=9e9)
    gateway = await start(alpha, jobs=SHORT, claim_interval_s=1.0)
    await gateway.set_budget(10_000_000)
    ids = await rendering(gateway, 3)
    alpha.trouble = None
    gateway.clock.jumped_s = jump_s
    assert {(await gateway.ended(job_id))["status"] for job_id in ids} == {"succeeded"}
    assert (len(alpha.asked), len(alpha.charged)) == (3, 3)
    assert (await gateway.balances())[f"team:{gateway.team_id}"] == 3 * alpha.price_micros
    gateway.clock.jumped_s = 0.0
    (state,) = await gateway.read(budgets.budget_states, gateway.team_id, gateway.clock.now())
    assert (state.held_micros, state.spent_micros) == (0, 3 * alpha.price_micros)
    assert (await gateway.made())["status"] == "succeeded"


async def test_a_hold_past_its_time_stays_with_a_job_that_lives(start: Start) -> None:
    """The clock is days ahead for a while: the turn that ends overdue holds finds nothing that it may end."""
    alpha = Scripted(trouble=Pending(), trouble_s=9e9)
    gateway = await start(alpha, jobs=SHORT | {"in_doubt_s": 30 * DAY_S}, claim_interval_s=1.0)
    ids = await rendering(gateway, 2)
    gateway.clock.jumped_s = 10 * DAY_S
    await gateway.service.dispatcher._end_overdue()
    await gateway.clock.sleep(200)
    gateway.clock.jumped_s = 0.0
    assert {row.state for row in await gateway.read(rows_of)} == {"open"}
    alpha.trouble = None
    assert {(await gateway.ended(job_id))["status"] for job_id in ids} == {"succeeded"}
    assert len(alpha.asked) == 2


async def test_jobs_of_a_process_that_died_with_a_wrong_clock_are_not_waited_for(start: Start) -> None:
    """Their leases end hours from now by a clock that is right again: they are claimed at once, and those that wait."""
    alpha = Scripted(trouble=Pending(), trouble_s=9e9)
    gateway = await start(alpha, jobs=SHORT | {"running_max": 2})
    gateway.clock.jumped_s = 5 * HOUR_S
    ids = [await gateway.submit() for _ in range(4)]
    await gateway.clock.sleep(5)
    await gateway.crash()
    await gateway.stop()
    again = await start(alpha, jobs=SHORT, claim_interval_s=1.0)
    alpha.trouble = None
    assert {(await again.ended(job_id, 300))["status"] for job_id in ids} == {"succeeded"}
    assert (len(alpha.accepted), len(set(alpha.accepted))) == (4, 4)
