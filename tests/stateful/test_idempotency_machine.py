"""Idempotency keys against a plain dictionary: one key of one team means one outcome for 24 hours."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import func, select

from gateway.money import idempotency
from gateway.store.schema_money import idempotency as rows
from tests.stateful.money_support import machine_settings, memory_engine, money_connection

ENGINE = memory_engine()
DAY_S = 86_400.0

teams = st.sampled_from(["alpha", "beta"])
keys = st.sampled_from(["one", "two"])
prints = st.sampled_from(["aa", "bb"])
statuses = st.sampled_from([202, 402])
bodies = st.binary(max_size=8)
Answered = tuple[int, bytes]
answers = st.tuples(statuses, bodies)


@dataclass
class ModelClaim:
    """Who has the key, since when, and the answer."""

    fingerprint: str
    at: float
    answer: Answered


class IdempotencyMachine(RuleBasedStateMachine):
    """Claims and restates the keys of two teams while the clock runs and jumps."""

    def __init__(self) -> None:
        super().__init__()
        self._context = money_connection(ENGINE)
        self.connection = self._context.__enter__()
        self.model: dict[tuple[str, str], ModelClaim] = {}
        self.now = DAY_S * 10

    def teardown(self) -> None:
        """Forget the database of this run."""
        self._context.__exit__(None, None, None)

    @rule(step_s=st.sampled_from([0.0, 1.0, DAY_S / 2, DAY_S - 1.0, DAY_S, -3600.0]))
    def clock(self, step_s: float) -> None:
        """Time goes on, or back."""
        self.now += step_s

    @rule(team=teams, key=keys, fingerprint=prints, expected=answers, other=st.none() | answers)
    def claim(self, team: str, key: str, fingerprint: str, expected: Answered, other: Answered | None) -> None:
        """A claim says what became of the key, and sees nothing of another team.

        It keeps the answer that it comes with, or the one that its own transaction restates.
        """
        peeked = idempotency.peek(self.connection, team, key, fingerprint, self.now)
        given = idempotency.Replay(*expected, headers={"location": key})
        answer = idempotency.claim(self.connection, team, key, fingerprint, self.now, given)
        assert answer == peeked
        known = self.model.get((team, key))
        if known is None or self.now - known.at >= DAY_S:
            assert answer == idempotency.Fresh()
            self.model[team, key] = ModelClaim(fingerprint, self.now, expected)
            if other is not None:
                idempotency.restate(self.connection, team, key, idempotency.Replay(*other, headers={"location": key}))
                self.model[team, key].answer = other
        elif known.fingerprint != fingerprint:
            assert answer == idempotency.Mismatch()
        else:
            assert answer == idempotency.Replay(*known.answer, headers={"location": key})

    @rule()
    def prune(self) -> None:
        """Only keys past their lifetime are deleted."""
        old = [where for where, claim in self.model.items() if self.now - claim.at >= DAY_S]
        assert idempotency.prune(self.connection, self.now) == len(old)
        for where in old:
            del self.model[where]

    @invariant()
    def one_row_a_key(self) -> None:
        """There are as many rows as claims."""
        assert self.connection.execute(select(func.count()).select_from(rows)).scalar_one() == len(self.model)


TestIdempotency = IdempotencyMachine.TestCase
TestIdempotency.settings = machine_settings()
