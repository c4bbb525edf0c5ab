"""One job while this process drives it: its rows as last written, and what need not outlive the process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from math import inf
from typing import Any

from gateway.jobs import AttemptState
from gateway.store.jobs import Attempt, Job, open_attempt

LOOK_INTERVAL_MAX_S = 60.0


@dataclass(slots=True)
class Run:
    """The working state of one job. `critical` is set while stopping would lose the outcome of a call.

    `cancel_wanted` stands apart from the job's row, so that a wish that comes in the middle of a write is not lost.
    `lease_until` is how long this process may act for it without asking the store again.
    `doubt_answered` says that a submit in doubt got an HTTP answer (502, 504) and not silence.
    """

    job: Job
    attempts: list[Attempt] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    stage: str = "queued"
    progress: float | None = None
    eta_s: float | None = None
    polls: int = 0
    looks: int = 0
    cancel_wanted: bool = False
    cancel_tried: bool = False
    doubt_answered: bool = False
    critical: bool = False
    lease_until: float = inf

    def next_look_s(self) -> float:
        """Seconds to wait before looking once more at what nobody can tell, doubling up to a minute."""
        self.looks += 1
        return min(LOOK_INTERVAL_MAX_S, 2.0 ** min(self.looks, 10))

    @property
    def open(self) -> Attempt | None:
        """The attempt under way, if any."""
        return open_attempt(self.attempts)

    @property
    def nothing_outstanding(self) -> bool:
        """Whether no vendor can be working for this job now."""
        attempt = self.open
        return attempt is None or (attempt.state is AttemptState.PREPARED and attempt.sent_at is None)

    def put(self, attempt: Attempt) -> None:
        """Take in an attempt as it was just written."""
        if self.attempts and self.attempts[-1].id == attempt.id:
            self.attempts[-1] = attempt
        else:
            self.attempts.append(attempt)

    def shown(self) -> dict[str, Any]:
        """The progress as a client sees it."""
        return {"stage": self.stage, "fraction": self.progress, "eta_s": self.eta_s}
