"""What the caller's team used and owes: usage, statements and budgets, as JSON, CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for, caller_of
from gateway.api.negotiation import acceptable
from gateway.api.pages import PAGE_MAX, instant, listed, page_of, whole
from gateway.api.shown import rfc3339
from gateway.audience import columns_for, visible
from gateway.money import reports
from gateway.money.budgets import BudgetState, page_of_budget_states
from gateway.money.exports import (
    STATEMENT_COLUMNS,
    STATEMENT_SUMS,
    USAGE_COLUMNS,
    ExportError,
    statement_groups_table,
    statement_table,
    to_csv,
    to_parquet,
    usage_table,
)
from gateway.money.windows import period_of, period_start
from gateway.problems import BadRequest, NotAcceptable
from gateway.service import Service

DAY_S = 86_400.0
USUAL_DAYS = 30
MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


@dataclass(frozen=True, slots=True)
class Report:
    """A report in every form: the JSON object, and its rows flat with their columns and the name of the file."""

    shown: Mapping[str, Any]
    table: Sequence[Mapping[str, Any]]
    columns: tuple[str, ...]
    name: str


async def usage(request: Request, service: Service) -> Response:
    """The team's use by any mix of key, route, provider, day and `tag:<name>`; of the last 30 days, if not said."""
    caller = await caller_of(request, service)
    query = request.query_params
    now = service.parts.clock.now()
    until = instant(query.get("until"), now)
    try:
        wanted = reports.UsageQuery(
            since=instant(query.get("since"), until - USUAL_DAYS * DAY_S),
            until=until,
            team_id=caller.team_id,
            group_by=_names(request),
            timezone=caller.timezone,
        )
    except ValueError as error:
        raise BadRequest(str(error)) from None
    audience = audience_for(caller, service)
    rows = usage_table(await service.parts.store.read(reports.usage, wanted))
    table = [visible("usage", row, audience) for row in rows]
    columns = (*wanted.group_by, *columns_for("usage", USAGE_COLUMNS, audience))
    shown = {"since": rfc3339(wanted.since), "until": rfc3339(wanted.until), "rows": table}
    return _rendered(request, Report(shown, table, columns, "usage"))


async def statement(request: Request, service: Service) -> Response:
    """The team's bill for an accounting month, `period=YYYY-MM`; the present one when nothing is said.

    With `group_by` (key, route, provider, day, `tag:<name>`) it is summed up by them instead of told line by line.
    """
    caller = await caller_of(request, service)
    period = request.query_params.get("period", period_of(service.parts.clock.now()))
    try:
        period_start(period)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    bill = await service.parts.store.read(reports.statement, caller.team_id, period)
    shown = {
        "team": bill.team_id,
        "period": bill.period,
        "closed": bill.closed,
        "total_micros": bill.total_micros,
    }
    group_by = _names(request)
    if not group_by:
        table = statement_table(bill)
        return _rendered(request, Report({**shown, "lines": table}, table, STATEMENT_COLUMNS, f"statement-{period}"))
    try:
        sums = statement_groups_table(reports.statement_groups(bill, group_by, caller.timezone))
    except ValueError as error:
        raise BadRequest(str(error)) from None
    columns = (*group_by, *STATEMENT_SUMS)
    return _rendered(request, Report({**shown, "groups": sums}, sums, columns, f"statement-{period}"))


async def budgets(request: Request, service: Service) -> Response:
    """The budgets of the team and its keys, with what is spent and held in the present window, the newest first."""
    caller = await caller_of(request, service)
    page, now = page_of(request, usual=PAGE_MAX), service.parts.clock.now()
    read, mine = service.parts.store.read, caller.team_id
    states = await read(page_of_budget_states, mine, now, before=page.after_id, limit=page.limit + 1)
    return listed(request, "budgets", whole([_budget(state) for state in states], page.limit))


def _budget(state: BudgetState) -> dict[str, Any]:
    budget = state.budget
    return {
        "id": budget.budget_id,
        "scope": "team" if budget.key_id is None else "key",
        "key_id": budget.key_id,
        "window": budget.window,
        "limit_micros": budget.limit_micros,
        "soft_micros": budget.soft_micros,
        "spent_micros": state.spent_micros,
        "held_micros": state.held_micros,
        "over_soft": state.is_over_soft,
        "window_begins_at": rfc3339(state.window.starts_at),
        "window_ends_at": rfc3339(state.window.ends_at),
    }


def _names(request: Request) -> tuple[str, ...]:
    """What to group by, as `group_by=route,tag:project` says."""
    return tuple(name for name in request.query_params.get("group_by", "").split(",") if name)


def _rendered(request: Request, report: Report) -> Response:
    """The report in the form asked for: `?format=`, else what Accept likes best. Raises NotAcceptable."""
    wanted = request.query_params.get("format")
    if wanted is None:
        taken = acceptable(request.headers.get("accept", ""), list(MEDIA_TYPES.values()))
        if not taken:
            raise NotAcceptable(f"a report can be had as {', '.join(MEDIA_TYPES.values())}")
        wanted = next(name for name, kind in MEDIA_TYPES.items() if kind == taken[0])
    if wanted not in MEDIA_TYPES:
        raise BadRequest(f"format must be one of {', '.join(MEDIA_TYPES)}, not {wanted!r}")
    headers = {"vary": "accept"}
    if wanted == "json":
        return Response(json.dumps(report.shown), headers=headers, media_type=MEDIA_TYPES["json"])
    headers["content-disposition"] = f'attachment; filename="{report.name}.{wanted}"'
    try:
        body = (
            to_csv(report.table, report.columns).encode()
            if wanted == "csv"
            else to_parquet(report.table, report.columns)
        )
    except ExportError as error:
        raise NotAcceptable(str(error)) from None
    return Response(body, headers=headers, media_type=MEDIA_TYPES[wanted])
