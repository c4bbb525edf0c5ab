"""What the retry rules say of an attempt as it stands: the facts for `policies/retry.py`, gathered from the parts.

A repeat that is allowed is taken out of the provider's retry budget in the same breath: nothing is awaited here.
"""

from __future__ import annotations

from gateway.parts import Parts
from gateway.runs import Run
from gateway.store.jobs import Attempt
from policies import retry
from policies.retry import LookForEvidence, NextRoute, RetryHere, StayInDoubt, Stop
from providers.contract import Refused


class Retrying:
    """Decides; what follows from it is the engine's to do."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def after_refusal(self, run: Run, attempt: Attempt, refused: Refused) -> RetryHere | NextRoute | Stop:
        """After a submit that was provably not accepted."""
        situation = self._parts.fleet.situation(attempt, run.job.deadline_at)
        rules = self._parts.settings.retry.rules
        decision = retry.after_refusal(refused.kind, refused.retry_after_s, situation, rules, self._parts.random)
        self._take(attempt, decision)
        return decision

    def after_doubt(
        self, run: Run, attempt: Attempt, found: retry.Evidence
    ) -> RetryHere | NextRoute | LookForEvidence | StayInDoubt:
        """After a submit whose outcome is not known, with what was found out about it."""
        if attempt.route not in self._parts.fleet.routes:
            return NextRoute("the configuration no longer has this route")
        billing, rules = self._parts.fleet.routes[attempt.route].ambiguous_billing, self._parts.settings.retry.rules
        situation = self._parts.fleet.situation(attempt, run.job.deadline_at, answered=run.doubt_answered)
        decision = retry.after_doubt(found, billing, situation, rules, self._parts.random)
        self._take(attempt, decision)
        return decision

    def _take(self, attempt: Attempt, decision: object) -> None:
        if isinstance(decision, RetryHere):
            self._parts.fleet.withdraw(attempt.route)
