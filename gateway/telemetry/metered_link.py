"""A connection to Redis that is timed: the same protocol, each command by its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:  # its module needs the driver, which one replica does without
    from gateway.bus.links import Link


class MeteredLink:
    """Wraps a link. What is told of are the few commands that the bus itself sends."""

    def __init__(self, link: Link, metrics: Metrics) -> None:
        self._link = link
        self._metrics = metrics
        self.hear, self.reset, self.close = link.hear, link.reset, link.close

    async def execute(self, *command: Any) -> Any:
        """Send a command and return its reply. Raises what the link raises, and the caller's own timeout."""
        name = str(command[0]).lower()
        with self._metrics.timed("vidgate_bus_seconds", command=name):
            try:
                return await self._link.execute(*command)
            except BaseException:  # a caller that gives up cancels the command: Redis did not carry it out in time
                self._metrics.count("vidgate_bus_errors", command=name)
                raise
