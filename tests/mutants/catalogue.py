"""Faults that other gateways really had, or that a tired hand would make: each must be caught by the tests it names."""

from __future__ import annotations

from dataclasses import dataclass

LEDGER_MACHINE = "tests/stateful/test_ledger_machine.py"
IDEMPOTENCY_MACHINE = "tests/stateful/test_idempotency_machine.py"
UNIT = "tests/unit/money/"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: in `module`, `good` (there exactly once) becomes `bad`, and one of `tests` must fail."""

    name: str
    module: str
    good: str
    bad: str
    tests: tuple[str, ...] = (LEDGER_MACHINE,)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "double refund: a settled hold settles again",
        "gateway.money.ledger",
        '.where(holds.c.id == bindparam("of_hold"), holds.c.state == "open")',
        '.where(holds.c.id == bindparam("of_hold"))',
    ),
    Mutant(
        "double refund, when the trigger that refuses it is gone too",
        "gateway.store.triggers_money",
        "\"OLD.state <> 'open'\", \"NEW.state = 'open'\"",
        "\"NEW.state = 'open'\"",
        (UNIT + "test_schema.py",),
    ),
    Mutant(
        "a capture is cut to less than its price",
        "gateway.money.ledger",
        "budget_counts.settle(connection, bill.hold_id, settled.amount_micros, bill.price_micros)",
        "budget_counts.settle(connection, bill.hold_id, settled.amount_micros, min(bill.price_micros, 1))",
    ),
    Mutant(
        "the excess over a hold is not flagged",
        "gateway.money.ledger",
        "excess_micros = max(0, bill.price_micros - settled.amount_micros)",
        "excess_micros = 0",
    ),
    Mutant(
        "lost release: the budget keeps what was given back",
        "gateway.money.ledger",
        "    budget_counts.settle(connection, settled.id, settled.amount_micros, 0)\n",
        "",
    ),
    Mutant(
        "a capture frees the hold and forgets the spend",
        "gateway.money.budget_counts",
        "held=-amount_micros, spent=price_micros)",
        "held=-amount_micros, spent=0)",
    ),
    Mutant(
        "billed at submit: a hold counts as spent at once",
        "gateway.money.budget_counts",
        '.values(held_micros=budget_windows.c.held_micros + bindparam("amount"))',
        '.values(spent_micros=budget_windows.c.spent_micros + bindparam("amount"))',
    ),
    Mutant(
        "the limit itself is refused",
        "gateway.money.budget_counts",
        'bindparam("amount")\n        <= select(',
        'bindparam("amount")\n        < select(',
    ),
    Mutant(
        "open holds do not count against the limit",
        "gateway.money.budget_counts",
        'budget_windows.c.spent_micros + budget_windows.c.held_micros + bindparam("amount")',
        'budget_windows.c.spent_micros + bindparam("amount")',
    ),
    Mutant(
        "a refused hold stays reserved in the budgets before",
        "gateway.money.budgets",
        "            give_back(connection, counted, amount_micros)\n",
        "",
    ),
    Mutant(
        "a hold asked for twice is reserved twice",
        "gateway.money.ledger",
        "        budget_counts.give_back(connection, reservation.counted_in, request.amount_micros)\n",
        "",
    ),
    Mutant(
        "a key's budget counts every key of the team",
        "gateway.money.budgets",
        "if budget.key_id is not None and budget.key_id != key_id:",
        "if False:",
    ),
    Mutant(
        "a new budget forgets what its window has seen",
        "gateway.money.budget_counts",
        "    if earlier:\n",
        "    if False:\n",
    ),
    Mutant(
        "window off by one: a day ends a day late",
        "gateway.money.windows",
        "return today, today + timedelta(days=1)",
        "return today, today + timedelta(days=2)",
        (UNIT + "test_windows.py", LEDGER_MACHINE),
    ),
    Mutant(
        "window off by one: weeks begin on Sunday",
        "gateway.money.windows",
        "timedelta(days=today.weekday())",
        "timedelta(days=today.isoweekday() % 7)",
    ),
    Mutant(
        "windows follow UTC instead of the team's clock",
        "gateway.money.windows",
        "    zone = ZoneInfo(timezone)\n",
        '    zone = ZoneInfo("UTC")\n',
    ),
    Mutant(
        "a soft limit is reached one micro late",
        "gateway.money.budgets",
        "taken.spent_micros + taken.held_micros < budget.soft_micros",
        "taken.spent_micros + taken.held_micros <= budget.soft_micros",
    ),
    Mutant(
        "a price under the cost leaves the vendor unpaid",
        "gateway.money.ledger",
        '        ("uncovered", MARGIN, provider, bill.cost_micros - covered_micros),\n',
        "",
    ),
    Mutant(
        "a vendor's charge for a failure is booked as margin",
        "gateway.money.losses",
        "debit=LOSS, credit=provider_account(loss.provider)",
        'debit="margin", credit=provider_account(loss.provider)',
    ),
    Mutant(
        "a suspense can be cleared twice with another amount",
        "gateway.money.losses",
        'reference=f"clear:{attempt_id}" if number == 0',
        'reference=f"clear:{attempt_id}:{charged_micros}" if number == 0',
        (UNIT + "test_losses.py",),
    ),
    Mutant(
        "a refund may exceed the bill",
        "gateway.money.losses",
        "if billed + change < 0 and not",
        "if False and not",
    ),
    Mutant(
        "a refund leaves the budget spent",
        "gateway.money.losses",
        "        budget_counts.correct(connection, correction.hold_id, change_micros)\n",
        "        pass\n",
    ),
    Mutant(
        "the sweeper expires holds that are not due",
        "gateway.money.ledger",
        "holds.c.expires_at <= at)",
        "holds.c.created_at <= at)",
    ),
    Mutant(
        "a closed month takes entries",
        "gateway.money.transfers",
        "return period_of(at) if closed is None else max(period_of(at), period_after(closed))",
        "return period_of(at)",
        (UNIT + "test_periods.py",),
    ),
    Mutant(
        "history can be rewritten: the append-only triggers are gone",
        "gateway.store.triggers_money",
        '*((table, f"{table}_no_update", "UPDATE", "", f"{table} is append-only") for table in APPEND_ONLY),',
        "",
        (UNIT + "test_schema.py",),
    ),
    Mutant(
        "a key of one team replays another team's answer",
        "gateway.money.idempotency",
        '_OF_KEY = (idempotency.c.team_id == bindparam("of_team"), idempotency',
        '_OF_KEY = (bindparam("of_team") == bindparam("of_team"), idempotency',
        (IDEMPOTENCY_MACHINE,),
    ),
    Mutant(
        "a key lives for two days",
        "gateway.money.idempotency",
        '"expired_before": at - LIFETIME_S,',
        '"expired_before": at - 2 * LIFETIME_S,',
        (IDEMPOTENCY_MACHINE,),
    ),
    Mutant(
        "the second answer to a key replaces the first",
        "gateway.money.idempotency",
        'where=idempotency.c.created_at <= bindparam("expired_before"),',
        'where=idempotency.c.created_at <= bindparam("expired_before") + 10**9,',
        (IDEMPOTENCY_MACHINE,),
    ),
    Mutant(
        "a refused budget is replayed as an accepted job",
        "gateway.money.idempotency",
        '    _RESTATE.changed(connection, {"of_team": team_id, "of_key": key, **values})',
        "    pass",
        (IDEMPOTENCY_MACHINE,),
    ),
    Mutant(
        "a key replays its answer to another request",
        "gateway.money.idempotency",
        "if row.fingerprint != fingerprint:",
        "if False:",
        (IDEMPOTENCY_MACHINE,),
    ),
    Mutant(
        "an unexplained charge clears every suspense near it",
        "gateway.money.reconcile",
        "if number not in pairs and other not in pairs.values():",
        "if number not in pairs:",
        (UNIT + "test_reconcile.py",),
    ),
    Mutant(
        "a vendor's charge goes missing between two days of a report",
        "gateway.money.reports",
        "settlements.c.at >= since",
        "settlements.c.at > since",
        (UNIT + "test_reports.py",),
    ),
    Mutant(
        "a price loses its fraction of a micro",
        "gateway.money.amounts",
        "to_integral_value(ROUND_CEILING)",
        'to_integral_value("ROUND_FLOOR")',
        (UNIT + "test_margin.py", UNIT + "test_prices.py"),
    ),
    Mutant(
        "unknown price is 0",
        "gateway.money.formula",
        "        if quantity is None:\n                return None\n",
        "        if quantity is None:\n                quantity = Decimal(0)\n",
        (UNIT + "test_prices.py",),
    ),
)
