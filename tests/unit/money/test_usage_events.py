"""Usage as CloudEvents: one event a bill, with everything a metering service needs and nothing of our cost."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from gateway.money import ledger
from gateway.money.usage_events import EVENT_TYPE, usage_event
from tests.unit.money.builders import NOON, billed, hold


def test_a_bill_is_a_cloud_event(connection: Connection) -> None:
    """The required attributes of CloudEvents 1.0 are there, and the id never changes."""
    billed(connection, "h", price=165_900, cost=80, tags={"project": "red"})
    event = usage_event(connection, "h", source="https://vidgate.example")
    assert event is not None
    assert event == usage_event(connection, "h", source="https://vidgate.example")
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", "h", EVENT_TYPE)
    assert (event["source"], event["subject"], event["time"]) == (
        "https://vidgate.example",
        "beta",
        "2026-10-01T12:01:00.000Z",
    )
    assert event["data"]["price_micros"] == 165_900
    assert event["data"]["tags"] == {"project": "red"}
    assert "cost" not in json.dumps(event)


def test_what_was_not_billed_is_no_usage(connection: Connection) -> None:
    """Open, released and unknown holds make no event."""
    hold(connection, "open")
    hold(connection, "released")
    ledger.release(connection, "released", NOON, "canceled")
    for hold_id in ("open", "released", "nothing"):
        assert usage_event(connection, hold_id, source="x") is None
