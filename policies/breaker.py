"""The breaker of one route: closed, open for a while after failures, then one probe at a time."""

from __future__ import annotations

from policies.settings import RoutingSettings
from policies.values import BreakerState
from policies.waits import Waits

PROBE_LOOK_S = 3.0  # how often it is looked whether a probe that is out has told


class Breaker:
    """Opens after consecutive failures, doubles its pause with each failed probe, closes on the first success."""

    __slots__ = ("_failures", "_openings", "_pause", "_probe", "_settings")

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._openings = 0
        self._pause = Waits()
        self._probe = Waits()

    @property
    def closed(self) -> bool:
        """Whether calls may go as they come."""
        return self._openings == 0

    def state(self, now: float) -> BreakerState:
        """The state at `now`."""
        if self.closed:
            return "closed"
        return "open" if self._pause.left_s(now) > 0.0 else "half_open"

    def delay_s(self, now: float) -> float:
        """Seconds until a call may go: the rest of the pause, or of the wait for a probe that is out."""
        if self.closed:
            return 0.0
        pause_s, probe_s = self._pause.left_s(now), self._probe.left_s(now)
        return pause_s or (PROBE_LOOK_S if probe_s > 0.0 else 0.0)

    def dispatched(self, at: float) -> None:
        """Take in a call that goes out; past the pause it is the probe."""
        if not self.closed and self._pause.over(at):
            self._pause.forget()
            self._probe.forget()
            self._probe.ask(at, self._settings.probe_timeout_s)

    def succeeded(self) -> None:
        """Take in a success: the route is well."""
        self._failures = 0
        self._openings = 0
        self._pause.forget()
        self._probe.forget()

    def failed(self, at: float, success_rate: float) -> None:
        """Take in a failure; opens when enough came in a row and the success odds are low."""
        settings = self._settings
        self._failures += 1
        self._probe.forget()
        if self._failures < settings.breaker_failures or success_rate >= settings.breaker_success_below:
            return
        pause_s = min(settings.breaker_open_max_s, settings.breaker_open_s * 2.0 ** min(self._openings, 10))
        self._pause.ask(at, pause_s)
        self._openings += 1

    def forgotten(self) -> None:
        """Take in that the probe ended without telling anything."""
        self._probe.forget()
