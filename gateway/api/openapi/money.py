"""What a team used, owes and was told: usage, statements, budgets and deliveries."""

from __future__ import annotations

from gateway import problems
from gateway.api.openapi.generation import TEXT
from gateway.api.openapi.operation import BEFORE, LONG_PAGING, NEXT, Json, Operation, Reply, json_of, parameter

GROUP_BY = parameter(
    "query", "group_by", TEXT, "Names with commas between them: key, route, provider, day, `tag:<name>`."
)
FORMAT = parameter(
    "query", "format", {"enum": ["json", "csv", "parquet"]}, "The form of the reply; otherwise as Accept says."
)
ISO = "A date or an RFC 3339 time; without a zone in UTC."


def _report(schema: str) -> Reply:
    """A report in each of its forms."""
    forms: dict[str, Json] = {
        "text/csv": {"schema": TEXT},
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    }
    named = {"schema": TEXT, "description": "The name of the file, of CSV and Parquet."}
    return Reply("The report.", {**json_of(schema), **forms}, {"Content-Disposition": named})


OPERATIONS = (
    Operation(
        "get",
        "/usage",
        "getUsage",
        "money",
        "The team's use, by any mix of groups; of the last 30 days, if not said.",
        {200: _report("Usage")},
        (problems.NotAcceptable,),
        (GROUP_BY, parameter("query", "since", TEXT, ISO), parameter("query", "until", TEXT, ISO), FORMAT),
    ),
    Operation(
        "get",
        "/billing/statement",
        "getStatement",
        "money",
        "The team's bill for a month.",
        {200: _report("Statement")},
        (problems.NotAcceptable,),
        (
            GROUP_BY,
            parameter(
                "query",
                "period",
                {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"},
                "The month, as 2026-08; the present one when nothing is said.",
            ),
            FORMAT,
        ),
    ),
    Operation(
        "get",
        "/budgets",
        "listBudgets",
        "money",
        "Budgets with what is spent and held, the newest first.",
        {200: Reply("A page, of 100 where nothing is said.", json_of("Budgets"), NEXT)},
        parameters=(*LONG_PAGING, BEFORE),
    ),
    Operation(
        "get",
        "/webhooks/deliveries",
        "listDeliveries",
        "webhooks",
        "What was told to the team, and how its receivers answered.",
        {200: Reply("A page, the newest event first.", json_of("Deliveries"), NEXT)},
        parameters=(
            *LONG_PAGING,
            parameter("query", "state", {"enum": ["pending", "delivered", "failed"]}, "Only these."),
        ),
    ),
)
