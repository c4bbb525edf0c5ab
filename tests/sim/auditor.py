"""The auditor: what must hold, worked out from the rows alone and from what the outside saw.

It reads the database with SQL of its own and adds up by itself: nothing of the gateway's code is used here, so that a
mistake there is not made a second time. `step` is for any moment between two transactions, `final` for the end.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

from tests.sim.database import Database
from tests.sim.scenario import TeamPlan
from tests.sim.traffic import Traffic
from tests.sim.world import World

ACTIVE = frozenset({"queued", "running"})
OPEN = frozenset({"prepared", "accepted", "in_doubt"})
JOB_COLUMNS = ("id", "team_id", "status", "finished_at", "hold_id", "held_micros", "receipt", "bill", "result", "error")
ATTEMPT_COLUMNS = (
    "id", "job_id", "state", "account", "route", "price_micros", "cost_micros", "cost_source", "submits", "token",
    "finished_at",
)  # fmt: skip
Row = dict[str, Any]


class Auditor:
    """Looks at everything again and again; what it finds goes to the world's list of violations."""

    def __init__(self, world: World, database: Database, traffic: Traffic, plans: dict[str, TeamPlan]) -> None:
        self.world = world
        self.database = database
        self.traffic = traffic
        self.plans = plans
        self._entries: dict[int, tuple[Any, ...]] = {}
        self._ended: dict[str, Row] = {}

    def step(self) -> None:
        """Everything that must hold between any two transactions."""
        jobs = {row["id"]: row for row in self._read("jobs", JOB_COLUMNS)}
        attempts = defaultdict(list)
        for row in self._read("attempts", ATTEMPT_COLUMNS, order="job_id, number"):
            attempts[row["job_id"]].append(row)
        self._check_entries(jobs, attempts)
        self._check_holds(jobs)
        self._check_budgets()
        for job in jobs.values():
            self._check_job(job, attempts[job["id"]])
        for job_id in self.traffic.acknowledged:
            self._must(job_id in jobs, f"an acknowledged job is lost: {job_id}")

    def _read(self, table: str, columns: tuple[str, ...], *, order: str = "id") -> list[Row]:
        rows = self.database.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _must(self, holds: object, rule: str) -> None:
        if not holds:
            self.world.violated(rule)

    # Money

    def _check_entries(self, jobs: dict[str, Row], attempts: dict[str, list[Row]]) -> None:
        """Entries are never changed, balance, and are exactly those that the jobs and attempts come to."""
        rows = self.database.rows("SELECT id, reference, debit, credit, amount_micros FROM entries ORDER BY id")
        now = {row[0]: row[1:] for row in rows}
        for number, row in self._entries.items():
            self._must(now.get(number) == row, f"an entry was changed or deleted: {row}")
        self._entries = now
        balances: Counter[str] = Counter()
        found: dict[str, tuple[str, str, int]] = {}
        for reference, debit, credit, amount in now.values():
            balances[debit] += amount
            balances[credit] -= amount
            self._must(reference not in found, f"booked twice: {reference}")
            found[reference] = (debit, credit, amount)
        self._must(sum(balances.values()) == 0, f"the ledger does not sum to 0: {dict(balances)}")
        expected = self._expected(jobs, attempts)
        suspense = self._allowed_suspense(attempts)
        for reference, booking in found.items():
            name = reference.partition(":")[2]
            if reference.startswith("clear:"):  # a possible charge was ruled out: what was suspended goes back, once
                suspended = found.get(f"suspend:{name}")
                back = suspended is not None and (suspended[1], "suspense", suspended[2]) == booking
                self._must(back, f"{reference} {booking} does not end {suspended}")
            elif reference in suspense:
                self._must(booking == suspense[reference], f"a suspense of another amount: {reference} {booking}")
            else:
                wanted = expected.get(reference)
                self._must(booking == wanted, f"booked {reference} as {booking}, which should be {wanted}")
        for reference, booking in expected.items():
            self._must(reference in found, f"not booked: {reference} {booking}")

    def _expected(self, jobs: dict[str, Row], attempts: dict[str, list[Row]]) -> dict[str, tuple[str, str, int]]:
        """Every entry that captures and losses come to, by its reference."""
        wanted: dict[str, tuple[str, str, int]] = {}
        for job in jobs.values():
            for attempt in attempts[job["id"]]:
                provider, cost = f"provider:{attempt['account']}", attempt["cost_micros"] or 0
                if attempt["state"] == "failed" and cost:
                    wanted[f"loss:{attempt['id']}"] = ("loss", provider, cost)
                if attempt["state"] != "succeeded":
                    continue
                team, price = f"team:{job['team_id']}", self.price_micros(job, cost)
                covered = min(price, cost)
                parts = (
                    ("cost", team, provider, covered),
                    ("margin", team, "margin", price - covered),
                    ("uncovered", "margin", provider, cost - covered),
                )
                for part, debit, credit, amount in parts:
                    if amount:
                        wanted[f"capture:{job['hold_id']}:{part}"] = (debit, credit, amount)
        return wanted

    def price_micros(self, job: Row, cost: int) -> int:
        """What a team pays for a delivered job: the quote's rule, in whole numbers, and never above its own limit."""
        plan = self.plans[job["team_id"]]
        price = cost + plan.flat_micros - (-cost * plan.percent // 100)
        told = self.traffic.acknowledged.get(job["id"])
        limit = told.max_cost_micros if told is not None else None
        if told is None:
            bill = json.loads(job["bill"])
            return min(price, bill["price_micros"]) if bill is not None else price
        return price if limit is None else min(price, limit)

    def _allowed_suspense(self, attempts: dict[str, list[Row]]) -> dict[str, tuple[str, str, int]]:
        """A possible charge may be booked for each submit of an attempt, at its price."""
        allowed = {}
        for attempt in (one for tried in attempts.values() for one in tried):
            booking = ("suspense", f"provider:{attempt['account']}", attempt["price_micros"])
            allowed[f"suspend:{attempt['id']}"] = booking
            for number in range(2, attempt["submits"] + 1):
                allowed[f"suspend:{attempt['id']}/{number}"] = booking
        return allowed

    def _check_holds(self, jobs: dict[str, Row]) -> None:
        """A hold is open as long as its job, belongs to one job, and settles once."""
        holds = {row[0]: row for row in self.database.rows("SELECT id, job_id, state, amount_micros FROM holds")}
        settled = dict(self.database.rows("SELECT hold_id, kind FROM settlements"))
        self._must(len(holds) == len(jobs), f"{len(jobs)} jobs have {len(holds)} holds")
        for job in jobs.values():
            hold = holds.get(job["hold_id"])
            if hold is None:
                self.world.violated(f"job {job['id']} has no hold")
                continue
            active = job["status"] in ACTIVE
            self._must(active == (hold[2] == "open"), f"job {job['id']} is {job['status']}, its hold is {hold[2]}")
            self._must(
                settled.get(hold[0], "open") == hold[2], f"hold {hold[0]}: {hold[2]}, settled as {settled.get(hold[0])}"
            )
            succeeded = job["status"] == "succeeded"
            self._must(succeeded == (hold[2] == "captured"), f"job {job['id']} is {job['status']}: {hold[2]}")

    def _check_budgets(self) -> None:
        """What is spent and held in every window is what its holds come to, and no hard limit is passed."""
        prices = dict(self.database.rows("SELECT hold_id, price_micros FROM settlements"))
        holds = self.database.rows("SELECT id, team_id, amount_micros, created_at, state FROM holds")
        budgets = self.database.rows('SELECT id, team_id, "window", limit_micros FROM budgets')
        counted: Counter[tuple[str, float]] = Counter()
        for budget_id, team_id, window, limit in budgets:
            for hold_id, owner, amount, created_at, state in holds:
                if owner == team_id:
                    worth = amount if state == "open" else prices.get(hold_id, 0)
                    counted[budget_id, _begins_at(window, created_at)] += worth
            for starts_at, spent, held in self.database.rows(
                "SELECT starts_at, spent_micros, held_micros FROM budget_windows WHERE budget_id = ?", budget_id
            ):
                wanted = counted[budget_id, starts_at]
                self._must(spent + held == wanted, f"budget {budget_id} counts {spent + held}, its holds are {wanted}")
                self._must(spent + held <= limit, f"budget {budget_id} is overspent: {spent + held} of {limit}")

    # Jobs

    def _check_job(self, job: Row, tried: list[Row]) -> None:
        """Caps are kept, an end is final, what is accepted can be asked for, and there is a receipt."""
        limits = self.world.scenario.settings
        name = f"job {job['id']}"
        # An attempt without a submit follows the render of an earlier one that was given up as lost.
        sent = [one for one in tried if one["submits"] > 0]
        self._must(len(sent) <= limits["jobs"]["attempts_max"], f"{name} has {len(sent)} attempts")
        for attempt in tried:
            submits = attempt["submits"]
            self._must(submits <= limits["retry"]["submits_max"], f"{attempt['id']} has {submits} submits")
            has_token = attempt["token"] not in {None, "null"}
            self._must(attempt["state"] != "accepted" or has_token, f"{attempt['id']} is accepted and has no token")
        is_open = [one["id"] for one in tried if one["state"] in OPEN]
        self._must(len(is_open) <= (job["status"] in ACTIVE), f"{name} is {job['status']} and has open: {is_open}")
        delivered = [one for one in tried if one["state"] == "succeeded"]
        self._must(len(delivered) == (job["status"] == "succeeded"), f"{name} is {job['status']}: {len(delivered)}")
        receipt = json.loads(job["receipt"])
        self._must(not tried or receipt, f"{name} has no receipt")
        if job["status"] in ACTIVE:
            return
        self._must(self._ended.setdefault(job["id"], job) == job, f"{name} changed after its end")
        if self.plans[job["team_id"]].webhook:
            told = self.database.rows(
                "SELECT id FROM events WHERE type = ? AND body LIKE ?", f"job.{job['status']}", f'%"{job["id"]}"%'
            )
            self._must(len(told) == 1, f"the end of {name} is written as {len(told)} events")
        if delivered:
            bill = json.loads(job["bill"])
            price = self.price_micros(job, delivered[0]["cost_micros"])
            self._must(bill["price_micros"] == price, f"{name} is billed {bill['price_micros']} instead of {price}")


def _begins_at(window: str, at: float) -> float:
    """When a budget's window began, in UTC."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = {"day": day.timestamp(), "month": day.replace(day=1).timestamp(), "total": 0.0}
    return begins[window]
