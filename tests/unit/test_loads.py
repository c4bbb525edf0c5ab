"""What machines of our own say becomes slots and a queue, in which no render counts twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.loads import LOAD_TTL_S, Loads
from policies.values import InFlight
from providers.contract import Load
from providers.pace import Measured

NOW = 1_000.0
MINE = [InFlight("mine-1", 900.0), InFlight("mine-2", 950.0), InFlight("mine-3", 990.0)]


def loads(load: Load, own: int = 0) -> Loads:
    """The loads after one word of a provider about one route."""
    made = Loads()
    made.note({"local/svd": load}, own, NOW)
    return made


def test_a_route_that_nobody_spoke_of_has_no_machines() -> None:
    """Nor has one whose machines spoke too long ago."""
    said = loads(Load(1, 0, 0))
    assert said.machines("local/other", [], NOW) is None
    assert said.machines("local/svd", [], NOW + LOAD_TTL_S) is not None
    assert said.machines("local/svd", [], NOW + LOAD_TTL_S + 1) is None
    assert dict(said.said(NOW)) == {"local/svd": Load(1, 0, 0)}
    assert dict(said.said(NOW + LOAD_TTL_S + 1)) == {}


def test_what_this_process_sent_is_not_counted_twice() -> None:
    """Three at work or waiting there, all of them ours: nobody else's are before us."""
    machines = loads(Load(2, 2, 1), own=3).machines("local/svd", MINE, NOW)
    assert machines is not None
    assert (machines.slots, machines.running, machines.queued) == (2, tuple(MINE[:2]), 1)


def test_what_was_sent_since_the_last_word_counts_at_once() -> None:
    """The workers said that all is free; three renders have left since."""
    machines = loads(Load(2, 0, 0)).machines("local/svd", MINE, NOW + 1)
    assert machines is not None
    assert (len(machines.running), machines.queued) == (2, 1)


def test_renders_of_others_take_slots_too() -> None:
    """Another gateway's two renders on two cards: ours would wait."""
    machines = loads(Load(2, 2, 4)).machines("local/svd", [], NOW)
    assert machines is not None
    assert [one.started_at for one in machines.running] == [NOW, NOW]
    assert machines.queued == 4


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 20), st.integers(0, 3))
def test_every_render_is_at_work_or_waits(slots: int, running: int, waiting: int, own: int) -> None:
    """The sum is what the machines said, and never fewer than we have sent."""
    machines = loads(Load(slots, running, waiting), own).machines("local/svd", MINE[:own], NOW)
    assert machines is not None
    assert len(machines.running) + machines.queued == max(own, running + waiting)
    assert len(machines.running) <= slots


@pytest.mark.parametrize(
    ("load", "steps", "render_s"),
    [
        (Load(1, 0, 0, paces=((Measured(0.5, 2.0),),)), 25, 14.5),
        (Load(2, 0, 0, paces=((Measured(0.5, 2.0),), (Measured(1.5, 2.0),), ())), 25, 27.0),
        (Load(1, 0, 0), 25, None),
        (Load(1, 0, 0, paces=((),)), 25, None),
        (Load(1, 0, 0, paces=((Measured(0.5, 2.0),),)), None, None),
    ],
)
def test_a_render_takes_what_was_measured(load: Load, steps: int | None, render_s: float | None) -> None:
    """A fixed part and so much a step, the mean of what measured, once anything did and the steps are known."""
    machines = loads(load).machines("local/svd", [], NOW)
    assert machines is not None
    values = {} if steps is None else {"num_inference_steps": steps}
    assert machines.render_s(values) == render_s
