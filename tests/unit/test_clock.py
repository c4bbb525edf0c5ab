"""The service's clock: steady, and not to be moved by a machine's clock that jumps for a moment."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import structlog

from gateway import clock
from gateway.clock import STEP_LASTS_S, SystemClock

NOON = 1_800_000_000.0


@dataclass
class Machine:
    """A machine with a time of day that can be set, and a steady clock that cannot."""

    steady_s: float = 1_000.0
    wall_offset_s: float = NOON

    def passes(self, seconds: float) -> None:
        self.steady_s += seconds

    def wall_s(self) -> float:
        return self.wall_offset_s + self.steady_s


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(clock, "_wall_s", machine.wall_s)
    monkeypatch.setattr(clock, "_steady_s", lambda: machine.steady_s)
    return machine


@pytest.mark.parametrize("step_s", [-7_200.0, -5.0, 5.0, 7_200.0, 90 * 86_400.0])
def test_a_clock_that_jumps_and_comes_back_is_not_followed(machine: Machine, step_s: float) -> None:
    """For a minute time goes on as it did: no lease, deadline or hold ends because of the jump."""
    system = SystemClock()
    began = system.now()
    machine.wall_offset_s += step_s
    for second in range(1, int(STEP_LASTS_S)):
        machine.passes(1)
        assert system.now() == pytest.approx(began + second)
    machine.wall_offset_s -= step_s
    machine.passes(1_000)
    assert system.now() == pytest.approx(machine.wall_s())


@pytest.mark.parametrize("step_s", [-7_200.0, 7_200.0])
def test_a_step_that_lasts_is_believed(machine: Machine, step_s: float) -> None:
    """The clock was wrong and was set right: after a minute the service has the new time, and has told of it."""
    system = SystemClock()
    machine.wall_offset_s += step_s
    with structlog.testing.capture_logs() as logs:
        system.now()
        machine.passes(STEP_LASTS_S + 1)
        assert system.now() == pytest.approx(machine.wall_s())
    assert [line["event"] for line in logs] == ["clock.stepped", "clock.step_believed"]


def test_a_clock_that_jumps_about_is_believed_only_when_it_rests(machine: Machine) -> None:
    """Every further jump begins the minute anew."""
    system = SystemClock()
    began = system.now()
    for turn in range(10):
        machine.wall_offset_s += 3_600.0 if turn % 2 == 0 else 1_800.0
        machine.passes(STEP_LASTS_S - 1)
        assert system.now() == pytest.approx(began + (turn + 1) * (STEP_LASTS_S - 1))


def test_small_corrections_are_followed_at_once(machine: Machine) -> None:
    """NTP slews by milliseconds: the time of day is right without a restart, and nothing is told."""
    system = SystemClock()
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            machine.wall_offset_s += 0.4
            machine.passes(10)
            assert system.now() == pytest.approx(machine.wall_s())
    assert logs == []


def test_the_real_clock_is_the_time_of_day() -> None:
    """Without tricks it says what everybody says."""
    assert SystemClock().now() == pytest.approx(clock._wall_s(), abs=0.5)
