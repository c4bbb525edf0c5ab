"""Many at once on PostgreSQL, where transactions really run beside each other: each rule holds for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.util import await_only

from gateway import webhooks
from gateway.money import budgets, idempotency, ledger, periods
from gateway.money.accounts import record_balance
from gateway.money.transfers import books_alone
from gateway.money.windows import WindowKind
from gateway.settings import StoreSection
from gateway.store import jobs as rows
from gateway.store.database import Store, open_store
from gateway.store.schema_events import events, webhook_deliveries
from gateway.store.schema_money import entries, settlements
from gateway.webhooks import NewWebhook
from tests.unit.store.builders import NOW, a_job, add_jobs, add_team

pytestmark = pytest.mark.anyio
AT_ONCE = 20
PRICE = 100
ACCEPTED = idempotency.Replay(202, b"{}", {})
REFUSED = idempotency.Replay(402, b"no", {})
WAIT_S = 0.5
JULY, AUGUST, SEPTEMBER = 1_752_000_000.0, 1_755_000_000.0, 1_757_500_000.0


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    """A fresh database with one team, and a connection for each of the many."""
    opened = await open_store(StoreSection(url=postgres_url, connections_max=AT_ONCE))
    await opened.write(add_team)
    yield opened
    await opened.close()


def request(name: str, amount_micros: int = PRICE, at: float = NOW) -> ledger.HoldRequest:
    """A hold of the team's."""
    return ledger.HoldRequest(f"h-{name}", f"j-{name}", "team", "key", amount_micros, at, at + 1_000)


class Gate:
    """Lets a transaction wait in its middle until the test says go on."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    def wait(self) -> None:
        async def waiting() -> None:
            self.reached.set()
            await self.open.wait()

        await_only(waiting())


async def waits(task: asyncio.Task[Any]) -> None:
    """Give a transaction every chance to end: it must not, for it waits for another one."""
    done, _ = await asyncio.wait({task}, timeout=WAIT_S)
    assert not done


async def test_jobs_are_claimed_once_by_whoever_comes_first(store: Store) -> None:
    """Twenty claims at the same moment share forty jobs: none is taken twice, none waits for another claim."""
    await store.write(add_jobs, *(a_job(number) for number in range(40)))
    claims = await asyncio.gather(*(store.write(rows.claim_due, f"p{n}", NOW, 15.0, 2) for n in range(AT_ONCE)))
    claimed = [job.id for jobs in claims for job in jobs]
    assert len(claimed) == len(set(claimed))
    assert all(len(jobs) <= 2 for jobs in claims)
    rest = await store.write(rows.claim_due, "last", NOW, 15.0, 40)
    assert len(claimed) + len(rest) == 40


async def test_a_claim_passes_by_what_another_one_holds(store: Store) -> None:
    """A claim in the middle of its transaction holds up nobody."""
    await store.write(add_jobs, *(a_job(number) for number in range(4)))
    gate = Gate()

    def slow(connection: Connection) -> list[str]:
        claimed = rows.claim_due(connection, "slow", NOW, 15.0, 2)
        gate.wait()
        return [job.id for job in claimed]

    first = asyncio.create_task(store.write(slow))
    await gate.reached.wait()
    second = [job.id for job in await store.write(rows.claim_due, "quick", NOW, 15.0, 4)]
    gate.open.set()
    assert sorted(await first + second) == [f"job_00{number}" for number in range(4)]
    assert len(second) == 2


async def test_money_for_ten_is_spent_ten_times_whoever_opens_the_window(store: Store) -> None:
    """All of them find the day's window not begun, and none is refused for that: exactly ten are admitted."""
    budget = budgets.Budget("b", "team", WindowKind.DAY, 10 * PRICE + PRICE // 2)
    await store.write(budgets.set_budget, budget, NOW)
    tomorrow = NOW + 86_400
    held = await asyncio.gather(*(store.write(ledger.hold, request(str(n), at=tomorrow)) for n in range(AT_ONCE)))
    assert sum(isinstance(one, ledger.Held) for one in held) == 10
    refused = [one for one in held if isinstance(one, ledger.BudgetRefusal)]
    assert {one.held_micros for one in refused} == {10 * PRICE}
    assert await store.read(ledger.check) == []


async def test_a_window_that_another_is_opening_refuses_nobody(store: Store) -> None:
    """Whoever comes while the first is still opening the window waits for it, and then takes from it."""
    await store.write(budgets.set_budget, budgets.Budget("b", "team", WindowKind.DAY, 2 * PRICE), NOW)
    gate, tomorrow = Gate(), NOW + 86_400

    def slow(connection: Connection) -> Any:
        held = ledger.hold(connection, request("first", at=tomorrow))
        gate.wait()
        return held

    first = asyncio.create_task(store.write(slow))
    await gate.reached.wait()
    second = asyncio.create_task(store.write(ledger.hold, request("second", at=tomorrow)))
    await waits(second)
    gate.open.set()
    assert isinstance(await first, ledger.Held)
    assert isinstance(await second, ledger.Held)


async def test_a_hold_settles_once_whoever_asks(store: Store) -> None:
    """Captures and releases of one hold at the same moment: one of them settles it, the rest are told how."""
    await store.write(ledger.hold, request("x"))
    bill = ledger.Capture("h-x", PRICE, PRICE, "reported", "vendor", NOW + 1, "delivered")
    asked = [store.write(ledger.capture, bill) for _ in range(AT_ONCE // 2)]
    asked += [store.write(ledger.release, "h-x", NOW + 1, "gone") for _ in range(AT_ONCE // 2)]
    said = await asyncio.gather(*asked)
    assert sum(not isinstance(one, ledger.AlreadySettled) for one in said) == 1
    assert len(await store.read(lambda connection: connection.execute(select(settlements)).all())) == 1
    assert await store.read(ledger.check) == []


async def test_a_second_request_with_a_key_waits_for_the_first_and_gets_its_answer(store: Store) -> None:
    """While the first is in its transaction the second waits; then it is told what the first was told."""
    gate = Gate()

    def slow(connection: Connection) -> Any:
        claim = idempotency.claim(connection, "team", "k", "f", NOW, ACCEPTED)
        gate.wait()
        idempotency.restate(connection, "team", "k", REFUSED)
        return claim

    first = asyncio.create_task(store.write(slow))
    await gate.reached.wait()
    second = asyncio.create_task(store.write(idempotency.claim, "team", "k", "f", NOW, ACCEPTED))
    other = await store.write(idempotency.claim, "team", "another", "f", NOW, ACCEPTED)
    await waits(second)
    gate.open.set()
    assert await first == idempotency.Fresh() == other
    assert await second == REFUSED


async def test_a_key_whose_first_request_failed_is_free_for_the_second(store: Store) -> None:
    """The first is rolled back: the one that waited for it has the key."""
    gate = Gate()

    def fails(connection: Connection) -> None:
        idempotency.claim(connection, "team", "k", "f", NOW, ACCEPTED)
        gate.wait()
        raise KeyError("mine")

    first = asyncio.create_task(store.write(fails))
    await gate.reached.wait()
    second = asyncio.create_task(store.write(idempotency.claim, "team", "k", "other", NOW, ACCEPTED))
    await waits(second)
    gate.open.set()
    with pytest.raises(KeyError, match="mine"):
        await first
    assert await second == idempotency.Fresh()


async def test_a_booking_beside_a_month_close_lands_in_the_next_month(store: Store) -> None:
    """A booking that comes while a month is being closed waits and is booked after it, not refused and not lost."""
    gate = Gate()

    def close(connection: Connection) -> Any:
        closed = periods.close_period(connection, "2025-08", SEPTEMBER)
        gate.wait()
        return closed

    closing = asyncio.create_task(store.write(close))
    await gate.reached.wait()
    loss = ledger.Loss("j", "a", "vendor", PRICE, AUGUST, "failed")
    booking = asyncio.create_task(store.write(ledger.book_loss, loss))
    await waits(booking)
    gate.open.set()
    assert isinstance(await closing, periods.Closed)
    assert await booking == ledger.Booked(PRICE)
    assert await store.read(lambda connection: connection.execute(select(entries.c.period)).scalar_one()) == "2025-09"


async def test_nobody_books_beside_a_reconciliation(store: Store) -> None:
    """What is compared is what is booked: a booking that comes in between waits for the end."""
    gate = Gate()

    def compares(connection: Connection) -> list[int]:
        books_alone(connection)
        seen = [len(connection.execute(select(entries.c.id)).all())]
        gate.wait()
        return [*seen, len(connection.execute(select(entries.c.id)).all())]

    comparing = asyncio.create_task(store.write(compares))
    await gate.reached.wait()
    booking = asyncio.create_task(store.write(ledger.book_loss, ledger.Loss("j", "a", "vendor", PRICE, JULY, "x")))
    await waits(booking)
    gate.open.set()
    assert await comparing == [0, 0]
    assert await booking == ledger.Booked(PRICE)


async def test_one_replica_is_the_first_to_see_an_account_fall(store: Store) -> None:
    """Replicas that poll a vendor's balance at the same moment tell the operator once."""
    await store.write(record_balance, "vendor", 1_000, at=NOW, source="polled", floor_micros=500)
    gate = Gate()

    def poll(connection: Connection, gate: Gate | None = None) -> Any:
        low = record_balance(connection, "vendor", 100, at=NOW + 1, source="polled", floor_micros=500)
        if gate is not None:
            gate.wait()
        return low

    first = asyncio.create_task(store.write(poll, gate))
    await gate.reached.wait()
    second = asyncio.create_task(store.write(poll))
    await waits(second)
    gate.open.set()
    assert await first is not None
    assert await second is None


async def test_an_endpoint_removed_beside_an_event_breaks_nothing(store: Store) -> None:
    """Whoever is to be told stays until what is to be told is written; then it goes, with what it was to be sent."""
    await store.write(webhooks.add_webhook, NewWebhook("w", "team", "https://example.com/x", NOW))
    gate = Gate()

    def tells(connection: Connection) -> list[str]:
        listeners = webhooks.subscribed(connection, "job.succeeded", "team")
        gate.wait()
        emit(connection, listeners)
        return listeners

    telling = asyncio.create_task(store.write(tells))
    await gate.reached.wait()
    removing = asyncio.create_task(store.write(webhooks.remove_webhook, "w"))
    await waits(removing)
    gate.open.set()
    assert await telling == ["w"]
    assert await removing
    assert await store.read(lambda connection: connection.execute(select(webhook_deliveries)).all()) == []


def emit(connection: Connection, listeners: list[str]) -> None:
    """An event with its deliveries, as gateway/events.py writes them."""
    row = {"id": "e", "type": "job.succeeded", "at": NOW, "content_type": "application/json", "body": "{}"}
    connection.execute(insert(events).values(row))
    due = [{"event_id": "e", "webhook_id": one, "due_at": NOW} for one in listeners]
    connection.execute(insert(webhook_deliveries), due)
