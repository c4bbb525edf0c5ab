"""Every constant of the routing policy, named, with its unit and the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """The constants of routing. The defaults suit renders of ten seconds to a few minutes."""

    # Latency: ln(time to finished video) is a level that wanders around a slowly learned home, plus noise.
    latency_level_sigma: float = 0.35  # how far a route's level wanders from home, in ln seconds
    latency_half_life_s: float = 1800.0  # after this long unseen, half of what was learned about the level is gone
    latency_home_share: float = 0.03  # how much of each new surprise moves the home itself
    latency_noise_sigma: float = 0.30  # spread of single renders before any were seen
    latency_noise_weight: float = 6.0  # how many renders that prior spread is worth
    latency_memory: float = 0.95  # weight of old spread samples per new one
    latency_clip_sigmas: float = 2.5  # one render may surprise by at most this much
    tail_share: float = 0.02  # share of renders that are far slower than the rest
    tail_factor: float = 2.5  # how many times the median those take
    eta_noise_sigma: float = 0.45  # error of a vendor's own estimate before any could be checked, in ln seconds

    # Outcomes: decayed counts of successes and failures, with a prior.
    failure_prior: float = 0.03  # failure odds of a route never seen
    failure_prior_weight: float = 4.0  # how many attempts that prior is worth
    failure_half_life_s: float = 240.0  # age at which an outcome counts half
    failure_memory: float = 0.88  # weight of old outcomes per new one
    failure_sibling_share: float = 0.4  # share of a failure that also counts against other routes of the account
    slow_failure_s: float = 15.0  # a failure that takes longer than this to show is a slow one
    slow_failure_share: float = 0.25  # share of slow failures before any was seen
    fast_failure_delay_s: float = 2.0  # time until each kind shows, before any was seen
    slow_failure_delay_s: float = 40.0
    stuck_share: float = 0.004  # share of accepted renders that never finish

    # Breaker: closed, open for a while, then one probe.
    breaker_failures: int = 3  # consecutive failures that open it ...
    breaker_success_below: float = 0.6  # ... when the success odds are below this too
    breaker_open_s: float = 8.0  # first pause; doubles with each failed probe
    breaker_open_max_s: float = 60.0
    probe_success: float = 0.3  # success odds that a probe is counted with
    probe_timeout_s: float = 90.0  # after this long without an outcome another probe may go

    # Rates and refusals of an account.
    rate_backoff_s: float = 4.0  # pause after a 429 without a hint; grows with each further one
    rate_backoff_factor: float = 1.7
    rate_backoff_max_s: float = 30.0
    rate_gap_max_s: float = 45.0  # largest learned spacing between calls
    no_credit_pause_s: float = 30.0  # how long an account is out after it said that it is empty
    unauthorized_pause_s: float = 60.0

    # Credit.
    credit_floor_micros: int = 0  # never go below this balance
    credit_reserve: float = 0.02  # share of the price kept as a reserve against a changed price
    credit_runway_s: float = 1500.0  # below this runway an account's money costs more than its face value
    credit_scarcity: float = 1.2  # how much more at runway zero: price x (1 + this)
    credit_half_life_s: float = 600.0  # memory of the burn rate

    # Waiting for a local slot or for a call allowance.
    wait_sigma_share: float = 0.3  # spread of an estimated wait, as a share of it
    hold_tick_s: float = 4.0  # how often a held job is looked at again
    bind_ahead_s: float = 8.0  # hand a job to the local queue this long before a slot comes free
    slot_rent: float = 1.0  # price of a slot while jobs queue for it, as a share of the usual gain of having one
    held_per_slot: float = 4.0  # jobs held for each slot at which the whole rent is due
    wait_cost_share: float = 0.1  # waiting is free until the other routes cost this share of the gain more
    gain_head_start: float = 3.0  # renders' time that a job with e times the usual gain goes ahead of its turn

    # Second attempts.
    hedge_gain: float = 0.95  # a second attempt must bring the expected cost below this share of staying
    review_tick_s: float = 6.0  # how often an attempt past its time is looked at again
    wait_max_s: float = 10.0  # longest wait between two looks at a job that has nothing in flight
    start_slack_s: float = 0.3  # delays up to this are no delays
    flights_weighed: int = 200  # renders in flight, oldest first, that are weighed as evidence of slowness
    shortlist: int = 4  # routes that are weighed for what can be done later

    # Polling.
    poll_cost_s: float = 1.0  # one status call is worth this many seconds of lag
    poll_window: int = 60  # finished renders that a schedule is learned from
    poll_memory: float = 0.97  # weight of an older render per newer one
    poll_prior_sigma: float = 0.5  # spread of ln(age) before any render was seen
    poll_straggler_share: float = 0.015  # share of renders that straggle long after the others
    poll_first_level: float = 1.2  # how much expected work passes before the first poll
    poll_grid: int = 96  # points of a learned law
    poll_gap_min_s: float = 0.5  # never more often than this
    poll_gap_max_s: float = 20.0  # nor, once renders may be done, more seldom than this
