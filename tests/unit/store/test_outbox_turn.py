"""A turn of the outbox finds what to send by index, however much waits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, select

from gateway.outbox import ENDPOINT_SENDING_MAX, Due, claim_due
from gateway.store.migrate import migrate
from gateway.store.schema_events import events, webhook_deliveries, webhooks

NOW = 1_800_000_000.0
ENDPOINTS, EACH = 5, 40


def pile(connection: Connection) -> None:
    """Deliveries due to several endpoints, the oldest to the first of them; what was delivered lies beside."""
    names = [f"hook_{number}" for number in range(ENDPOINTS)]
    connection.execute(
        insert(webhooks), [{"id": name, "url": "http://r.test", "secret": "s", "created_at": NOW} for name in names]
    )
    told: list[dict[str, Any]] = []
    due: list[dict[str, Any]] = []
    for number in range(ENDPOINTS * EACH):
        told.append({"id": f"evt_{number}", "type": "t", "at": NOW, "content_type": "c", "body": "{}"})
        due.append({"event_id": f"evt_{number}", "webhook_id": names[number // EACH], "due_at": NOW - 1_000.0 + number})
    connection.execute(insert(events), told)
    connection.execute(insert(webhook_deliveries), due)


def claimed(connection: Connection, count_max: int = 100) -> dict[str, list[Due]]:
    found: dict[str, list[Due]] = {}
    for due in claim_due(connection, NOW, 60.0, count_max):
        found.setdefault(due.webhook_id, []).append(due)
    return found


def test_a_turn_walks_through_no_deliveries() -> None:
    """Neither the question who has room nor what is claimed then reads more deliveries than it takes."""
    engine, asked = create_engine("sqlite://"), list[tuple[str, Any]]()
    with engine.begin() as connection:
        migrate(connection)
        pile(connection)
        event.listen(engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
        assert len(claimed(connection)) == ENDPOINTS
        driver: Any = connection.connection.driver_connection
        queries = [(text, given) for text, given in asked if text.startswith("SELECT")]
        plans = [row[3] for text, given in queries for row in driver.execute(f"EXPLAIN QUERY PLAN {text}", given)]
    engine.dispose()
    touched = [plan for plan in plans if "webhook_deliveries" in plan]
    by_turn, by_lease = "ix_webhook_deliveries_turn (webhook_id=? AND due_at<?)", "ix_webhook_deliveries_leased"
    assert touched
    assert all(plan.startswith("SEARCH") and (by_turn in plan or by_lease in plan) for plan in touched), touched
    assert not any("TEMP B-TREE" in plan for plan in plans), plans


def test_each_endpoint_gets_its_oldest_as_far_as_it_has_room() -> None:
    """Four at a time to each, the next four only when those are written off, and the longest waiting endpoint first."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection)
        pile(connection)
        first = claimed(connection)
        assert list(first) == [f"hook_{number}" for number in range(ENDPOINTS)]
        for number, due in enumerate(first.values()):
            assert [one.event_id for one in due] == [f"evt_{number * EACH + i}" for i in range(ENDPOINT_SENDING_MAX)]
        assert claimed(connection) == {}
        sent = webhook_deliveries.update().where(webhook_deliveries.c.event_id == "evt_0")
        connection.execute(sent.values(state="delivered", delivered_at=NOW, lease_until=None))
        assert [one.event_id for one in claimed(connection)["hook_0"]] == [f"evt_{ENDPOINT_SENDING_MAX}"]
        left = select(webhook_deliveries.c.event_id).where(webhook_deliveries.c.lease_until.is_not(None))
        assert len(connection.execute(left).all()) == ENDPOINTS * ENDPOINT_SENDING_MAX
    engine.dispose()
