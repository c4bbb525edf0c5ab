"""A simulated Segmind: all three hosts on one address, steered while it runs at `/_sandbox/`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.responses import Response

from providers.contract import SimulatorTools
from providers.segmind.simulator import replies
from providers.segmind.simulator.pages import Pages
from providers.segmind.simulator.switches import SANDBOX_KEY, SegmindSwitches
from providers.segmind.simulator.vendor import Vendor

__all__ = ["SANDBOX_KEY", "SegmindSwitches", "Simulator", "Vendor", "build_simulator"]


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator: the application, and the vendor behind it for tests that look inside."""

    app: Starlette
    vendor: Vendor


def build_simulator(tools: SimulatorTools) -> Simulator:
    """A simulator with the given starting settings. Raises pydantic's ValidationError for unknown ones."""
    switches = SegmindSwitches.model_validate(dict(tools.settings))

    def error_page(status: int) -> Response:
        if status == 429:
            return replies.rate_limited((tools.clock.now() // 60 + 1) * 60, vendor.switches)
        return replies.error(status, "Internal server error")

    vendor = Vendor(tools, switches, error_page)
    return Simulator(Pages(vendor).app(), vendor)
