"""How long renders take here, learned from those that finished: what Retry-After, `eta_s` and the status tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers import pace
from providers.local_gpu.worker.orders import Order
from providers.pace import Measured, Shape

# The newest render counts for a third: a card that slows down is known after three.
WEIGHT = 1 / 3
# Said while nothing has been measured yet.
UNMEASURED_S = 30.0
# Of more shapes than these the one that was rendered longest ago is forgotten.
SHAPES_MAX = 32


@dataclass(slots=True)
class Pace:
    """Learns each shape of render by itself, and says how long others will take."""

    _models: dict[str, dict[Shape, Measured]] = field(default_factory=dict)

    def learn(self, order: Order, *, stepping_s: float, fixed_s: float) -> None:
        """Take in a finished render: the seconds of all its steps, and those before and after them."""
        known = self._models.setdefault(order.model, {})
        step_s = stepping_s / order.steps
        old = known.pop(order.shape, Measured(step_s, fixed_s))
        known[order.shape] = Measured(_moved(old.step_s, step_s), _moved(old.fixed_s, fixed_s), order.shape)
        while len(known) > SHAPES_MAX:
            del known[next(iter(known))]

    def of(self, model: str) -> pace.Pace:
        """What was measured of a model, the newest first."""
        return tuple(reversed(self._models.get(model, {}).values()))

    def left_s(self, order: Order, step: int = 0) -> float | None:
        """Seconds from this step to the end, None while nothing was learned of the model."""
        known = pace.expected(self.of(order.model), order.shape)
        return None if known is None else (order.steps - step) * known.step_s + known.fixed_s


def _moved(old: float, new: float) -> float:
    return old + WEIGHT * (new - old)
