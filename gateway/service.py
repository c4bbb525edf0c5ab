"""The running service as the HTTP edge sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.dispatcher import Dispatcher
from gateway.keys import Caller
from gateway.overload import Overload
from gateway.parts import Parts
from gateway.people import IdentityProvider
from gateway.rechecks import Shared
from gateway.reload import Reloader
from gateway.telemetry.snapshot import Snapshot

# A thousand streams of one key cost as many looks at it as one does; with their own pause it is under a second.
LISTENER_GOOD_S = 0.3


@dataclass(frozen=True, slots=True)
class Service:
    """The parts, the dispatcher that drives jobs over them, what is told to a scraper, what may be under way at a time,
    what watches the configuration file, if any, the identity provider whose people may come, if any, and what became of
    the keys that hold streams open.
    """

    parts: Parts
    dispatcher: Dispatcher
    snapshot: Snapshot
    overload: Overload
    reloader: Reloader | None = None
    people: IdentityProvider | None = None
    listeners: Shared[Caller | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "listeners", Shared(self.parts.clock, LISTENER_GOOD_S))
