"""A hold settles once: duplicate, late and reordered settlements end as the first one alone would."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gateway.money import budgets, ledger
from gateway.money.windows import WindowKind
from tests.stateful.money_support import memory_engine, money_connection

PERMUTATIONS = 1_000
ENGINE = memory_engine()
EVENTS = ("poll_ok", "poll_failed", "callback", "timeout", "cancel", "expire", "operator_release", "late_poll_ok")
SETTLES = {
    "poll_ok": "captured",
    "callback": "captured",
    "late_poll_ok": "captured",
    "poll_failed": "released",
    "timeout": "released",
    "cancel": "released",
    "operator_release": "released",
    "expire": "expired",
}
PRICE = 120
COST = 100


def settle(connection: object, event: str, at: float) -> object:
    """Do what the engine would do on this event."""
    if SETTLES[event] == "captured":
        bill = ledger.Capture("h", PRICE, COST, "reported", "vendor", at, event, attempt_id="a")
        return ledger.capture(connection, bill)  # type: ignore[arg-type]
    function = ledger.expire if event == "expire" else ledger.release
    return function(connection, "h", at, event)  # type: ignore[arg-type]


def outcome(events: list[str]) -> tuple[dict[str, int], tuple[int, int], list[str]]:
    """Balances, the budget's counts and the answers after these events."""
    with money_connection(ENGINE) as connection:
        budgets.set_budget(connection, budgets.Budget("b", "alpha", WindowKind.DAY, 1_000), 1000.0)
        ledger.hold(connection, ledger.HoldRequest("h", "j", "alpha", "a1", 100, 1000.0, 2000.0))
        answers = [settle(connection, event, 1001.0 + number) for number, event in enumerate(events)]
        assert ledger.check(connection) == []
        (state,) = budgets.budget_states(connection, "alpha", 1000.0)
        names = [type(answer).__name__ for answer in answers]
        return ledger.trial_balance(connection), (state.spent_micros, state.held_micros), names


SERIAL = {event: outcome([event]) for event in EVENTS}


def test_any_order_of_settlements_ends_as_the_first_one_alone(record_property: Callable[[str, object], None]) -> None:
    """1,000 random orders with duplicates: balances and budgets are the first event's, every other is told so."""
    chance = random.Random(4)
    for _ in range(PERMUTATIONS):
        events = [chance.choice(EVENTS) for _ in range(chance.randint(1, 4))]
        events += chance.sample(events, chance.randint(0, len(events)))
        chance.shuffle(events)
        balances, counts, names = outcome(events)
        assert (balances, counts) == SERIAL[events[0]][:2], events
        assert names == [*SERIAL[events[0]][2], *(["AlreadySettled"] * (len(events) - 1))], events
    record_property("figure", f"{PERMUTATIONS:,} orders, each settled once")


@pytest.mark.parametrize("event", EVENTS)
def test_the_word_of_the_first_settlement_is_kept(event: str) -> None:
    """Whoever comes second is told how the hold was settled, not how it wanted to settle it."""
    with money_connection(ENGINE) as connection:
        ledger.hold(connection, ledger.HoldRequest("h", "j", "alpha", "a1", 100, 1000.0, 2000.0))
        settle(connection, event, 1001.0)
        for other in EVENTS:
            assert settle(connection, other, 1002.0) == ledger.AlreadySettled(SETTLES[event])  # type: ignore[arg-type]
