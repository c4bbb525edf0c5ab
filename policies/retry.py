"""What to do after a try that did not deliver: the rules that keep a retry from paying twice.

    refused   provably not accepted: repeat here, move to the next route, or stop
    in doubt  the submit may have been accepted: look for evidence, and repeat only where that is safe
    failed    accepted and failed by the vendor's word: the next route, or stop

Pure: the facts, the rules, a random source and the state of the retry budget go in, a decision comes out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from providers.capability import AmbiguousBilling
from providers.contract import FAULTS, FailureKind

Ambiguous = Literal["verify", "retry", "never"]
Evidence = Literal["not_looked", "not_accepted", "none"]

# Refusals that may pass by themselves: worth another try on the same route (DESIGN 6: 429, and what never left).
TRANSIENT = frozenset({FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE})
# A failed render of these kinds is the caller's to mend: another vendor is never asked instead.
FINAL = frozenset({FailureKind.INVALID_REQUEST, FailureKind.MODERATED})


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Limits of retrying. `base_s` and `cap_s` bound the backoff; `submits_max` counts the first submit too."""

    ambiguous: Ambiguous = "verify"
    submits_max: int = 3
    base_s: float = 0.5
    cap_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Situation:
    """Where an attempt stands. `slack_s` is how long may still be waited before the deadline is in danger.

    `answered` says that a submit in doubt got an HTTP error from the vendor, and not silence.
    """

    submits: int
    slack_s: float
    budget_allows: bool
    answered: bool = False


@dataclass(frozen=True, slots=True)
class RetryHere:
    """Submit again on the same route, after this long."""

    delay_s: float
    why: str


@dataclass(frozen=True, slots=True)
class NextRoute:
    """Give this route up for the job and ask for the next one; `budget_spent` says that a repeat was not to be had."""

    why: str
    budget_spent: bool = False


@dataclass(frozen=True, slots=True)
class LookForEvidence:
    """Ask the vendor's records whether the submit was accepted."""

    why: str


@dataclass(frozen=True, slots=True)
class StayInDoubt:
    """Neither repeat nor give up: keep the hold and keep looking until the published deadline."""

    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The job cannot succeed: tell the caller."""

    why: str


def after_refusal(
    kind: FailureKind, retry_after_s: float | None, situation: Situation, rules: RetryRules, random: Random
) -> RetryHere | NextRoute | Stop:
    """Decide after a submit that was provably not accepted."""
    if FAULTS[kind] == "caller":
        return Stop(f"{kind}: the request itself was refused")
    if kind not in TRANSIENT:
        return NextRoute(f"{kind}: this route is out until it recovers")
    return _again(f"{kind}", retry_after_s, situation, rules, random)


def after_doubt(
    evidence: Evidence, billing: AmbiguousBilling, situation: Situation, rules: RetryRules, random: Random
) -> RetryHere | NextRoute | LookForEvidence | StayInDoubt:
    """Decide after a submit whose outcome is unknown (502, 504, a reset or a timeout after bytes left)."""
    if evidence == "not_looked" and rules.ambiguous != "retry":
        return LookForEvidence("an unknown submit is looked up before anything is repeated")
    if rules.ambiguous == "never":
        if evidence == "not_accepted":
            return NextRoute("the vendor's records do not have it, and retry.ambiguous is never")
        return StayInDoubt("no evidence, and retry.ambiguous is never")
    if evidence == "not_accepted":
        return _again("the vendor's records do not have it", None, situation, rules, random)
    # Behind silence a render may go on and succeed, so "bills only successes" says nothing; an error that came does.
    may_bill = billing == "may_bill" or (billing == "success_only" and not situation.answered)
    if rules.ambiguous == "verify" and may_bill:
        return StayInDoubt("no evidence, and this vendor may bill a call whose reply was lost")
    reason = "repeated without evidence" if rules.ambiguous == "retry" else "the vendor bills only delivered results"
    return _again(reason, None, situation, rules, random)


def after_failure(kind: FailureKind) -> NextRoute | Stop:
    """Decide after an accepted render that failed."""
    if kind in FINAL:
        return Stop(f"{kind}: it is not shopped around to another vendor")
    return NextRoute(f"{kind}: the render failed for a reason of the vendor's")


def _again(
    why: str, retry_after_s: float | None, situation: Situation, rules: RetryRules, random: Random
) -> RetryHere | NextRoute:
    if situation.submits >= rules.submits_max:
        return NextRoute(f"{why}; {situation.submits} submits were made, the most allowed")
    if not situation.budget_allows:
        return NextRoute(f"{why}; the retry budget of this provider is used up", budget_spent=True)
    delay_s = backoff_s(situation.submits, rules, random)
    if retry_after_s is not None:
        delay_s += max(0.0, retry_after_s)
    if delay_s > situation.slack_s:
        return NextRoute(f"{why}; waiting {delay_s:.1f} s would miss the deadline")
    return RetryHere(delay_s, why)


def backoff_s(submits: int, rules: RetryRules, random: Random) -> float:
    """Full jitter: uniform between zero and the capped exponential, so that the spread survives the cap."""
    return random.uniform(0.0, min(rules.cap_s, rules.base_s * 2.0**submits))


@dataclass(slots=True)
class RetryBudget:
    """A provider's shared allowance of extra calls: a share of recent requests plus a small steady reserve.

    After finagle's RetryBudget: every first submit deposits `ratio`, deposits expire after `ttl_s`, and
    `reserve_per_s` times `ttl_s` retries are always allowed in a window of `ttl_s`.
    """

    ratio: float = 0.2
    reserve_per_s: float = 1.0
    ttl_s: float = 10.0
    _deposits: deque[float] = field(default_factory=deque)
    _withdrawals: deque[float] = field(default_factory=deque)

    def deposit(self, now: float) -> None:
        """Count one first submit."""
        self._expire(now)
        self._deposits.append(now)

    def withdraw(self, now: float) -> bool:
        """Take one retry out; False when none is left."""
        if not self.allows(now):
            return False
        self._withdrawals.append(now)
        return True

    def allows(self, now: float) -> bool:
        """Whether a retry could be taken out now."""
        self._expire(now)
        allowance = self.ratio * len(self._deposits) + self.reserve_per_s * self.ttl_s
        return len(self._withdrawals) + 1 <= allowance

    def _expire(self, now: float) -> None:
        for times in (self._deposits, self._withdrawals):
            ahead = 0
            while times and times[-1] > now:  # the clock was set back: what lies ahead of it is taken for new
                times.pop()
                ahead += 1
            times.extend([now] * ahead)
            while times and times[0] <= now - self.ttl_s:
                times.popleft()
