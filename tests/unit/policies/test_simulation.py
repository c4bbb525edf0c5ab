"""The simulator's adapter converts values and nothing else."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from policies.simulation import Dispatch, Policy, Wait, facts, micros


def view(**more: Any) -> SimpleNamespace:
    """What the simulator shows: one vendor and one local route."""
    routes = {
        "v.svd": SimpleNamespace(account="v", mode="async", features=frozenset({"i2v"}), nominal_s=30.0),
        "l.gpu": SimpleNamespace(account="l", mode="local", features=frozenset({"i2v", "motion"}), nominal_s=45.0),
    }
    shown = {
        "routes": routes,
        "price": lambda route: {"v.svd": 0.07, "l.gpu": 0.01}[route],
        "balance": lambda account: (math.inf, 0.0),
        "inflight": lambda route: (),
        "local": lambda route: (1, [], 0),
    }
    return SimpleNamespace(**{**shown, **more})


def job(**more: Any) -> SimpleNamespace:
    """One job of the simulator."""
    values = {
        "id": 5,
        "arrival": 0.0,
        "deadline": 120.0,
        "give_up": 240.0,
        "max_cost": 0.5,
        "value": 0.4,
        "late_frac": 0.5,
        "needs": frozenset({"i2v"}),
        "spent": 0.0,
        "tried": (),
        "inflight": (),
    }
    return SimpleNamespace(**{**values, **more})


def event(kind: str, at: float, **more: Any) -> SimpleNamespace:
    """One event of the simulator."""
    values = {"route": "v.svd", "account": "v", "job": 1, "attempt": 1, "elapsed": 0.5, "status": 0}
    hints = {"retry_after": None, "eta_s": None, "billed": 0.0}
    return SimpleNamespace(kind=kind, t=at, **{**values, **hints, **more})


def test_the_cheapest_fitting_route_is_dispatched() -> None:
    """A free local slot is taken, with a timeout to the give-up time."""
    (chosen,) = Policy(1).choose(job(), 0.0, view())
    assert isinstance(chosen, Dispatch)
    assert chosen.route == "l.gpu"
    assert chosen.timeout_s == pytest.approx(240.0)


def test_a_route_that_lacks_a_feature_is_never_chosen() -> None:
    """Needs are turned into refusals."""
    slots_gone = view(local=lambda route: (0, [], 0))
    (chosen,) = Policy(1).choose(job(needs=frozenset({"motion"})), 0.0, slots_gone)
    assert chosen.route != "v.svd" if isinstance(chosen, Dispatch) else chosen.seconds > 0.0


def test_a_rate_limit_becomes_a_wait() -> None:
    """A 429 with a hint is obeyed through the adapter."""
    policy = Policy(1)
    policy.observe(event("dispatched", 0.0))
    policy.observe(event("failure", 0.2, status=429, retry_after=8.0))
    alone = view(local=lambda route: (0, [], 0))
    (chosen,) = policy.choose(job(), 1.0, alone)
    assert isinstance(chosen, Wait)
    assert chosen.seconds == pytest.approx(7.2)


def test_an_empty_balance_is_seen() -> None:
    """Dollars become micro-USD, and an unmetered account has none."""
    poor = view(balance=lambda account: (0.01, 0.0) if account == "v" else (math.inf, 0.0))
    (chosen,) = Policy(1).choose(job(), 0.0, poor)
    assert isinstance(chosen, Dispatch)
    assert chosen.route == "l.gpu"


def test_values_are_converted() -> None:
    """Money, attempts and outcomes keep their meaning."""
    flight = SimpleNamespace(id=9, route="v.svd", started=3.0, state="running", eta_s=20.0)
    known = facts(job(spent=0.07, tried=(("v.svd", 504, 40.0), ("v.svd", 402, 41.0)), inflight=(flight,)))
    assert known.spent_micros == 70_000
    assert [tried.kind for tried in known.tried] == ["unavailable", "no_credit"]
    assert known.in_flight[0][0] == "v.svd"
    assert known.in_flight[0][1].started_at == 3.0
    assert micros(0.1659) == 165_900


def test_equal_seeds_decide_equally() -> None:
    """Two policies that saw the same decide the same."""
    one, other = Policy(3), Policy(3)
    for policy in (one, other):
        policy.observe(event("success", 30.0, status=200, elapsed=30.0, billed=0.07))
    assert one.choose(job(), 31.0, view()) == other.choose(job(), 31.0, view())
