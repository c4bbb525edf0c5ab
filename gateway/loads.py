"""How busy machines of our own are: what they said last, less what is known here, so that nothing counts twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.values import InFlight
from providers.contract import Load
from providers.pace import mean_render_s
from providers.vocabulary import Scalar

LOAD_INTERVAL_S = 2.0
# What was said longer ago than this says nothing: the route is then taken for one slot, as far as known.
LOAD_TTL_S = 30.0


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines of one route as routing sees them: how many render at a time, what is at work, how many wait."""

    load: Load
    slots: int
    running: tuple[InFlight, ...]
    queued: int

    def render_s(self, values: Mapping[str, Scalar]) -> float | None:
        """Seconds of a machine that a render takes by what was measured, or None before anything was."""
        return mean_render_s(self.load.paces, values)


@dataclass(frozen=True, slots=True)
class _Seen:
    load: Load
    at: float
    elsewhere: int


@dataclass(slots=True)
class Loads:
    """What was said last of each route. `elsewhere` are renders there that this process did not send."""

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def note(self, loads: Mapping[str, Load], own: int, at: float) -> None:
        """Take in what a provider says, while so many attempts of this process are under way on it."""
        for route, load in loads.items():
            self._seen[route] = _Seen(load, at, max(0, load.running + load.waiting - own))

    def machines(self, route: str, own: Sequence[InFlight], now: float) -> Machines | None:
        """How a route stands with these attempts of this process on its machines; None where nobody says."""
        seen = self._seen.get(route)
        if seen is None or now - seen.at > LOAD_TTL_S:
            return None
        others = [InFlight(f"elsewhere-{number}", seen.at) for number in range(seen.elsewhere)]
        everything = [*own, *others]
        running = tuple(everything[: seen.load.slots])
        return Machines(seen.load, seen.load.slots, running, len(everything) - len(running))

    def said(self, now: float) -> Mapping[str, Load]:
        """Every load that still counts, by route."""
        return {route: seen.load for route, seen in self._seen.items() if now - seen.at <= LOAD_TTL_S}
