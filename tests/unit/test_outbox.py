"""The outbox: published signatures, the schedule, at least once under one id, and what a receiver's answer means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select

from gateway import webhooks
from gateway.events import Event, emit, emit_usage, event_id
from gateway.outbound import OutboundError, Posted
from gateway.outbox import (
    JITTER,
    LEASE_S,
    SCHEDULE_S,
    Outbox,
    Tried,
    claim_due,
    deliveries,
    note_try,
    replay,
    retry_after_s,
    wait_after,
)
from gateway.signatures import SecretError, headers, new_secret, secret_bytes, signature
from gateway.store.schema import teams
from gateway.store.schema_events import events, webhook_tries
from gateway.store.schema_events import webhooks as webhook_rows
from gateway.store.sqlite import SqliteStore
from gateway.telemetry.tracing import Tracing
from gateway.webhook_urls import WebhookError
from gateway.webhooks import NewWebhook
from tests.support.sends import send_due

NOW = 1_790_856_000.0
URL = "https://hook.example/in"
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOUR_S = 3600.0
ENDED = Event("job.succeeded:job_1", "job.succeeded", "t1", NOW, {"job_id": "job_1"})
Answer = Posted | OutboundError


class Receiver:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.got: list[tuple[str, bytes, Mapping[str, str]]] = []

    async def post(self, url: str, body: bytes, sent: Mapping[str, str], timeout_s: float) -> Posted:
        self.got.append((url, body, sent))
        answer = self.answers.pop(0) if self.answers else Posted(204, None)
        if isinstance(answer, OutboundError):
            raise answer
        return answer


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at


class Bench:
    """A store with one team and its endpoint, a clock, and outboxes that share them."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.receiver = store, Hand(), Receiver()
        self.secret = ""

    def outbox(self) -> Outbox:
        return Outbox(self.store, self.receiver, self.clock, Random(1), Tracing(self.clock, "test"))  # type: ignore[arg-type]

    async def begin(self) -> None:
        await self.store.write(_team)
        self.secret = await self.store.write(webhooks.add_webhook, NewWebhook("hook_1", "t1", URL, NOW))

    async def shown(self) -> dict[str, Any]:
        return (await self.store.write(deliveries))[0]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outbox") / "template.db"
    asyncio.run(SqliteStore.open(f"sqlite:///{path}").close())
    return path


@pytest.fixture
def play(tmp_path: Path, template: Path) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    """Run a story over a bench."""

    def tell(story: Callable[[Bench], Awaitable[None]]) -> None:
        async def run() -> None:
            store = SqliteStore.open(f"sqlite:///{tmp_path / 'v.db'}")
            try:
                bench = Bench(store)
                await bench.begin()
                await story(bench)
            finally:
                await store.close()

        (tmp_path / "v.db").write_bytes(template.read_bytes())
        asyncio.run(run())

    return tell


def _team(connection: Connection) -> None:
    connection.execute(
        insert(teams), [{"id": name, "name": name, "plan": {}, "created_at": NOW} for name in ("t1", "t2")]
    )


def test_the_published_vector_is_signed_as_published() -> None:
    """The vector of the Standard Webhooks libraries comes out to the letter."""
    signed = signature(VECTOR_SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_secrets_make_two_signatures() -> None:
    """While secrets change over, a receiver may check with either."""
    old, new = new_secret(), new_secret()
    made = headers("evt_1", NOW + 0.9, b"{}", [new, old])
    assert made["webhook-signature"].split() == [signature(one, "evt_1", int(NOW), b"{}") for one in (new, old)]
    assert made["webhook-timestamp"] == str(int(NOW))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "whsec_" + "A" * 200])
def test_an_empty_short_or_malformed_secret_signs_nothing(secret: str) -> None:
    """An empty secret would let anybody forge events."""
    with pytest.raises(SecretError):
        secret_bytes(secret)


def test_the_schedule_is_the_published_one() -> None:
    """At once and then nine waits, some 76 hours in all."""
    assert sum(SCHEDULE_S) == pytest.approx(75 * HOUR_S + 35 * 60 + 5)
    failed = Tried(NOW, 1.0, 500)
    waits = [wait_after(tries, failed, Random(3)) for tries in range(len(SCHEDULE_S) + 1)]
    assert waits[-1] is None
    for wait_s, planned_s in zip(waits[:-1], SCHEDULE_S, strict=True):
        assert wait_s is not None
        assert planned_s * (1 - JITTER) <= wait_s <= planned_s * (1 + JITTER)
    assert len({wait_after(3, failed, Random(seed)) for seed in range(50)}) == 50


@given(st.integers(0, 8), st.floats(0, 10**6), st.integers(0, 10**6))
def test_a_try_never_comes_sooner_than_the_receiver_asked(tries: int, wish_s: float, seed: int) -> None:
    """Retry-After is obeyed up to a day."""
    wait_s = wait_after(tries, Tried(NOW, 0.0, 503, retry_after_s=wish_s), Random(seed))
    assert wait_s is not None
    assert wait_s >= min(wish_s, 24 * HOUR_S)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("Thu, 01 Oct 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Oct 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("Wed, 1020260 Oct 2026 07226:0202602260260", None),  # found by fuzzing: no date can be made of it
        ("", None),
        (None, None),
    ],
)
def test_both_forms_of_retry_after_are_read(text: str | None, seconds: float | None) -> None:
    """Seconds and dates; a past date is now, nonsense is nothing."""
    assert retry_after_s(text, NOW) == seconds


def test_an_event_is_delivered_once_signed_and_logged(play: Any) -> None:
    """A receiver gets the stored bytes with a signature over them; the delivery is then done."""

    async def story(bench: Bench) -> None:
        assert await bench.store.write(emit, ENDED)
        assert await send_due(bench.outbox()) == 1
        assert await send_due(bench.outbox()) == 0
        ((url, body, sent),) = bench.receiver.got
        assert (url, json.loads(body)["data"]) == (URL, {"job_id": "job_1"})
        assert sent["webhook-id"] == ENDED.id == event_id(ENDED.reference)
        assert sent["webhook-signature"] == signature(bench.secret, ENDED.id, int(NOW), body)
        shown = await bench.shown()
        assert (shown["state"], [tried["status"] for tried in shown["log"]]) == ("delivered", [204])

    play(story)


def test_the_same_fact_is_one_event(play: Any) -> None:
    """A settlement that is repeated tells nothing twice."""

    async def story(bench: Bench) -> None:
        assert [await bench.store.write(emit, ENDED) for _ in range(2)] == [True, False]
        assert await send_due(bench.outbox()) == 1

    play(story)


def test_a_transaction_that_fails_tells_nothing(play: Any) -> None:
    """The event is in the transaction of the change: when that is undone, so is the event."""

    def change(connection: Connection) -> None:
        emit(connection, ENDED)
        raise RuntimeError("the change failed")

    async def story(bench: Bench) -> None:
        with pytest.raises(RuntimeError, match="the change failed"):
            await bench.store.write(change)
        assert await send_due(bench.outbox()) == 0

    play(story)


@pytest.mark.parametrize(
    "answer", [Posted(500, None), Posted(302, None), Posted(404, None), OutboundError("unreachable", "nobody")]
)
def test_anything_but_a_2xx_is_tried_again_under_the_same_id(play: Any, answer: Answer) -> None:
    """Redirects too are failures; the second try carries the same id and bytes, and a new timestamp."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [answer]
        await bench.store.write(emit, ENDED)
        await send_due(bench.outbox())
        bench.clock.at += SCHEDULE_S[0] * (1 - JITTER) - 0.01
        assert await send_due(bench.outbox()) == 0
        bench.clock.at = NOW + 60
        assert await send_due(bench.outbox()) == 1
        (_, first, one), (_, second, two) = bench.receiver.got
        assert (first, one["webhook-id"]) == (second, two["webhook-id"])
        assert one["webhook-timestamp"] != two["webhook-timestamp"]
        assert (await bench.shown())["state"] == "delivered"

    play(story)


def test_a_receiver_that_never_answers_is_given_up_after_the_schedule(play: Any) -> None:
    """Ten tries over three days, then the delivery has failed; a replay begins again."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [Posted(503, None)] * 10
        await bench.store.write(emit, ENDED)
        for wait_s in (*SCHEDULE_S, HOUR_S, HOUR_S):
            await send_due(bench.outbox())
            bench.clock.at += wait_s * (1 + JITTER)
        assert (len(bench.receiver.got), (await bench.shown())["state"]) == (10, "failed")
        assert await bench.store.write(replay, ENDED.id, bench.clock.at) == 1
        await send_due(bench.outbox())
        assert (await bench.shown())["state"] == "delivered"
        assert {sent["webhook-id"] for _, _, sent in bench.receiver.got} == {ENDED.id}

    play(story)


def test_a_410_ends_the_endpoint(play: Any) -> None:
    """The receiver is gone: nothing more is sent, of this event or any other, until its secret is renewed."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [Posted(410, None)]
        await bench.store.write(emit, ENDED)
        await send_due(bench.outbox())
        (hook,) = await bench.store.write(webhooks.list_webhooks)
        assert (hook.disabled_why, (await bench.shown())["state"]) == ("the receiver answered 410", "failed")
        later = Event("job.failed:job_2", "job.failed", "t1", NOW, {})
        assert not await bench.store.write(emit, later)
        assert await bench.store.write(webhooks.rotate_webhook, "hook_1", NOW) is not None
        assert await bench.store.write(emit, later)

    play(story)


def test_a_sender_that_died_is_followed_by_another_and_cannot_undo_its_word(play: Any) -> None:
    """Its lease runs out, the next one sends the same id; what the first then writes changes nothing."""

    async def story(bench: Bench) -> None:
        await bench.store.write(emit, ENDED)
        (held,) = await bench.store.write(claim_due, NOW, LEASE_S, 10)
        assert await send_due(bench.outbox()) == 0
        bench.clock.at = NOW + LEASE_S + 1
        assert await send_due(bench.outbox()) == 1
        assert await bench.store.write(note_try, held, Tried(NOW, 1.0, 500), 5.0) == "superseded"
        assert (await bench.shown())["state"] == "delivered"

    play(story)


def test_an_endpoint_hears_only_what_it_asked_for_and_only_of_its_own_team(play: Any) -> None:
    """Types narrow; other teams' and the operator's business is not told."""

    async def story(bench: Bench) -> None:
        narrow = NewWebhook("hook_2", "t2", URL, NOW, ("job.failed",))
        await bench.store.write(webhooks.add_webhook, narrow)
        await bench.store.write(webhooks.add_webhook, NewWebhook("hook_0", None, URL, NOW))
        told = [
            Event(f"{kind}:{team}", kind, team, NOW, {})
            for kind, team in (("job.succeeded", "t2"), ("job.failed", "t2"), ("price.drift", None))
        ]
        assert [await bench.store.write(emit, event) for event in told] == [False, True, True]
        found = await bench.store.write(deliveries)
        assert {(one["type"], one["webhook_id"]) for one in found} == {
            ("job.failed", "hook_2"),
            ("price.drift", "hook_0"),
        }
        assert await bench.store.write(_of_team_one) == []

    play(story)


def _of_team_one(connection: Connection) -> list[Any]:
    return deliveries(connection, team_id="t1")


def test_rotation_signs_with_both_secrets_for_its_time(play: Any) -> None:
    """The old secret goes on for the overlap and not a second longer."""

    async def story(bench: Bench) -> None:
        new = await bench.store.write(webhooks.rotate_webhook, "hook_1", NOW, 100.0)
        for number, at in enumerate((NOW + 99, NOW + 100)):
            bench.clock.at = at
            await bench.store.write(emit, Event(f"job.failed:{number}", "job.failed", "t1", at, {}))
            await send_due(bench.outbox())
        signed = [sent["webhook-signature"].split() for _, _, sent in bench.receiver.got]
        ids = [sent["webhook-id"] for _, _, sent in bench.receiver.got]
        body = bench.receiver.got[0][1]
        assert signed[0] == [signature(one, ids[0], int(NOW + 99), body) for one in (new, bench.secret)]
        assert len(signed[1]) == 1

    play(story)


def test_removing_an_endpoint_forgets_what_was_to_be_sent(play: Any) -> None:
    """Nothing is sent to it any more; the log of its tries stays."""

    async def story(bench: Bench) -> None:
        bench.receiver.answers = [Posted(500, None)]
        await bench.store.write(emit, ENDED)
        await send_due(bench.outbox())
        assert await bench.store.write(webhooks.remove_webhook, "hook_1")
        assert not await bench.store.write(webhooks.remove_webhook, "hook_1")
        bench.clock.at += HOUR_S
        assert await send_due(bench.outbox()) == 0
        assert len(await bench.store.write(lambda c: list(c.execute(select(webhook_tries))))) == 1

    play(story)


def test_the_metering_endpoint_follows_the_configuration(play: Any) -> None:
    """It appears, changes its secret with an overlap, disappears, and is none of the command line's business."""

    async def story(bench: Bench) -> None:
        keep: Any = webhooks.keep_usage_webhook
        first, second = new_secret(), new_secret()
        for secret in (first, first, second):
            await bench.store.write(keep, URL, secret, source="urn:here", at=NOW)
        row = await bench.store.write(_usage_row)
        assert (row.secret, row.old_secret, row.source) == (second, first, "urn:here")
        assert not await bench.store.write(webhooks.remove_webhook, "usage")
        assert await bench.store.write(webhooks.rotate_webhook, "usage", NOW) is None
        await bench.store.write(keep, None, "", source="", at=NOW)
        assert (await bench.store.write(_usage_row)).disabled_at == NOW
        assert not await bench.store.write(emit_usage, "hold_1", NOW)
        await bench.store.write(keep, URL, second, source="urn:here", at=NOW)
        assert (await bench.store.write(_usage_row)).disabled_at is None
        assert await bench.store.write(lambda c: c.execute(select(events)).all()) == []

    play(story)


def _usage_row(connection: Connection) -> Any:
    return connection.execute(select(webhook_rows).where(webhook_rows.c.id == "usage")).one()


@pytest.mark.parametrize(
    "url", ["ftp://x.example/", "https:///nowhere", "https://u:p@x.example/", "not a url", "https://x/" + "a" * 3000]
)
def test_a_target_that_is_none_is_refused_when_it_is_added(url: str) -> None:
    """With the sentence that says what one looks like."""
    with pytest.raises(WebhookError):
        NewWebhook("hook_9", "t1", url, NOW)


@pytest.mark.parametrize(("team", "kind"), [("t1", "price.drift"), (None, "job.failed"), ("t1", "job.exploded")])
def test_an_event_that_is_not_told_here_cannot_be_asked_for(team: str | None, kind: str) -> None:
    """Teams do not hear of accounts, the operator's endpoint not of jobs."""
    with pytest.raises(WebhookError, match="choose from"):
        NewWebhook("hook_9", team, URL, NOW, (kind,))
