"""The rate guard of one account: vendor hints are obeyed, configured limits kept, and hidden ones learned."""

from __future__ import annotations

from collections import deque

from policies.settings import RoutingSettings
from policies.waits import Waits

MINUTE_S = 60.0


class RateGuard:
    """When the next call of an account may go.

    A 429 with a hint stops the account until the hint is over. Without one it backs off, growing with each further 429.
    Both leave a learned spacing between calls, which shrinks again while calls are accepted.
    """

    __slots__ = ("_called_at", "_calls", "_gap_s", "_refusals", "_settings", "_waits")

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._gap_s = 0.0
        self._refusals = 0
        self._waits = Waits()
        self._calls: deque[float] = deque(maxlen=600)
        self._called_at = 0.0

    @property
    def gap_s(self) -> float:
        """The learned spacing between calls; zero when no limit is known."""
        return self._gap_s

    def delay_s(self, now: float, requests_per_minute: int | None = None) -> float:
        """Seconds until the next call may go, by what was learned and by the configured limit."""
        delay_s = self._waits.left_s(now)
        if requests_per_minute and len(self._calls) >= requests_per_minute:
            self._set_back(now)
            delay_s = max(delay_s, self._calls[-requests_per_minute] + MINUTE_S - now)
        return delay_s

    def dispatched(self, at: float) -> None:
        """Take in a call that goes out."""
        self._calls.append(at)
        self._called_at = max(self._called_at, at)
        if self._gap_s > 0.0:
            self._waits.ask(at, self._gap_s)

    def accepted(self) -> None:
        """Take in a call that the vendor did not refuse for its rate."""
        self._refusals = 0
        self._gap_s *= 0.85
        if self._gap_s < 0.7:
            self._gap_s = 0.0

    def refused(self, at: float, retry_after_s: float | None) -> None:
        """Take in a 429."""
        settings = self._settings
        backoff_s = settings.rate_backoff_s * settings.rate_backoff_factor**self._refusals
        wait_s = retry_after_s if retry_after_s is not None else min(backoff_s, settings.rate_backoff_max_s)
        self._refusals = min(self._refusals + 1, 20)
        self._gap_s = min(settings.rate_gap_max_s, max(self._gap_s * 1.4, min(wait_s, 20.0), 2.0))
        self._waits.ask(at, wait_s)

    def _set_back(self, now: float) -> None:
        """Take calls that lie ahead of a clock which was set back for calls of now."""
        if self._called_at > now:
            self._calls = deque(sorted(min(at, now) for at in self._calls), self._calls.maxlen)
            self._called_at = now
