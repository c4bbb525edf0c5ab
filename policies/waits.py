"""How long something is to be left alone, bounded by what was meant whatever the clock does."""

from __future__ import annotations


class Waits:
    """Waits that were asked for; the one that is over last counts.

    After a clock was set back, waits have begun ahead of it. They begin anew when that is seen: none lasts longer from
    then on than it was meant to, and none is over early.
    """

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: list[tuple[float, float]] = []  # from when, for how long

    def ask(self, at: float, seconds: float) -> None:
        """Wait for so long from then on; what is asked for later never makes it shorter."""
        self._waits = [one for one in self._waits if one[0] > at or one[0] + one[1] > at + seconds]
        self._waits.append((at, seconds))

    def forget(self) -> None:
        """Wait for nothing any more."""
        self._waits = []

    def over(self, at: float) -> bool:
        """Whether nothing has to be waited for any more at a time that may be a little past."""
        return all(begun + seconds <= at for begun, seconds in self._waits)

    def left_s(self, now: float) -> float:
        """Seconds that are left now, never more than were asked for."""
        if not self._waits:
            return 0.0
        begun = [(min(at, now), seconds) for at, seconds in self._waits]
        self._waits = [(at, seconds) for at, seconds in begun if at + seconds > now]
        return max([at + seconds - now for at, seconds in self._waits], default=0.0)
