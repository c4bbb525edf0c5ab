"""A month of 10,000 jobs with all kinds of trouble closes to the micro, and agrees with an invoice kept apart."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from gateway.money import budgets, ledger
from gateway.money.margin import TeamPlan
from gateway.money.mending import mend
from gateway.money.periods import Closed, close_period
from gateway.money.reconcile import Reconciliation, import_charges, reconcile
from gateway.money.reports import UsageQuery, statement, usage
from gateway.money.usage_files import VendorCharge
from gateway.money.windows import WindowKind
from gateway.store.schema_money import entries, settlements
from tests.stateful.money_support import KEYS, memory_engine, money_connection

JOBS = 10_000
OCTOBER = 1_790_812_800.0  # 2026-10-01T00:00:00Z
NOVEMBER = OCTOBER + 31 * 86_400
PLAN = TeamPlan.model_validate({"percent": "15"})
BOOK_MICROS = 165_900


@dataclass
class Month:
    """One vendor's month: our books through `connection`, and the invoice that the vendor would send."""

    connection: Connection
    chance: random.Random
    invoice: list[VendorCharge] = field(default_factory=list)
    refused: int = 0

    def charge(self, request_id: str, at: float) -> int:
        """The vendor charges for a render; most cost what the book says."""
        amount = BOOK_MICROS if self.chance.random() < 0.8 else self.chance.randint(100_000, 400_000)
        self.invoice.append(VendorCharge("vendor", request_id, amount, at))
        return amount

    def run(self, number: int) -> None:
        """One job from its hold to its end."""
        at = OCTOBER + self.chance.random() * 30 * 86_400
        team = self.chance.choice(["alpha", "beta"])
        name = f"{number:05d}"
        held = PLAN.price_micros(2 * BOOK_MICROS, "vendor/model")
        request = ledger.HoldRequest(
            name, f"job-{name}", team, self.chance.choice(KEYS[team]), held, at, at + 7200, {"project": name[-1]}
        )
        if isinstance(ledger.hold(self.connection, request), ledger.BudgetRefusal):
            self.refused += 1
            return
        ends = {"delivered": 80, "failed_then_delivered": 6, "failed": 4, "canceled": 4, "doubt": 4, "expired": 2}
        end = self.chance.choices(list(ends), list(ends.values()))[0]
        getattr(self, end)(name, at + self.chance.uniform(5, 600))

    def delivered(self, name: str, at: float, attempt: int = 1) -> None:
        """The vendor delivers and, mostly, says what it cost; the success is often reported twice."""
        request_id = f"r-{name}-{attempt}"
        cost = self.charge(request_id, at - 1)
        said = cost if self.chance.random() < 0.9 else BOOK_MICROS
        bill = ledger.Capture(
            name,
            PLAN.price_micros(said, "vendor/model"),
            said,
            "reported",
            "vendor",
            at,
            "delivered",
            "vendor/model",
            f"{name}-{attempt}",
            request_id,
        )
        assert isinstance(ledger.capture(self.connection, bill), ledger.Captured)
        if self.chance.random() < 0.3:
            assert ledger.capture(self.connection, bill) == ledger.AlreadySettled("captured")

    def lose(self, name: str, at: float) -> None:
        """A render fails and is charged all the same."""
        cost = self.charge(f"r-{name}-0", at)
        loss = ledger.Loss(f"job-{name}", f"{name}-0", "vendor", cost, at, "bad_output", "vendor/model", f"r-{name}-0")
        ledger.book_loss(self.connection, loss)

    def failed_then_delivered(self, name: str, at: float) -> None:
        """The first attempt is lost, the second delivers under the same hold."""
        self.lose(name, at - 2)
        self.delivered(name, at)

    def failed(self, name: str, at: float) -> None:
        """Every attempt is lost: the team pays nothing."""
        self.lose(name, at)
        ledger.release(self.connection, name, at, "failed")

    def canceled(self, name: str, at: float) -> None:
        """Canceled before anything was sent; a late success changes nothing any more."""
        ledger.release(self.connection, name, at, "canceled")
        assert ledger.expire(self.connection, name, at, "late") == ledger.AlreadySettled("released")

    def doubt(self, name: str, at: float) -> None:
        """A submit is lost on the way, and repeated; half of the lost ones were charged."""
        doubt = ledger.Suspense(f"job-{name}", f"{name}-1", "vendor", BOOK_MICROS, at - 60, "reply lost")
        ledger.suspend(self.connection, doubt)
        if self.chance.random() < 0.5:
            self.charge(f"r-{name}-lost", at - 59)
        self.delivered(name, at)

    def expired(self, name: str, at: float) -> None:
        """Nobody ever answers, and the sweeper gives the hold back."""
        assert name in ledger.due_holds(self.connection, at + 7200, JOBS)
        assert isinstance(ledger.expire(self.connection, name, at + 7200, "deadline"), ledger.Expired)


def compare(month: Month) -> Reconciliation:
    """October against the vendor's complete list."""
    return reconcile(month.connection, "vendor", since=OCTOBER, until=NOVEMBER, complete_until=NOVEMBER)


def test_a_month_of_traffic_closes_to_the_micro() -> None:
    """Entries sum to 0, no hold is open, every bill is explained, and against the invoice the drift is exactly 0."""
    with money_connection(memory_engine()) as connection:
        month = Month(connection, random.Random(10))
        budgets.set_budget(connection, budgets.Budget("b", "alpha", WindowKind.DAY, 30_000_000, 20_000_000), OCTOBER)
        for number in range(JOBS):
            month.run(number)
        assert import_charges(connection, month.invoice, NOVEMBER).conflicting == ()
        assert compare(month).drift_micros != 0  # wrong reports and lost replies are there to be found
        mend(connection, compare(month), NOVEMBER - 1)
        found = compare(month)
        assert {day.drift_micros for day in found.days} == {0}
        assert len(found.days) >= 30
        assert (found.only_ours, found.only_theirs, found.differences, found.verdicts) == ((), (), (), ())

        balance = ledger.trial_balance(connection)
        assert sum(balance.values()) == 0
        assert balance["suspense"] == 0
        assert balance["provider:vendor"] == -sum(charge.amount_micros for charge in month.invoice)
        assert ledger.due_holds(connection, 10**10) == []
        assert ledger.check(connection) == []
        assert month.refused > 0
        _every_bill_is_explained(connection)
        _reports_agree_with_the_books(connection, balance)
        assert isinstance(close_period(connection, "2026-10", NOVEMBER), Closed)
        assert ledger.check(connection) == []


def _every_bill_is_explained(connection: Connection) -> None:
    """Each captured job's entries name the attempt and the vendor's request that they pay for."""
    captured = connection.execute(select(settlements).where(settlements.c.kind == "captured")).all()
    rows = connection.execute(select(entries).where(entries.c.kind == "capture")).all()
    by_hold = {row.hold_id: (row.attempt_id, row.provider_request_id) for row in rows}
    assert by_hold == {row.hold_id: (row.attempt_id, row.provider_request_id) for row in captured}


def _reports_agree_with_the_books(connection: Connection, balance: dict[str, int]) -> None:
    """Usage by any group, and the statements, are the teams' accounts."""
    for group_by in ((), ("team",), ("day", "key"), ("tag:project", "route")):
        rows = usage(connection, UsageQuery(OCTOBER, NOVEMBER, group_by=group_by))
        assert sum(row.price_micros for row in rows) == balance["team:alpha"] + balance["team:beta"]
        assert sum(row.loss_micros for row in rows) == balance["loss"]
    for team in ("alpha", "beta"):
        assert statement(connection, team, "2026-10").total_micros == balance[f"team:{team}"]
