"""The breaker of one route: closed, open for a while after failures, then one probe at a time."""

from __future__ import annotations

from policies.settings import RoutingSettings
from policies.values import BreakerState


class Breaker:
    """Opens after consecutive failures, doubles its pause with each failed probe, closes on the first success."""

    __slots__ = ("_failures", "_open_until", "_openings", "_probe_at", "_settings")

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._openings = 0
        self._open_until: float | None = None
        self._probe_at: float | None = None

    @property
    def closed(self) -> bool:
        """Whether calls may go as they come."""
        return self._open_until is None

    def state(self, now: float) -> BreakerState:
        """The state at `now`."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    def delay_s(self, now: float) -> float:
        """Seconds until a call may go: the rest of the pause, or of the wait for a probe that is out."""
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        if self._probe_at is not None and now < self._probe_at + self._settings.probe_timeout_s:
            return 3.0
        return 0.0

    def dispatched(self, at: float) -> None:
        """Take in a call that goes out; past the pause it is the probe."""
        if self.state(at) == "half_open":
            self._probe_at = at

    def succeeded(self) -> None:
        """Take in a success: the route is well."""
        self._failures = 0
        self._openings = 0
        self._open_until = None
        self._probe_at = None

    def failed(self, at: float, success_rate: float) -> None:
        """Take in a failure; opens when enough came in a row and the success odds are low."""
        settings = self._settings
        self._failures += 1
        self._probe_at = None
        if self._failures < settings.breaker_failures or success_rate >= settings.breaker_success_below:
            return
        pause_s = min(settings.breaker_open_max_s, settings.breaker_open_s * 2.0 ** min(self._openings, 10))
        self._open_until = max(self._open_until or at, at + pause_s)
        self._openings += 1

    def forgotten(self) -> None:
        """Take in that the probe ended without telling anything."""
        self._probe_at = None
