"""`GET /webhooks/deliveries`: what was told to the caller's team, when, and how its receiver answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway import outbox
from gateway.api.auth import caller_of
from gateway.api.pages import Page, Rows, listed, page_of
from gateway.api.shown import rfc3339
from gateway.problems import BadRequest
from gateway.service import Service

STATES = ("pending", "delivered", "failed")
COUNT_USUAL = 100


async def deliveries(request: Request, service: Service) -> Response:
    """The team's deliveries, the newest event first, page by page; `state` narrows them."""
    caller = await caller_of(request, service)
    page = page_of(request, (float, str, str), COUNT_USUAL)
    state = request.query_params.get("state")
    if state is not None and state not in STATES:
        raise BadRequest(f"state must be one of {', '.join(STATES)}, not {state!r}")
    found = await service.parts.store.read(_of_team, caller.team_id, state, page)
    rows = found[: page.limit]
    last = (float(rows[-1]["at"]), rows[-1]["event_id"], rows[-1]["webhook_id"]) if len(found) > page.limit else None
    return listed(request, "deliveries", Rows([shown(one) for one in rows], last), by_id=False)


def shown(one: Mapping[str, Any]) -> dict[str, Any]:
    """A delivery as JSON: the event's id and type, the target, its state and every try."""
    return {
        "event_id": one["event_id"],
        "type": one["type"],
        "at": rfc3339(one["at"]),
        "webhook_id": one["webhook_id"],
        "url": one["url"],
        "state": one["state"],
        "next_try_at": rfc3339(one["due_at"]) if one["state"] == "pending" else None,
        "delivered_at": rfc3339(one["delivered_at"]),
        "tries": [{**tried, "at": rfc3339(tried["at"])} for tried in one["log"]],
    }


def _of_team(connection: Any, team_id: str, state: str | None, page: Page) -> list[dict[str, Any]]:
    after: Any = page.after
    return outbox.deliveries(connection, team_id=team_id, state=state, count_max=page.limit + 1, after=after)
