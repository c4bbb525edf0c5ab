"""How long renders take here, learned from those that finished: what Retry-After, `eta_s` and the status tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers.local_gpu.worker.orders import Order

# The newest render counts for a third: a card that slows down is known after three.
WEIGHT = 1 / 3
# Said while nothing has been measured yet.
UNMEASURED_S = 30.0


@dataclass(slots=True)
class Durations:
    """What was learned of one model: a step as last seen, a step per unit of work, and what is not steps."""

    per_step_s: float | None = None
    per_step_and_work_s: float | None = None
    fixed_s: float | None = None


@dataclass(slots=True)
class Pace:
    """Learns from finished renders and says how long others will take."""

    models: dict[str, Durations] = field(default_factory=dict)

    def learn(self, order: Order, *, stepping_s: float, fixed_s: float) -> None:
        """Take in a finished render: the seconds of all its steps, and those before and after them."""
        known = self.models.setdefault(order.model, Durations())
        per_step = stepping_s / order.steps
        known.per_step_s = _moved(known.per_step_s, per_step)
        known.per_step_and_work_s = _moved(known.per_step_and_work_s, per_step / order.work)
        known.fixed_s = _moved(known.fixed_s, fixed_s)

    def left_s(self, order: Order, step: int = 0) -> float | None:
        """Seconds from this step to the end, None while nothing was learned of the model."""
        known = self.models.get(order.model)
        if known is None or known.per_step_and_work_s is None or known.fixed_s is None:
            return None
        return (order.steps - step) * known.per_step_and_work_s * order.work + known.fixed_s


def _moved(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)
