"""Short ways to the holds, bills and budgets that the tests of money begin with."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from gateway.money import budgets, ledger
from gateway.money.windows import WindowKind

NOON = 1_790_856_000.0  # 2026-10-01T12:00:00Z, a Thursday


def hold(
    connection: Connection,
    hold_id: str = "h",
    *,
    amount: int = 100,
    team: str = "beta",
    key: str | None = "b1",
    at: float = NOON,
    tags: Mapping[str, str] | None = None,
) -> ledger.Held | ledger.BudgetRefusal | ledger.AlreadyHeld:
    """Ask for a hold of a job of its own, for an hour."""
    request = ledger.HoldRequest(hold_id, f"job-{hold_id}", team, key, amount, at, at + 3600, tags or {})
    return ledger.hold(connection, request)


def capture(
    connection: Connection,
    hold_id: str = "h",
    *,
    price: int = 90,
    cost: int = 80,
    route: str = "vendor/model",
    request_id: str | None = None,
    at: float = NOON + 60,
) -> ledger.Captured | ledger.AlreadySettled:
    """Bill a hold; the provider is the first half of the route's name."""
    bill = ledger.Capture(
        hold_id,
        price,
        cost,
        "reported",
        route.partition("/")[0],
        at,
        "delivered",
        route,
        f"attempt-{hold_id}",
        request_id,
    )
    return ledger.capture(connection, bill)


def billed(connection: Connection, hold_id: str, **bill: object) -> None:
    """Hold and bill in one go; `team`, `key`, `tags` are the hold's, the rest the bill's."""
    of_hold = {name: bill.pop(name) for name in ("team", "key", "tags", "amount") if name in bill}
    at = float(bill.get("at", NOON + 60))  # type: ignore[arg-type]
    assert isinstance(hold(connection, hold_id, at=at, **of_hold), ledger.Held)  # type: ignore[arg-type]
    assert isinstance(capture(connection, hold_id, **bill), ledger.Captured)  # type: ignore[arg-type]


def budget(
    connection: Connection,
    limit: int | None = 1_000,
    *,
    soft: int | None = None,
    window: WindowKind = WindowKind.DAY,
    team: str = "beta",
    key: str | None = None,
    at: float = NOON,
) -> str:
    """Set a budget, named after its scope and window."""
    name = f"{team}-{key}-{window}"
    return budgets.set_budget(connection, budgets.Budget(name, team, window, limit, soft, key), at)
