"""The running service as the HTTP edge sees it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.dispatcher import Dispatcher
from gateway.parts import Parts
from gateway.reload import Reloader


@dataclass(frozen=True, slots=True)
class Service:
    """The parts, the dispatcher that drives jobs over them, and what watches the configuration file, if any."""

    parts: Parts
    dispatcher: Dispatcher
    reloader: Reloader | None = None
