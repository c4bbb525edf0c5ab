"""The ledger and its budgets against the plain model, in random histories of every operation and of a jumping clock."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from gateway.money import budgets, ledger
from gateway.money.windows import WindowKind
from gateway.store.schema_money import budget_windows
from tests.stateful.money_model import Model, ModelBudget, ModelHold
from tests.stateful.money_support import KEYS, TEAMS, machine_settings, memory_engine, money_connection
from tests.support.plain_postgres import plain_postgres

START = 1_791_518_400.0  # 2026-10-09T04:00:00Z, a Friday: midnight in New York, in the fourth hour of the day in UTC
HOUR_S = 3600.0
DAY_S = 86_400.0
STEPS_S = (1.0, HOUR_S, -HOUR_S, 5 * HOUR_S, 20 * HOUR_S, DAY_S, -DAY_S, 2 * DAY_S, 7 * DAY_S, 31 * DAY_S)
ENGINE = memory_engine()

teams = st.sampled_from([(team, key) for team in TEAMS for key in KEYS[team]])
windows = st.sampled_from([WindowKind.DAY, *WindowKind])
amounts = st.one_of(st.integers(0, 60), st.sampled_from([0, 1, 30, 40, 60, 100, 10**15]))
limits = st.one_of(st.none(), st.integers(0, 150), st.sampled_from([30, 60, 100]))
picks = st.integers(0, 10**6)


class LedgerMachine(RuleBasedStateMachine):
    """Does the same to the ledger and to the model, and compares every answer and every balance."""

    engine = ENGINE

    def __init__(self) -> None:
        super().__init__()
        self._context = money_connection(self.engine)
        self.connection = self._context.__enter__()
        self.model = Model()
        self.now = START
        self.count = 0

    def teardown(self) -> None:
        """Look at the whole ledger once more, then forget it."""
        try:
            assert ledger.check(self.connection) == []
        finally:
            self._context.__exit__(None, None, None)

    @initialize(
        at=st.sampled_from([-1.0, 0.0, HOUR_S, 2 * DAY_S, 3 * DAY_S, 22 * DAY_S, 23 * DAY_S - 1.0]),
        made=st.lists(st.tuples(teams, st.booleans(), windows, st.integers(20, 120)), min_size=1, max_size=5),
    )
    def begin(self, at: float, made: list[tuple[tuple[str, str], bool, WindowKind, int]]) -> None:
        """Start near the edge of a day, a week or a month, with some budgets in force."""
        self.now = START + at
        for who, of_key, window, limit in made:
            self._set_budget(who, of_key, window, (limit, limit // 2))

    @rule(step_s=st.sampled_from(STEPS_S))
    def clock(self, step_s: float) -> None:
        """Time goes on, or jumps, over the edges of windows too."""
        self.now += step_s

    @rule(who=teams, of_key=st.booleans(), window=windows, limits=st.tuples(limits, limits))
    def set_budget(
        self, who: tuple[str, str], of_key: bool, window: WindowKind, limits: tuple[int | None, int | None]
    ) -> None:
        """Make a budget or change its limits."""
        if limits != (None, None):
            self._set_budget(who, of_key, window, limits)

    @precondition(lambda self: self.model.budgets)
    @rule(pick=picks)
    def retire_budget(self, pick: int) -> None:
        """A budget ends; its holds settle all the same."""
        budget_id = sorted(self.model.budgets)[pick % len(self.model.budgets)]
        assert budgets.retire_budget(self.connection, budget_id, self.now)
        assert not budgets.retire_budget(self.connection, budget_id, self.now)
        del self.model.budgets[budget_id]

    @rule(who=teams, amount=amounts, life_s=st.sampled_from([1.0, HOUR_S, DAY_S]), step_s=st.sampled_from(STEPS_S))
    def hold_after_a_while(self, who: tuple[str, str], amount: int, life_s: float, step_s: float) -> None:
        """Time goes by, and then somebody reserves."""
        self.now += step_s
        self.hold(who, amount, life_s)

    @rule(who=teams, amount=amounts, life_s=st.sampled_from([1.0, HOUR_S, DAY_S]))
    def hold(self, who: tuple[str, str], amount: int, life_s: float) -> None:
        """Reserve, if every budget allows it; say which one does not."""
        team, key = who
        hold_id = self._id("hold")
        request = ledger.HoldRequest(hold_id, f"job-{hold_id}", team, key, amount, self.now, self.now + life_s)
        refusing = self.model.refusing(team, key, amount, self.now)
        answer = ledger.hold(self.connection, request)
        if refusing is None:
            assert isinstance(answer, ledger.Held)
            self.model.holds[hold_id] = ModelHold(team, key, amount, self.now, self.now + life_s)
            self._compare_warnings(team, key, answer)
            return
        budget = self.model.budgets[refusing[0]]
        assert isinstance(answer, ledger.BudgetRefusal)
        assert (answer.scope, answer.window) == ("team" if budget.key is None else "key", budget.window)
        assert (answer.limit_micros, answer.spent_micros, answer.held_micros) == (budget.limit, *refusing[1:])
        assert answer.needed_micros == amount
        assert answer.resets_at is None or answer.resets_at > self.now

    @precondition(lambda self: self.model.budgets)
    @rule(pick=picks, soft=st.booleans(), beside=st.sampled_from([-1, 0, 1]))
    def hold_to_the_edge(self, pick: int, soft: bool, beside: int) -> None:
        """Ask for just what a budget has left, one less or one more."""
        budget = self.model.budgets[sorted(self.model.budgets)[pick % len(self.model.budgets)]]
        edge = budget.soft if soft else budget.limit
        left = (edge or 0) - sum(self.model.counted(budget, self.now)) + beside
        if left >= 0:
            self.hold((budget.team, budget.key or KEYS[budget.team][0]), left, HOUR_S)

    @precondition(lambda self: self.model.holds)
    @rule(pick=picks, amount=st.integers(0, 30))
    def hold_again(self, pick: int, amount: int) -> None:
        """The same hold asked for twice is there once."""
        hold_id, hold = self._pick_hold(pick)
        request = ledger.HoldRequest(hold_id, f"job-{hold_id}", hold.team, hold.key, amount, self.now, self.now + 1)
        answer = ledger.hold(self.connection, request)
        over = self.model.refusing(hold.team, hold.key, amount, self.now)
        assert isinstance(answer, ledger.AlreadyHeld if over is None else ledger.BudgetRefusal)

    @precondition(lambda self: self.model.holds)
    @rule(pick=picks, price=amounts, cost=amounts)
    def capture(self, pick: int, price: int, cost: int) -> None:
        """Bill a hold: in full, once, also above what was held."""
        hold_id, hold = self._pick_hold(pick)
        bill = ledger.Capture(
            hold_id, price, cost, "reported", "vendor", self.now, "delivered", attempt_id=f"a-{hold_id}"
        )
        answer = ledger.capture(self.connection, bill)
        if hold.state != "open":
            assert answer == ledger.AlreadySettled(hold.state)  # type: ignore[arg-type]
            return
        assert answer == ledger.Captured(price, max(0, price - hold.amount))
        hold.state, hold.billed = "captured", price
        self.model.transfer(f"team:{hold.team}", "provider:vendor", cost)
        self.model.transfer(f"team:{hold.team}", "margin", price - cost)

    @precondition(lambda self: self.model.holds)
    @rule(pick=picks, verb=st.sampled_from(["release", "expire"]))
    def give_back(self, pick: int, verb: str) -> None:
        """Release or expire a hold, once."""
        hold_id, hold = self._pick_hold(pick)
        function = {"release": ledger.release, "expire": ledger.expire}[verb]
        answer = function(self.connection, hold_id, self.now, "why")
        if hold.state != "open":
            assert answer == ledger.AlreadySettled(hold.state)  # type: ignore[arg-type]
            return
        assert answer == {"release": ledger.Released, "expire": ledger.Expired}[verb](hold.amount)
        hold.state = {"release": "released", "expire": "expired"}[verb]

    @rule()
    def sweep(self) -> None:
        """The sweeper expires exactly the open holds whose time is over."""
        due = {
            hold_id
            for hold_id, hold in self.model.holds.items()
            if hold.state == "open" and hold.expires_at <= self.now
        }
        assert set(ledger.due_holds(self.connection, self.now, 10**6)) == due
        for hold_id in due:
            assert isinstance(ledger.expire(self.connection, hold_id, self.now, "overdue"), ledger.Expired)
            self.model.holds[hold_id].state = "expired"

    @precondition(lambda self: self.model.holds)
    @rule(pick=picks, amount=st.integers(1, 60))
    def refund(self, pick: int, amount: int) -> None:
        """A correction gives back at most what was billed, as a new entry."""
        hold_id, hold = self._pick_hold(pick)
        correction = ledger.Correction(
            self._id("correction"), "margin", f"team:{hold.team}", amount, self.now, "goodwill", hold_id=hold_id
        )
        if hold.state == "open" or amount > hold.billed:
            try:
                ledger.correct(self.connection, correction)
            except ledger.CorrectionError:
                return
            raise AssertionError("a correction took back more than was billed")
        assert isinstance(ledger.correct(self.connection, correction), ledger.Booked)
        assert isinstance(ledger.correct(self.connection, correction), ledger.AlreadyBooked)
        hold.billed -= amount
        self.model.transfer("margin", f"team:{hold.team}", amount)

    @rule(
        verb=st.sampled_from(["lose", "suspend", "clear", "top_up"]),
        attempt=st.integers(0, 4),
        amount=st.integers(1, 60),
    )
    def operator(self, verb: str, attempt: int, amount: int) -> None:
        """Losses, suspense and credit bought: booked once each, never to a team."""
        verbs = {"lose": self._lose, "suspend": self._suspend, "clear": self._clear, "top_up": self._top_up}
        verbs[verb](f"{verb}-{attempt}" if verb in {"lose", "top_up"} else f"doubt-{attempt}", amount)

    @invariant()
    def balances_agree(self) -> None:
        """Every account stands where the model has it, and all together at 0."""
        balance = ledger.trial_balance(self.connection)
        assert sum(balance.values()) == 0
        assert {account: micros for account, micros in balance.items() if micros} == self.model.moved()

    @invariant()
    def budgets_agree(self) -> None:
        """Every budget has spent and holds what its holds add up to."""
        for team in TEAMS:
            for state in budgets.budget_states(self.connection, team, self.now):
                expected = self.model.counted(self.model.budgets[state.budget.budget_id], self.now)
                if state.spent_micros or state.held_micros or self._window_is_open(state):
                    assert (state.spent_micros, state.held_micros) == expected

    def _set_budget(
        self, who: tuple[str, str], of_key: bool, window: WindowKind, limits: tuple[int | None, int | None]
    ) -> None:
        team, key = who[0], who[1] if of_key else None
        same = [
            budget_id
            for budget_id, budget in self.model.budgets.items()
            if (budget.team, budget.key, budget.window) == (team, key, window.value)
        ]
        budget_id = same[0] if same else self._id("budget")
        asked = budgets.Budget("ignored" if same else budget_id, team, window, *limits, key)
        assert budgets.set_budget(self.connection, asked, self.now) == budget_id
        self.model.budgets[budget_id] = ModelBudget(team, key, window.value, *limits)

    def _lose(self, attempt: str, amount: int) -> None:
        answer = ledger.book_loss(self.connection, ledger.Loss("job", attempt, "vendor", amount, self.now, "failed"))
        self._expect_once(attempt, answer, ("loss", "provider:vendor", amount))

    def _suspend(self, attempt: str, amount: int) -> None:
        doubt = ledger.Suspense("job", attempt, "vendor", amount, self.now, "submit in doubt")
        if self._expect_once(attempt, ledger.suspend(self.connection, doubt), ("suspense", "provider:vendor", amount)):
            self.model.suspended[attempt] = amount

    def _clear(self, attempt: str, charged: int) -> None:
        answer = ledger.clear_suspense(self.connection, attempt, charged_micros=charged, at=self.now, reason="list")
        if attempt not in self.model.booked:
            assert answer == ledger.NothingSuspended(attempt)
        elif attempt not in self.model.suspended:
            assert isinstance(answer, ledger.AlreadyBooked)
        else:
            amount = self.model.suspended.pop(attempt)
            assert answer == ledger.ClearedSuspense(charged, max(0, amount - charged))
            self.model.transfer("provider:vendor", "suspense", amount)
            self.model.transfer("loss", "provider:vendor", charged)

    def _top_up(self, name: str, amount: int) -> None:
        answer = ledger.top_up(self.connection, ledger.TopUp(name, "vendor", amount, self.now, "invoice"))
        self._expect_once(name, answer, ("provider:vendor", "treasury", amount))

    def _expect_once(self, name: str, answer: object, transfer: tuple[str, str, int]) -> bool:
        """The first booking of a name moves the money, any other is told of it; True for the first."""
        if name in self.model.booked:
            assert isinstance(answer, ledger.AlreadyBooked)
            return False
        assert answer == ledger.Booked(transfer[2])
        self.model.booked.add(name)
        self.model.transfer(*transfer)
        return True

    def _window_is_open(self, state: budgets.BudgetState) -> bool:
        of_budget = budget_windows.c.budget_id == state.budget.budget_id
        query = select(budget_windows.c.budget_id).where(
            of_budget, budget_windows.c.starts_at == state.window.starts_at
        )
        return self.connection.execute(query).first() is not None

    def _compare_warnings(self, team: str, key: str, answer: ledger.Held) -> None:
        over = set()
        for budget in self.model.budgets.values():
            spent, held = self.model.counted(budget, self.now)
            if budget.team == team and budget.key in (None, key) and budget.soft is not None:
                over |= {(budget.key is None, budget.window)} if spent + held >= budget.soft else set()
        assert {(warning.scope == "team", warning.window.value) for warning in answer.warnings} == over

    def _pick_hold(self, pick: int) -> tuple[str, ModelHold]:
        hold_id = sorted(self.model.holds)[pick % len(self.model.holds)]
        return hold_id, self.model.holds[hold_id]

    def _id(self, kind: str) -> str:
        self.count += 1
        return f"{kind}-{self.count:04d}"


TestLedger = LedgerMachine.TestCase
TestLedger.settings = machine_settings()


def test_the_ledger_keeps_its_rules_on_postgresql(postgres_url: str) -> None:
    """The same machine over a real server: every answer and every balance, in fewer histories."""
    with plain_postgres(postgres_url) as database:

        class OnPostgres(LedgerMachine):
            engine = database.engine

        database.run(run_state_machine_as_test, OnPostgres, settings=machine_settings(runs=10, steps=30))
