"""What the router remembers of each route and account, and how every observation changes it."""

from __future__ import annotations

from policies.breaker import Breaker
from policies.credit import Burn
from policies.estimates import LatencyEstimate, OutcomeEstimate
from policies.rates import RateGuard
from policies.settings import RoutingSettings
from policies.values import Observation
from policies.waits import Waits

# A failure of these kinds is the caller's or the content's: it says nothing against the route.
BLAMELESS = frozenset({"moderated", "invalid_request"})
ACCOUNT_PAUSES = frozenset({"no_credit", "unauthorized"})


class AccountMemory:
    """One vendor account: its rate, its burn, and how long it is out."""

    __slots__ = ("burn", "pause", "paused_for", "rate")

    def __init__(self, settings: RoutingSettings) -> None:
        self.rate = RateGuard(settings)
        self.burn = Burn(settings.credit_half_life_s)
        self.pause = Waits()
        self.paused_for = ""


class RouteMemory:
    """One route: its outcomes, its breaker, and its latency for each size class."""

    __slots__ = ("_latencies", "_settings", "account", "breaker", "local", "outcome")

    def __init__(self, settings: RoutingSettings, account: str) -> None:
        self._settings = settings
        self._latencies: dict[str, LatencyEstimate] = {}
        self.account = account
        self.local = False
        self.outcome = OutcomeEstimate(settings)
        self.breaker = Breaker(settings)

    def latency(self, size_class: str, nominal_s: float) -> LatencyEstimate:
        """The estimate of one size class; `nominal_s` is its prior when nothing was seen yet."""
        estimate = self._latencies.get(size_class)
        if estimate is None:
            estimate = self._latencies[size_class] = LatencyEstimate(self._settings, nominal_s)
        return estimate

    def known_latency(self, size_class: str) -> LatencyEstimate | None:
        """The estimate of one size class, if any."""
        return self._latencies.get(size_class)

    @property
    def size_classes(self) -> tuple[str, ...]:
        """The size classes seen so far, oldest first."""
        return tuple(self._latencies)


class Memory:
    """All routes and accounts, fed by observations alone."""

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._routes: dict[str, RouteMemory] = {}
        self._accounts: dict[str, AccountMemory] = {}
        self._started: dict[str, float] = {}
        self._etas: dict[str, float] = {}

    def route(self, route: str, account: str) -> RouteMemory:
        """The memory of one route, made when first asked for."""
        memory = self._routes.get(route)
        if memory is None:
            memory = self._routes[route] = RouteMemory(self._settings, account)
        return memory

    def known_route(self, route: str) -> RouteMemory | None:
        """The memory of one route, if any."""
        return self._routes.get(route)

    def account(self, account: str) -> AccountMemory:
        """The memory of one account, made when first asked for."""
        memory = self._accounts.get(account)
        if memory is None:
            memory = self._accounts[account] = AccountMemory(self._settings)
        return memory

    def started_at(self, attempt: str, otherwise: float) -> float:
        """When an attempt's render started, if that was seen."""
        return self._started.get(attempt, otherwise)

    def observe(self, seen: Observation) -> None:
        """Take in one fact."""
        route, account = self.route(seen.route, seen.account), self.account(seen.account)
        if seen.billed_micros:
            account.burn.spend(seen.billed_micros, seen.at)
        if seen.kind == "dispatched":
            account.rate.dispatched(seen.at)
            route.breaker.dispatched(seen.at)
        elif seen.kind in {"accepted", "eta"}:
            self._promised(route, account, seen)
        elif seen.kind == "started":
            self._started[seen.attempt] = seen.at
        elif seen.kind == "succeeded":
            self._succeeded(route, account, seen)
        elif seen.kind == "failed":
            self._failed(route, account, seen)
        elif seen.kind in {"abandoned", "canceled"}:
            route.breaker.forgotten()
        elif seen.balance_micros and account.paused_for == "no_credit":
            account.pause.forget()
        if seen.kind in {"succeeded", "failed", "abandoned", "canceled"}:
            self._started.pop(seen.attempt, None)
            self._etas.pop(seen.attempt, None)

    def _promised(self, route: RouteMemory, account: AccountMemory, seen: Observation) -> None:
        account.rate.accepted()
        if seen.eta_s is None or route.local:
            return
        estimate = route.known_latency(seen.size_class)
        if estimate is not None and seen.attempt not in self._etas:
            estimate.learn_eta(seen.elapsed_s + seen.eta_s, seen.at)
            self._etas[seen.attempt] = seen.elapsed_s + seen.eta_s

    def _succeeded(self, route: RouteMemory, account: AccountMemory, seen: Observation) -> None:
        account.rate.accepted()
        started_at = self._started.get(seen.attempt)
        took_s = seen.elapsed_s if started_at is None else seen.at - started_at
        estimate = route.latency(seen.size_class, took_s)
        estimate.learn(took_s, seen.at)
        eta_s = self._etas.get(seen.attempt)
        if eta_s is not None:
            estimate.check_eta(eta_s, seen.elapsed_s)
        route.outcome.learn(True, seen.at)
        route.breaker.succeeded()

    def _failed(self, route: RouteMemory, account: AccountMemory, seen: Observation) -> None:
        settings = self._settings
        if seen.failure in BLAMELESS:
            route.breaker.forgotten()
        elif seen.failure == "rate_limited":
            route.breaker.forgotten()
            account.rate.refused(seen.at, seen.retry_after_s)
        elif seen.failure in ACCOUNT_PAUSES:
            route.breaker.forgotten()
            empty = seen.failure == "no_credit"
            account.pause.forget()
            account.pause.ask(seen.at, settings.no_credit_pause_s if empty else settings.unauthorized_pause_s)
            account.paused_for = seen.failure
        else:
            self._blamed(route, seen)

    def _blamed(self, route: RouteMemory, seen: Observation) -> None:
        route.outcome.learn(False, seen.at)
        billed_share = seen.billed_micros / seen.price_micros if seen.price_micros > 0 else 0.0
        route.outcome.learn_failure_shape(seen.elapsed_s, billed_share)
        route.breaker.failed(seen.at, route.outcome.success_rate(seen.at))
        share = self._settings.failure_sibling_share
        for sibling in self._routes.values():
            if sibling is not route and sibling.account == route.account:
                sibling.outcome.learn(False, seen.at, weight=share)
