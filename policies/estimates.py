"""What has been learned about one route: how long a render takes, and how often it fails.

Both are small Bayesian filters that forget with time. They hold no clock: every call says when it happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, exp, log, sqrt

from policies.settings import RoutingSettings

SQRT_HALF = sqrt(0.5)
LN_2 = log(2.0)
Z_95 = 1.6448536269514722


def fading(age_s: float, half_life_s: float) -> float:
    """The weight that something of this age still has: one when new, half after each half-life."""
    return exp(-LN_2 * max(0.0, age_s) / half_life_s)


def normal_cdf(z: float) -> float:
    """The chance that a standard normal value is at most z."""
    return 0.5 + 0.5 * erf(z * SQRT_HALF)


@dataclass(slots=True)  # not frozen, as one is made for every route of every decision; nobody changes it
class LatencyLaw:
    """A prediction of one render's time: log-normal, and with chance `tail_share` at `tail_s` instead."""

    mu: float
    sigma: float
    tail_share: float
    tail_s: float

    @property
    def p50_s(self) -> float:
        """The median, in seconds."""
        return exp(self.mu)

    @property
    def p95_s(self) -> float:
        """The 95th percentile of the body, in seconds."""
        return exp(self.mu + Z_95 * self.sigma)

    @property
    def mean_s(self) -> float:
        """The mean, in seconds."""
        body = exp(self.mu + 0.5 * self.sigma * self.sigma)
        return (1.0 - self.tail_share) * body + self.tail_share * self.tail_s

    def chance_within(self, seconds: float) -> float:
        """The chance that the render has finished after `seconds`."""
        if seconds <= 0.0:
            return 0.0
        body = 0.5 + 0.5 * erf((log(seconds) - self.mu) / self.sigma * SQRT_HALF)
        tail = self.tail_share if seconds >= self.tail_s else 0.0
        return (1.0 - self.tail_share) * body + tail

    def quantile_s(self, z: float) -> float:
        """The time at z standard deviations of the body, in seconds."""
        return exp(self.mu + z * self.sigma)


class LatencyEstimate:
    """The level of ln(seconds) of one route and size class: a mean, and a variance that widens while unseen."""

    __slots__ = (
        "_eta_bias",
        "_eta_count",
        "_eta_variance",
        "_fade_per_s",
        "_home",
        "_level",
        "_level_variance",
        "_noise_variance",
        "_prior_variance",
        "_seen_at",
        "_settings",
        "count",
    )

    def __init__(self, settings: RoutingSettings, nominal_s: float) -> None:
        self._settings = settings
        self._home = log(max(nominal_s, 0.5))
        self._level = self._home
        self._prior_variance = self._level_variance = settings.latency_level_sigma**2
        self._fade_per_s = -LN_2 / settings.latency_half_life_s
        self._noise_variance = settings.latency_noise_sigma**2
        self._seen_at: float | None = None
        self._eta_bias = 0.0
        self._eta_variance = settings.eta_noise_sigma**2
        self._eta_count = 0.0
        self.count = 0.0

    def _at(self, now: float) -> tuple[float, float]:
        """The level and its variance at `now`: drawn back to home and widened by the time nothing was seen."""
        if self._seen_at is None or now <= self._seen_at:
            return self._level, self._level_variance
        kept = exp(self._fade_per_s * (now - self._seen_at))
        prior, home = self._prior_variance, self._home
        return home + (self._level - home) * kept, prior + (self._level_variance - prior) * kept * kept

    def expect(self, nominal_s: float) -> None:
        """Take another prior while nothing was seen: our own machines know their pace before any render ends here."""
        if self._seen_at is None:
            self._home = self._level = log(max(nominal_s, 0.5))

    def learn(self, elapsed_s: float, at: float) -> None:
        """Take in one finished render of `elapsed_s` seconds."""
        settings = self._settings
        value = log(max(elapsed_s, 0.1))
        level, variance = self._at(at)
        total = variance + self._noise_variance
        limit = settings.latency_clip_sigmas * sqrt(total)
        surprise = min(max(value - level, -limit), limit)
        self._correct(level, variance, surprise, self._noise_variance, at)
        self._home += settings.latency_home_share * surprise
        weight = 1.0 / (settings.latency_noise_weight + min(self.count, 1.0 / (1.0 - settings.latency_memory)))
        residual = surprise * surprise - variance
        floor = 0.05**2
        self._noise_variance = max(floor, self._noise_variance + weight * (residual - self._noise_variance))
        self.count = self.count * settings.latency_memory + 1.0

    def learn_eta(self, eta_s: float, at: float) -> None:
        """Take in a vendor's own estimate of a render that starts now, corrected by how wrong it used to be."""
        level, variance = self._at(at)
        surprise = log(max(eta_s, 0.1)) + self._eta_bias - level
        self._correct(level, variance, surprise, self._eta_variance, at)

    def check_eta(self, eta_s: float, elapsed_s: float) -> None:
        """Compare a vendor's estimate with what the render took."""
        error = log(max(elapsed_s, 0.1) / max(eta_s, 0.1))
        weight = 1.0 / (4.0 + min(self._eta_count, 16.0))
        deviation = error - self._eta_bias
        self._eta_bias += weight * deviation
        self._eta_variance = max(0.1**2, self._eta_variance + weight * (deviation * deviation - self._eta_variance))
        self._eta_count += 1.0

    def _correct(self, level: float, variance: float, surprise: float, noise_variance: float, at: float) -> None:
        gain = variance / (variance + noise_variance)
        self._level = level + gain * surprise
        self._level_variance = variance * (1.0 - gain)
        self._seen_at = at if self._seen_at is None else max(at, self._seen_at)

    def law(self, now: float, ages_s: Sequence[float] = ()) -> LatencyLaw:
        """Predict a render that starts now; `ages_s` of unfinished ones are evidence of slowness when high."""
        if self._seen_at is not None and now < self._seen_at:
            self._seen_at = now  # the clock was set back: what was learned ages from here on
        level, variance = self._at(now)
        sigma, median_s = sqrt(self._noise_variance + variance), exp(level)
        if ages_s:
            level, variance = self._slowed(level, variance, ages_s, exp(level + 0.8 * sigma))
            sigma = sqrt(self._noise_variance + variance)
            median_s = exp(level)
        settings = self._settings
        return LatencyLaw(level, sigma, settings.tail_share, settings.tail_factor * median_s)

    def _slowed(
        self, level: float, variance: float, ages_s: Sequence[float], threshold_s: float
    ) -> tuple[float, float]:
        """The level and its variance when each unfinished render past the threshold counts as one that took longer."""
        for age_s in ages_s:
            if age_s > threshold_s:
                surprise = log(age_s) + 0.15 - level
                gain = variance / (variance + self._noise_variance)
                level, variance = level + gain * surprise, variance * (1.0 - gain)
        return level, variance


@dataclass(frozen=True, slots=True)
class FailureShape:
    """When failures show: soon, or only after a long silence. Vendors have both, and their mean describes neither."""

    slow_share: float
    fast_s: float
    slow_s: float

    def learned(self, elapsed_s: float, *, slow: bool) -> FailureShape:
        """The shape after one more failure."""
        slow_share = self.slow_share + 0.15 * ((1.0 if slow else 0.0) - self.slow_share)
        if slow:
            return FailureShape(slow_share, self.fast_s, self.slow_s + 0.3 * (min(elapsed_s, 120.0) - self.slow_s))
        return FailureShape(slow_share, self.fast_s + 0.3 * (elapsed_s - self.fast_s), self.slow_s)

    @property
    def mean_s(self) -> float:
        """The mean time until a failure shows."""
        return self.fast_s + self.slow_share * (self.slow_s - self.fast_s)

    def unseen(self, age_s: float) -> float:
        """The share of failures that have not shown at this age."""
        if age_s <= self.slow_s:
            return self.slow_share + (1.0 - self.slow_share) * exp(-age_s / max(0.5, self.fast_s))
        return self.slow_share * exp(-3.0 * (age_s - self.slow_s) / self.slow_s)


class OutcomeEstimate:
    """The success odds of one route from decayed counts, with how long failures take to show and what they bill."""

    __slots__ = (
        "_at",
        "_fade_per_s",
        "_failed",
        "_prior",
        "_prior_good",
        "_settings",
        "_succeeded",
        "billed_share",
        "shape",
        "stuck_share",
    )

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._succeeded = 0.0
        self._failed = 0.0
        self._at = 0.0
        self._fade_per_s = -LN_2 / settings.failure_half_life_s
        self._prior = settings.failure_prior_weight
        self._prior_good = settings.failure_prior_weight * (1.0 - settings.failure_prior)
        self.shape = FailureShape(
            settings.slow_failure_share, settings.fast_failure_delay_s, settings.slow_failure_delay_s
        )
        self.billed_share = 0.02
        self.stuck_share = settings.stuck_share

    def learn(self, succeeded: bool, at: float, *, weight: float = 1.0) -> None:
        """Take in one outcome; `weight` below one is hearsay from a sibling route."""
        settings = self._settings
        kept = fading(at - self._at, settings.failure_half_life_s)
        kept *= 1.0 - (1.0 - settings.failure_memory) * weight
        self._succeeded = self._succeeded * kept + (weight if succeeded else 0.0)
        self._failed = self._failed * kept + (0.0 if succeeded else weight)
        self._at = max(at, self._at)

    def learn_failure_shape(self, elapsed_s: float, billed_share: float) -> None:
        """Take in how long a failure took to show and which share of the price it billed."""
        self.shape = self.shape.learned(elapsed_s, slow=elapsed_s > self._settings.slow_failure_s)
        self.billed_share += 0.2 * (min(1.0, billed_share) - self.billed_share)

    def success_rate(self, now: float, overdue: int = 0) -> float:
        """The chance that a render started now ends in a video; each overdue one in flight counts as half a failure."""
        self._at = min(self._at, now)  # after a clock was set back, what was learned ages from here on
        kept = exp(self._fade_per_s * (now - self._at))
        good = self._succeeded * kept
        return (good + self._prior_good) / (good + self._failed * kept + self._prior + 0.5 * overdue)

    def count(self, now: float) -> float:
        """The decayed number of finished attempts behind the estimate."""
        kept = fading(now - self._at, self._settings.failure_half_life_s)
        return (self._succeeded + self._failed) * kept
