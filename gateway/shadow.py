"""A second router beside the live one: fed the same facts, asked the same questions, never obeyed.

It shows what another objective or tuning would do with real traffic before anyone relies on it. Whatever goes wrong
in here is counted and said once, and never reaches the decision that is acted on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import structlog

from gateway.settings_routing import RoutingSection
from policies.router import Router
from policies.values import Candidate, JobFacts, Objective, Observation, Ranking, Weights

log = structlog.get_logger()

# What a fault in arithmetic over plain values can raise. A policy does no I/O, so nothing else can come out of it.
OUR_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the shadow would have done: its first choice with its score, and whether the live router did the same.

    `route` is None where the shadow would have waited, or had nothing to choose.
    """

    objective: Objective
    route: str | None
    score: float | None
    agrees: bool


@dataclass(slots=True)
class Shadow:
    """A router that gives opinions. `counts` has `agreed`, `differed` and `failed`."""

    router: Router
    objective: Objective | None = None
    weights: Weights | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def observe(self, observation: Observation) -> None:
        """Take in one fact, as the live router does."""
        try:
            self.router.observe(observation)
        except OUR_FAULTS as error:
            self._failed("observe", error)

    def opinion(self, facts: JobFacts, candidates: Sequence[Candidate], live: Ranking, now: float) -> Opinion | None:
        """What the shadow would do with a job that the live router has just decided; None when it failed."""
        asked = replace(facts, objective=self.objective or facts.objective, weights=self.weights or facts.weights)
        try:
            ranking = self.router.rank(asked, candidates, now)
        except OUR_FAULTS as error:
            self._failed("rank", error)
            return None
        mine, theirs = _first(ranking), _first(live)
        agrees = mine == theirs
        self.counts["agreed" if agrees else "differed"] += 1
        score = ranking.ranked[0].score if mine is not None else None
        return Opinion(asked.objective, mine, score, agrees)

    def _failed(self, what: str, error: Exception) -> None:
        if not self.counts["failed"]:
            log.warning("shadow.failed", what=what, error=f"{type(error).__name__}: {error}")
        self.counts["failed"] += 1


def _first(ranking: Ranking) -> str | None:
    return ranking.ranked[0].route if ranking.ranked and ranking.wait_s is None else None


def make_routers(section: RoutingSection, random: Random) -> tuple[Router, Shadow | None]:
    """The live router of a configuration, and the shadow beside it where one is configured; both know nothing yet."""
    live = Router(section.tuning, Random(random.getrandbits(64)))
    wanted = section.shadow
    if wanted is None:
        return live, None
    weights = Weights(wanted.weights.cost, wanted.weights.time, wanted.weights.failure) if wanted.weights else None
    return live, Shadow(Router(wanted.tuning, Random(random.getrandbits(64))), wanted.objective, weights)
