"""When to ask a submit-and-poll vendor for a render's state."""

from __future__ import annotations

from policies.settings import RoutingSettings
from policies.values import Observation


class PollSchedules:
    """Poll times for every route and size class."""

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings

    def observe(self, observation: Observation) -> None:
        """Take in one fact."""

    def next_delay_s(
        self, route: str, size_class: str, *, elapsed_s: float, eta_s: float | None, nominal_latency_s: float
    ) -> float:
        """Seconds until the next poll pays."""
        expected_s = eta_s if eta_s is not None else nominal_latency_s
        return max(0.6 * expected_s - elapsed_s, 1.0 + 0.05 * elapsed_s)
