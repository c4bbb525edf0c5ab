"""The running service as the HTTP edge sees it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.dispatcher import Dispatcher
from gateway.parts import Parts


@dataclass(frozen=True, slots=True)
class Service:
    """The parts and the dispatcher that drives jobs over them."""

    parts: Parts
    dispatcher: Dispatcher
