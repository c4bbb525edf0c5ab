"""How late the event loop wakes: the first sign that a replica has too much to do."""

from __future__ import annotations

from gateway.clock import Clock, stopwatch_s
from gateway.telemetry.metrics import Metrics

INTERVAL_S = 0.25


async def watch_loop(metrics: Metrics, clock: Clock) -> None:
    """Sleep and see how much longer it took, until canceled."""
    while True:
        due_s = stopwatch_s() + INTERVAL_S
        await clock.sleep(INTERVAL_S)
        metrics.observe("vidgate_event_loop_lag_seconds", max(0.0, stopwatch_s() - due_s))
