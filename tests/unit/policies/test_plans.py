"""Options assessed as they are played: what a slot's rent weighs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.objective import value_curve
from policies.plans import Assessment, assess_queued
from tests.unit.policies.builders import SETTINGS
from tests.unit.policies.test_objective import STAKES, option

PATIENT = replace(STAKES, deadline_s=600.0, give_up_s=1200.0)
CURVE = value_curve(PATIENT, [option("vendor", 70_000.0, 20.0)])


def queued(wait_s: float, rent: float) -> Assessment:
    """A local slot that comes free after `wait_s`, beside one vendor."""
    slot = replace(option("local", 10_000.0, 40.0), wait_s=wait_s)
    return assess_queued(PATIENT, slot, rent, CURVE, SETTINGS)


def test_a_slot_that_is_taken_costs_its_rent() -> None:
    """A job that is sure to get the slot owes all of it."""
    assert queued(20.0, 30_000.0).cost - queued(20.0, 0.0).cost == pytest.approx(0.97 * 30_000.0, rel=0.02)


def test_a_job_that_leaves_without_a_slot_owes_no_rent() -> None:
    """Where the slot comes far too late, waiting costs what leaving costs, whatever the rent."""
    assert queued(5_000.0, 30_000.0).cost == pytest.approx(queued(5_000.0, 0.0).cost, rel=1e-3)


def test_nobody_waits_for_a_slot_that_costs_more_than_leaving() -> None:
    """A rent above the gain is not worth the slot: the job plans to leave at once."""
    dear = queued(20.0, 90_000.0)
    assert dear.leave_s == pytest.approx(0.0)
    assert dear.cost == pytest.approx(CURVE.costs[0], rel=0.05)
