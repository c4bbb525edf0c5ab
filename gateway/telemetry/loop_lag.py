"""How late the event loop wakes: the first sign that a replica has too much to do."""

from __future__ import annotations

from collections.abc import Callable

from gateway.clock import Clock, stopwatch_s
from gateway.telemetry.metrics import Metrics

INTERVAL_S = 0.25


async def watch_loop(metrics: Metrics, clock: Clock, lagged: Callable[[float], None]) -> None:
    """Sleep, see how much longer it took and tell it, until canceled."""
    while True:
        due_s = stopwatch_s() + INTERVAL_S
        await clock.sleep(INTERVAL_S)
        lag_s = max(0.0, stopwatch_s() - due_s)
        lagged(lag_s)
        metrics.observe("vidgate_event_loop_lag_seconds", lag_s)
