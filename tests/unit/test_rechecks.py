"""One answer for all who ask at a time: asked once, soon too old, and nobody's hanging up hurts another."""

from __future__ import annotations

import asyncio

import pytest

from gateway.rechecks import KEPT_MAX, Shared
from tests.support.undone import Stopped

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Hands(Stopped):
    """A clock that is turned by hand."""

    at = 100.0

    def now(self) -> float:
        return self.at

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        raise AssertionError(seconds)


class Asked:
    """Counts, and answers when it is let."""

    def __init__(self) -> None:
        self.count, self.gate, self.error = 0, asyncio.Event(), None

    async def __call__(self) -> int:
        self.count += 1
        number = self.count
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number


async def test_all_who_ask_at_a_time_get_one_answer_which_grows_old() -> None:
    """While it is asked and for as long as it is good; then it is asked again."""
    clock, asked = Hands(), Asked()
    shared = Shared[int](clock, 0.3)
    waiting = [asyncio.ensure_future(shared.get("a", asked)) for _ in range(5)]
    await asyncio.sleep(0)
    asked.gate.set()
    assert await asyncio.gather(*waiting) == [1] * 5
    clock.at += 0.29
    assert await shared.get("a", asked) == 1
    clock.at += 0.02
    assert await shared.get("a", asked) == 2
    assert await shared.get("b", asked) == 3
    clock.at -= 60
    assert await shared.get("a", asked) == 4, "a clock that was set back makes no answer good for longer"


async def test_who_hangs_up_ends_no_other_wait() -> None:
    """The question goes on for the others."""
    asked = Asked()
    shared = Shared[int](Hands(), 0.3)
    leaving, staying = [asyncio.ensure_future(shared.get("a", asked)) for _ in range(2)]
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    asked.gate.set()
    assert await staying == 1
    assert leaving.cancelled()


async def test_an_error_reaches_all_who_waited() -> None:
    """And is nobody's afterwards."""
    clock, asked = Hands(), Asked()
    asked.error = OSError("away")
    asked.gate.set()
    shared = Shared[int](clock, 0.3)
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await shared.get("a", asked)
    asked.error = None
    clock.at += 1
    assert await shared.get("a", asked) == 2


async def test_what_is_kept_is_bounded() -> None:
    """However many names are asked for, at one moment or over time."""
    clock, asked = Hands(), Asked()
    asked.gate.set()
    shared = Shared[int](clock, 0.3)
    for number in range(3 * KEPT_MAX):
        await shared.get(str(number), asked)
        clock.at += 0.3 / KEPT_MAX if number > KEPT_MAX else 0.0
        assert len(shared._asked) <= KEPT_MAX
