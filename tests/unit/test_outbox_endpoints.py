"""How an endpoint stands: left alone when it asks or is out, disabled after days, and never in the way of another."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from gateway import webhooks
from gateway.events import Event, emit
from gateway.outbound import OutboundError, Posted
from gateway.outbox import (
    ENDPOINT_SENDING_MAX,
    FAILING_MAX_S,
    LEASE_S,
    PAUSE_MAX_S,
    PAUSE_MIN_S,
    SENDING_MAX,
    Tried,
    claim_due,
    deliveries,
    disabled_targets,
    endpoint_pause_s,
    replay,
)
from gateway.store.schema_events import events
from gateway.webhooks import NewWebhook
from tests.support.sends import send_due
from tests.unit.test_outbox import HOUR_S, NOW, Bench, play, template

__all__ = ["play", "template"]

DEAD = OutboundError("unreachable", "no answer within 20 s")
OTHER_URL = "https://other.example/in"


def told(number: int, team: str = "t1", at: float = NOW) -> Event:
    return Event(f"job.failed:{team}:{number}", "job.failed", team, at, {"number": number})


async def emit_many(bench: Bench, count: int, team: str = "t1") -> None:
    for number in range(count):
        await bench.store.write(emit, told(number, team))


async def hook(bench: Bench, name: str = "hook_1") -> webhooks.Webhook:
    return next(one for one in await bench.store.write(webhooks.list_webhooks) if one.id == name)


class Parted:
    """A receiver that is dead at one address and well at another; it counts how many sends are open at once."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.open: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.never = asyncio.Event()

    async def post(self, url: str, body: bytes, sent: Any, timeout_s: float) -> Posted:
        self.open[url] += 1
        self.most[url] = max(self.most[url], self.open[url])
        try:
            if url == OTHER_URL:
                self.got.append(sent["webhook-id"])
                return Posted(204, None)
            await self.never.wait()
            raise DEAD
        finally:
            self.open[url] -= 1


def test_a_dead_endpoint_with_a_pile_does_not_hold_up_another(play: Any) -> None:
    """Five hundred deliveries hang on one that never answers; the other's are delivered in the same turn."""

    async def story(bench: Bench) -> None:
        bench.receiver = parted = Parted()  # type: ignore[assignment]
        await bench.store.write(webhooks.add_webhook, NewWebhook("hook_2", "t2", OTHER_URL, NOW))
        await emit_many(bench, 500)
        await emit_many(bench, 10, "t2")
        outbox = bench.outbox()
        for _ in range(5):
            await outbox.begin()
            for _ in range(200):
                if len(parted.got) == 10:
                    break
                await asyncio.sleep(0.01)
        assert len(set(parted.got)) == 10
        assert max(parted.most.values()) <= ENDPOINT_SENDING_MAX
        await outbox.close()

    play(story)


def test_a_turn_sends_a_pile_as_fast_as_it_is_taken(play: Any) -> None:
    """A receiver that answers gets everything in one turn, though only a few at a time."""

    async def story(bench: Bench) -> None:
        await emit_many(bench, 60)
        outbox = bench.outbox()
        await outbox.turn()
        await send_due(outbox)
        assert len(bench.receiver.got) == 60

    play(story)


def test_several_senders_share_the_work_and_send_nothing_twice(play: Any) -> None:
    """Three replicas over one store: every event once, and never more than its few at an endpoint together."""

    async def story(bench: Bench) -> None:
        await emit_many(bench, 40)
        outboxes = [bench.outbox() for _ in range(3)]
        while sum(await asyncio.gather(*(send_due(one) for one in outboxes))):
            pass
        ids = [sent["webhook-id"] for _, _, sent in bench.receiver.got]
        assert (len(ids), len(set(ids))) == (40, 40)

    play(story)


def test_a_claim_takes_an_endpoints_few_and_the_rest_stay_for_later(play: Any) -> None:
    """What other replicas send to it counts; their leases run out and their sends are taken up."""

    async def story(bench: Bench) -> None:
        await emit_many(bench, 10)
        first = await bench.store.write(claim_due, NOW, LEASE_S, SENDING_MAX)
        assert len(first) == ENDPOINT_SENDING_MAX
        assert await bench.store.write(claim_due, NOW + 1, LEASE_S, SENDING_MAX) == []
        again = await bench.store.write(claim_due, NOW + LEASE_S + 1, LEASE_S, SENDING_MAX)
        assert {due.event_id for due in first} == {due.event_id for due in again}

    play(story)


@pytest.mark.parametrize("answer", [Posted(429, None), Posted(502, None), Posted(504, None), DEAD], ids=str)
def test_an_endpoint_that_is_out_is_left_alone_with_everything_that_goes_there(play: Any, answer: Any) -> None:
    """Throttled or silent: nothing else is sent for a while, then one to see, then the rest at once."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [answer] * ENDPOINT_SENDING_MAX
        await emit_many(bench, 20)
        outbox = bench.outbox()
        await send_due(outbox)
        assert len(bench.receiver.got) == ENDPOINT_SENDING_MAX
        bench.clock.at += PAUSE_MIN_S - 0.1
        assert await send_due(outbox) == 0
        bench.clock.at += 1.0
        assert await outbox.begin() == 1
        await send_due(outbox)
        assert len(bench.receiver.got) == 20 + ENDPOINT_SENDING_MAX
        assert (await hook(bench)).failing_since is None

    play(story)


def test_an_answer_of_500_is_about_the_message_and_stops_no_other(play: Any) -> None:
    """A receiver that chokes on one event goes on getting the others."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [Posted(500, None), Posted(404, None)]
        await emit_many(bench, 10)
        await send_due(bench.outbox())
        assert len(bench.receiver.got) == 10
        assert Counter(one["state"] for one in await bench.store.write(deliveries)) == {"delivered": 8, "pending": 2}

    play(story)


def test_a_retry_after_holds_for_the_whole_endpoint(play: Any) -> None:
    """The receiver asked for an hour: a new event waits too."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [Posted(429, "3600")]
        await bench.store.write(emit, told(1))
        await send_due(bench.outbox())
        await bench.store.write(emit, told(2))
        bench.clock.at = NOW + 3_599
        assert await send_due(bench.outbox()) == 0
        bench.clock.at = NOW + 3_601
        assert await send_due(bench.outbox()) == 2

    play(story)


@given(
    st.sampled_from([None, 301, 404, 410, 429, 500, 502, 503, 504]),
    st.floats(0, 10**7),
    st.none() | st.floats(0, 10**6),
)
def test_a_pause_is_bounded_and_never_shorter_than_asked(status: int | None, failing_s: float, wish_s: Any) -> None:
    """At least what the receiver asked for up to a day; of our own accord five seconds to five minutes."""
    pause_s = endpoint_pause_s(Tried(NOW, 1.0, status, retry_after_s=wish_s), failing_s)
    wish_s = min(wish_s or 0.0, 24 * HOUR_S)
    own = status is None or status in {429, 502, 504}
    assert max(wish_s, PAUSE_MIN_S if own else 0.0) <= pause_s <= max(wish_s, PAUSE_MAX_S if own else 0.0)


def test_an_endpoint_that_takes_nothing_for_days_is_disabled_and_the_operator_told(play: Any) -> None:
    """Five days without one success; one success in between begins the count again."""

    async def story(bench: Bench) -> None:
        await bench.store.write(webhooks.add_webhook, NewWebhook("hook_ops", None, OTHER_URL, NOW))
        bench.receiver.answers = [Posted(500, None)] * 3 + [Posted(204, None)] + [Posted(500, None)] * 99
        for day in range(7):
            bench.clock.at = NOW + day * 24 * HOUR_S
            await bench.store.write(emit, told(day, at=bench.clock.at))
            await send_due(bench.outbox())
        assert (await hook(bench)).disabled_why is None
        began_at = (await hook(bench)).failing_since
        assert began_at is not None
        while (await hook(bench)).disabled_why is None:
            bench.clock.at += 6 * HOUR_S
            assert bench.clock.at < NOW + 20 * 24 * HOUR_S
            await send_due(bench.outbox())
        assert bench.clock.at - began_at >= FAILING_MAX_S
        assert "nothing was taken for 5 days" in str((await hook(bench)).disabled_why)
        (event,) = await bench.store.write(operator_events)
        assert (event.type, event.team_id) == ("webhook.disabled", None)
        assert "hook_1" in event.body
        bench.receiver.answers = []
        await send_due(bench.outbox())
        assert bench.receiver.got[-1][0] == OTHER_URL

    play(story)


def operator_events(connection: Connection) -> list[Any]:
    return list(connection.execute(select(events).where(events.c.team_id.is_(None))))


def test_a_disabled_endpoint_that_is_enabled_gets_what_waits(play: Any) -> None:
    """A 410 ends it; a replay warns that it waits, and goes out once the endpoint is enabled."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [Posted(410, None)]
        await bench.store.write(emit, told(1))
        await send_due(bench.outbox())
        assert await bench.store.write(replay, told(1).id, NOW) == 1
        assert await bench.store.write(disabled_targets, told(1).id) == ["hook_1"]
        assert await send_due(bench.outbox()) == 0
        assert await bench.store.write(webhooks.enable_webhook, "hook_1")
        assert not await bench.store.write(webhooks.enable_webhook, "hook_9")
        assert await send_due(bench.outbox()) == 1
        assert (await bench.shown())["state"] == "delivered"

    play(story)


def test_a_fault_of_ours_in_one_send_leaves_the_others_alone(play: Any) -> None:
    """It is logged, its lease runs out, and it is sent again."""

    async def story(bench: Bench) -> None:
        await emit_many(bench, 3)
        post, calls = bench.receiver.post, []

        async def broken(*arguments: Any) -> Posted:
            calls.append(arguments)
            if len(calls) == 1:
                raise ZeroDivisionError("a fault of our own")
            return await post(*arguments)

        bench.receiver.post = broken  # type: ignore[method-assign]
        await send_due(bench.outbox())
        assert len(bench.receiver.got) == 2
        bench.clock.at += LEASE_S + 1
        await send_due(bench.outbox())
        assert len(bench.receiver.got) == 3

    play(story)
