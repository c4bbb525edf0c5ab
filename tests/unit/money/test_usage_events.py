"""Usage as CloudEvents: one event a bill, with everything a metering service needs and nothing of our cost."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select

from gateway import events, webhooks
from gateway.money import ledger
from gateway.money.usage_events import BILLED, CORRECTED, correction_event, usage_event
from gateway.store import schema_events
from tests.unit.money.builders import NOON, billed, hold


def test_a_bill_is_a_cloud_event(connection: Connection) -> None:
    """The required attributes of CloudEvents 1.0 are there, and the id never changes."""
    billed(connection, "h", price=165_900, cost=80, tags={"project": "red"})
    event = usage_event(connection, "h", source="https://vidgate.example")
    assert event is not None
    assert event == usage_event(connection, "h", source="https://vidgate.example")
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", "h", BILLED)
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


def test_a_refund_is_a_cloud_event_that_takes_back(connection: Connection) -> None:
    """Under its own id, with the job's route and tags, and a price below zero."""
    billed(connection, "h", price=100, cost=80, tags={"project": "red"})
    refund = ledger.Correction("refund:1", "margin", "team:beta", 30, NOON, "blurred", hold_id="h")
    ledger.correct(connection, refund)
    event = correction_event(connection, "correct:refund:1", source="x")
    assert event is not None
    assert (event["id"], event["type"], event["subject"]) == ("correct:refund:1", CORRECTED, "beta")
    assert event["data"]["price_micros"] == -30
    assert (event["data"]["job"], event["data"]["route"], event["data"]["provider"]) == (
        "job-h",
        "vendor/model",
        "vendor",
    )
    assert (event["data"]["tags"], event["data"]["reason"]) == ({"project": "red"}, "blurred")


def test_a_correction_that_no_team_feels_is_no_usage(connection: Connection) -> None:
    """Between margin and vendor, without a hold, and unknown ones; a charge is what adds."""
    billed(connection, "h", price=100, cost=80)
    for correction in (
        ledger.Correction("ours", "margin", "provider:vendor", 5, NOON, "reconciled", hold_id="h"),
        ledger.Correction("free", "loss", "provider:vendor", 5, NOON, "reconciled"),
        ledger.Correction("more", "team:beta", "margin", 5, NOON, "by agreement", hold_id="h"),
    ):
        ledger.correct(connection, correction)
    for name in ("correct:ours", "correct:free", "correct:nothing", "capture:h:cost"):
        assert correction_event(connection, name, source="x") is None
    more = correction_event(connection, "correct:more", source="x")
    assert more is not None
    assert more["data"]["price_micros"] == 5


def test_a_correction_is_told_once_where_somebody_meters(connection: Connection) -> None:
    """Nothing is written without an endpoint; with one, once under one id."""
    billed(connection, "h", price=100, cost=80)
    ledger.correct(connection, ledger.Correction("r", "margin", "team:beta", 30, NOON, "blurred", hold_id="h"))
    assert not events.emit_correction(connection, "correct:r", NOON)
    secret = webhooks.new_secret()
    webhooks.keep_usage_webhook(connection, "https://meter.test/", secret, source="urn:here", at=NOON)
    told = [events.emit_correction(connection, "correct:r", NOON) for _ in range(2)]
    assert told == [True, False]
    (body,) = connection.execute(select(schema_events.events.c.body)).scalars()
    assert json.loads(body)["source"] == "urn:here"
