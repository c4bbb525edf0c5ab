"""What an attempt cost: a vendor's word within reason, else what left its balance, what was measured, or the book.

A reported figure beyond `money.reported_cost_max_ratio` times the worst price is not believed: the book's figure is
booked in its place, and the rest is disputed, which is the operator's to settle. No figure raises here.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import structlog

from gateway.money.amounts import AMOUNT_MAX_MICROS
from gateway.money.true_cost import BalanceDelta, TrueCost, true_cost
from gateway.parts import Parts
from gateway.store.jobs import Attempt, Job
from providers.contract import Report

log = structlog.get_logger()


class Costs:
    """Tells what attempts cost, from what vendors said and what the fleet saw."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def of_delivery(self, job: Job, attempt: Attempt, report: Report) -> TrueCost:
        """What a delivered render cost."""
        balance = await self.balance_delta(attempt) if report.cost_micros is None else None
        prices = self._parts.planner.prices
        cost = true_cost(
            reported_micros=report.cost_micros,
            balance=balance,
            measured_micros=prices.measured_micros(attempt.route, job.parameters, job.created_at, report.inference_s),
            book_micros=attempt.price_micros,
            most_micros=self.most_micros(attempt),
        )
        return self._told(attempt, cost)

    def of_failure(self, attempt: Attempt, report: Report) -> TrueCost | None:
        """What a vendor says that it charged for an attempt without a result; None when it does not say."""
        if report.cost_micros is None:
            return None
        cost = self._cost_of(attempt, report.cost_micros)
        return None if cost.source == "book" and not cost.disputed_micros else self._told(attempt, cost)

    async def balance_delta(self, attempt: Attempt) -> BalanceDelta | None:
        """What left the account, where the vendor does not say what it charged and nothing else could be charged."""
        before = self._parts.fleet.balance_before(attempt.id)
        after = await self._parts.fleet.refresh_balance(attempt.account) if before is not None else None
        alone = self._parts.fleet.balance_before(attempt.id) is not None
        return BalanceDelta(before, after, alone) if before is not None and after is not None else None

    def believed_micros(self, attempt: Attempt, reported_micros: int) -> int:
        """A vendor's figure within reason, for who only has to know about how much it was."""
        return self._cost_of(attempt, reported_micros).amount_micros

    def most_micros(self, attempt: Attempt) -> int:
        """The most that a report of an attempt's cost is believed."""
        formula = self._parts.planner.prices.formula(attempt.route, attempt.prepared_at)
        worst_micros = attempt.price_micros * (formula.worst_factor if formula is not None else Decimal(1))
        return min(AMOUNT_MAX_MICROS, int(worst_micros * self._parts.settings.money.reported_cost_max_ratio))

    def _cost_of(self, attempt: Attempt, reported_micros: int) -> TrueCost:
        most, book = self.most_micros(attempt), attempt.price_micros
        return true_cost(reported_micros=reported_micros, balance=None, book_micros=book, most_micros=most)

    def _told(self, attempt: Attempt, cost: TrueCost) -> TrueCost:
        """Log and count a figure that nobody believes, as a reply that matches nothing known."""
        if cost.disputed_micros:
            self._parts.meter.unrecognised(attempt.route)
            facts = {"booked_micros": cost.amount_micros, "disputed_micros": cost.disputed_micros}
            log.error("cost.not_believed", job=attempt.job_id, attempt=attempt.id, route=attempt.route, **facts)
        return cost


def with_cost(report: Report | None, cost: TrueCost | None) -> Report:
    """A report that says what is believed of its cost."""
    return replace(report or Report(), cost_micros=None if cost is None else cost.amount_micros)
