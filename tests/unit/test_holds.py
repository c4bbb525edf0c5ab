"""What is held while nobody can say whether its key is good, and while a person's own token runs out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway import holds
from gateway.holds import AT_ONCE, LOOK_EVERY_S, UNKNOWN_S_MAX, Hold, Holds, KeyEndedError, while_held
from gateway.keys import Caller
from gateway.problems import Unauthorized, Unavailable
from gateway.scopes import Scope
from gateway.store.database import StoreUnavailableError
from tests.support.clock import VirtualClock, VirtualLoop

pytestmark = pytest.mark.anyio
KEY = Caller("key_1", "team_1", "reel", "UTC", {}, {}, frozenset({Scope.READ}), credential="hash")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


class Answers:
    """A store that answers which keys are good, or not at all."""

    def __init__(self) -> None:
        self.good = {KEY.credential: KEY}
        self.is_away = False
        self.asked: list[int] = []

    async def read(self, _fn: Callable[..., Any], names: Sequence[str], _at: float) -> dict[str, Caller]:
        self.asked.append(len(names))
        if self.is_away:
            raise StoreUnavailableError("it is away")
        return {name: caller for name, caller in self.good.items() if name in names}


class Bench:
    """Holds over such a store, watched."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.store, self.clock = Answers(), VirtualClock(loop)
        self.holds = Holds(self.store, self.clock)  # type: ignore[arg-type]

    async def ended_after_s(self, hold: Hold) -> float:
        """How long it takes until it ends."""
        event, began = asyncio.Event(), self.clock.now()
        hold.wakes(event)
        await asyncio.wait_for(event.wait(), 1000.0)
        return self.clock.now() - began


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    watching = asyncio.ensure_future(made.holds.watch())
    yield made
    watching.cancel()


async def test_a_database_that_is_away_for_a_moment_ends_nothing(bench: Bench) -> None:
    """What was good goes on; once nobody could tell for too long it ends as what it is, no 401."""
    with bench.holds.held(KEY, Scope.READ) as hold:
        await bench.clock.sleep(1.0)
        bench.store.is_away = True
        await bench.clock.sleep(UNKNOWN_S_MAX - 2 * LOOK_EVERY_S)
        assert not hold.ended
        bench.store.is_away = False
        await bench.clock.sleep(1.0)
        bench.store.is_away = True
        assert await bench.ended_after_s(hold) == pytest.approx(UNKNOWN_S_MAX, abs=2 * LOOK_EVERY_S)
        with pytest.raises(Unavailable):
            hold.check()


async def test_a_database_that_was_away_before_is_given_its_time(bench: Bench) -> None:
    """The first that is held after an hour of nothing does not end for what was not asked in that hour."""
    await bench.clock.sleep(3600.0)
    bench.store.is_away = True
    with bench.holds.held(KEY, Scope.READ) as hold:
        assert await bench.ended_after_s(hold) >= UNKNOWN_S_MAX


async def test_what_a_person_holds_ends_with_their_token(bench: Bench) -> None:
    """Although the row that stands for them is good, and stays so; who they are is not forgotten at a look."""
    ends_at = bench.clock.now() + 3.0
    with bench.holds.held(KEY.of_person("person mara", ends_at), Scope.READ) as hold:
        await bench.clock.sleep(2.0)
        assert (hold.caller.person, hold.ended) == ("person mara", False)
        assert await bench.ended_after_s(hold) <= 1.0 + LOOK_EVERY_S
        with pytest.raises(Unauthorized):
            hold.check()


async def test_a_key_that_loses_the_scope_loses_what_it_holds(bench: Bench) -> None:
    """A person's latest token says what they may; what needs another scope goes on."""
    with bench.holds.held(KEY, Scope.READ) as reads, bench.holds.held(KEY, Scope.GENERATE) as makes:
        bench.store.good = {KEY.credential: replace(KEY, scopes=frozenset({Scope.GENERATE}))}
        assert await bench.ended_after_s(reads) <= LOOK_EVERY_S
        assert not makes.ended
        assert makes.caller.scopes == {Scope.GENERATE}


async def test_many_keys_are_asked_about_in_statements_of_bounded_size(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many keys hold something, no statement has more parameters than databases take."""
    monkeypatch.setattr(holds, "LOOK_EVERY_S", 1000.0)
    several = [replace(KEY, credential=f"hash {number}") for number in range(AT_ONCE + 7)]
    entered = [bench.holds.held(one, Scope.READ) for one in several]
    held = [one.__enter__() for one in entered]
    bench.store.good = {one.credential: one for one in several[1:]}
    await bench.clock.sleep(1001.0)
    assert bench.store.asked == [AT_ONCE, 7]
    assert [one.ended for one in held] == [True] + [False] * (AT_ONCE + 6)
    for one in entered:
        one.__exit__(None, None, None)


async def test_pieces_are_sent_until_the_key_ends() -> None:
    """All of them where no key is needed."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield piece

    assert [piece async for piece in while_held(None, pieces())] == [b"a", b"b", b"c"]
    hold = Hold(KEY, Scope.READ)
    told = while_held(hold, pieces())
    assert await anext(told) == b"a"
    hold.end(Unauthorized("it ended"))
    with pytest.raises(KeyEndedError):
        await anext(told)
