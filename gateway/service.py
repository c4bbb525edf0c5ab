"""The running service as the HTTP edge sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.dispatcher import Dispatcher
from gateway.holds import Holds
from gateway.overload import Overload
from gateway.parts import Parts
from gateway.people import IdentityProvider
from gateway.reload import Reloader
from gateway.telemetry.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Service:
    """The parts, the dispatcher that drives jobs over them, what is told to a scraper, what may be under way at a time,
    what watches the configuration file, if any, the identity provider whose people may come, if any, and what keys hold
    open.
    """

    parts: Parts
    dispatcher: Dispatcher
    snapshot: Snapshot
    overload: Overload
    reloader: Reloader | None = None
    people: IdentityProvider | None = None
    holds: Holds = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "holds", Holds(self.parts.store, self.parts.clock))
