"""The vendor accounts as they stand now: routes, credit, what is in flight, and the facts fed to the router."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter

import structlog

from gateway.bus.contract import Bus, Limits, Slot
from gateway.bus.memory import MemoryBus
from gateway.loads import Loads, Machines
from gateway.money.accounts import BalanceSource
from gateway.runs import Render
from gateway.settings import PollingSection
from gateway.shadow import OUR_FAULTS, Shadow
from gateway.store.jobs import Attempt
from policies.retry import RetryBudget, Situation
from policies.router import Router
from policies.values import InFlight, Observation
from providers.capability import Route
from providers.contract import Clock, HasBalance, HasLoad, Provider, ProviderSettings

log = structlog.get_logger()
started_at = attrgetter("started_at")


@dataclass(frozen=True, slots=True)
class Heard:
    """A balance that a vendor named to this process: asked for, or in passing with a reply."""

    amount_micros: int
    at: float
    source: BalanceSource


@dataclass(slots=True)
class Account:
    """One vendor account. `balance_micros` None: unknown or not metered. `arrival_at`: when an attempt last ended.

    `heard` is the last balance named here that is not written down yet, `written_micros` the last one that is.
    `lone_attempt` is the one under way that nothing else was charged beside, so far.
    """

    provider: Provider
    settings: ProviderSettings
    budget: RetryBudget
    balance_micros: int | None = None
    balance_at: float | None = None
    heard: Heard | None = None
    written_micros: int | None = None
    arrival_at: float = 0.0
    flights: int = 0
    lone_attempt: str | None = None


@dataclass(slots=True)
class _Flight:
    route: str
    balance_before_micros: int | None


@dataclass(slots=True)
class Fleet:
    """Every configured provider and what this process knows of it. A provider is one account, named after it.

    `alone` says that no other process spends from these accounts.
    """

    accounts: Mapping[str, Account]
    router: Router
    clock: Clock
    shadow: Shadow | None = None
    bus: Bus = field(default_factory=MemoryBus)
    alone: bool = True
    loads: Loads = field(default_factory=Loads)
    routes: dict[str, Route] = field(init=False)
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _by_route: dict[str, dict[str, InFlight]] = field(init=False)
    _shown: dict[str, tuple[InFlight, ...]] = field(default_factory=dict)
    _elsewhere: dict[str, tuple[float, float, tuple[InFlight, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the routes of every account by name."""
        every = (route for account in self.accounts.values() for route in account.provider.routes)
        self.routes = {route.name: route for route in every}
        self._by_route = {name: {} for name in self.routes}

    def account(self, route_name: str) -> Account:
        """The account that serves a route."""
        return self.accounts[self.routes[route_name].provider]

    def in_flight(self, route_name: str) -> tuple[InFlight, ...]:
        """The attempts of all jobs that run on a route, the oldest first; the same tuple until one of them changes.

        While the route is known to be full, those of other replicas are in it.
        """
        shown = self._shown.get(route_name)
        if shown is None:
            shown = self._shown[route_name] = tuple(sorted(self._by_route[route_name].values(), key=started_at))
        since, until, others = self._elsewhere.get(route_name, (0.0, 0.0, ()))
        if since <= self.clock.now() < until:
            return tuple(sorted(shown + others, key=started_at))
        return shown

    def machines(self, route_name: str) -> Machines | None:
        """How the machines of a route stand, where they are our own and say so; None elsewhere.

        All routes of such a provider share its machines.
        """
        if self.routes[route_name].mode != "local":
            return None
        return self.loads.machines(route_name, self._sent_to(self.account(route_name)), self.clock.now())

    def _sent_to(self, account: Account) -> list[InFlight]:
        """The attempts of this process on an account, the oldest first."""
        flights = (one for route in account.provider.routes for one in self._by_route[route.name].values())
        return sorted(flights, key=started_at)

    def loaded(self) -> list[str]:
        """The accounts whose machines say how busy they are."""
        return [name for name, account in self.accounts.items() if isinstance(account.provider, HasLoad)]

    async def refresh_load(self, name: str) -> None:
        """Ask the machines of an account how busy they are now."""
        account = self.accounts[name]
        if isinstance(account.provider, HasLoad):
            loads = await account.provider.load()
            self.loads.note(loads, account.flights, self.clock.now())

    def depart(self, route_name: str, attempt_id: str, at: float) -> None:
        """An attempt was sent, or was picked up again after a restart."""
        account = self.account(route_name)
        if attempt_id not in self._flights:
            account.flights += 1
            known = account.balance_at is not None and account.balance_at > account.arrival_at
            before = account.balance_micros if known and account.flights == 1 and self.alone else None
            self._flights[attempt_id] = _Flight(route_name, before)
            if account.flights > 1:
                self._blur(account)
            elif before is not None:
                account.lone_attempt = attempt_id
        self._by_route[route_name][attempt_id] = InFlight(attempt_id, at)
        self._shown.pop(route_name, None)

    @contextmanager
    def room(self, route_name: str, attempt_id: str, at: float) -> Iterator[None]:
        """Take an attempt's room on its route before anybody else plans; given back when the block fails."""
        self.depart(route_name, attempt_id, at)
        try:
            yield
        except BaseException:
            self.arrive(attempt_id)
            raise

    def limits(self, route_name: str) -> Limits:
        """What the vendor allows on a route, as configured or as its catalogue says."""
        route, settings = self.routes[route_name], self.account(route_name).settings
        return Limits(
            settings.concurrency_max or route.concurrency_max,
            settings.requests_per_minute or route.requests_per_minute,
        )

    async def take_slot(self, route_name: str, attempt_id: str) -> float:
        """Seconds to wait for a slot that replicas share; 0 when it was taken, or when none is needed."""
        limits = self._shared_limits(route_name)
        if not limits:
            return 0.0
        now = self.clock.now()
        self.depart(route_name, attempt_id, now)  # from here on its arrival gives the slot back, whatever happens
        refused = await self.bus.take(self._slot(route_name, attempt_id), limits)
        if refused is None:
            return 0.0
        self.arrive(attempt_id)
        others = max(0, refused.busy - len(self._by_route[route_name]))
        taken = tuple(InFlight(f"elsewhere-{number}", now) for number in range(others))
        self._elsewhere[route_name] = (now, now + refused.wait_s, taken)
        return refused.wait_s

    def take_over(self, attempt: Attempt) -> None:
        """An attempt that another process had sent is followed here from now on, with its slot."""
        if attempt.route not in self.routes:
            return
        self.depart(attempt.route, attempt.id, attempt.began_at)
        if self._shared_limits(attempt.route).concurrency_max is not None:
            self.bus.hold(self._slot(attempt.route, attempt.id))

    def _slot(self, route_name: str, attempt_id: str) -> Slot:
        return Slot(self.routes[route_name].provider, route_name, attempt_id)

    def _shared_limits(self, route_name: str) -> Limits:
        """What a local route can do at once is not shared out: its machines say themselves when they are full."""
        return Limits() if self.routes[route_name].mode == "local" else self.limits(route_name)

    def arrive(self, attempt_id: str, *, handed_over: bool = False) -> None:
        """An attempt has no more work under way here; its slot is free unless it goes on elsewhere."""
        flight = self._flights.pop(attempt_id, None)
        if flight is None:
            return
        account = self.account(flight.route)
        account.flights -= 1
        account.arrival_at = self.clock.now()
        self._by_route[flight.route].pop(attempt_id, None)
        self._shown.pop(flight.route, None)
        self.bus.free(attempt_id, handed_over=handed_over)

    def balance_before(self, attempt_id: str) -> int | None:
        """The account's credit before an attempt, where nothing else was charged in between; else None."""
        flight = self._flights.get(attempt_id)
        return flight.balance_before_micros if flight is not None else None

    def _blur(self, account: Account) -> None:
        """With two attempts under way on one account, no fall of its balance belongs to one of them alone."""
        alone = self._flights.get(account.lone_attempt) if account.lone_attempt is not None else None
        if alone is not None:
            alone.balance_before_micros = None
        account.lone_attempt = None

    def poll_delay_s(self, render: Render, eta_s: float | None, bounds: PollingSection) -> float:
        """Seconds until it pays to ask for a render again; `eta_s` is the vendor's last word on that."""
        delay_s = self.router.next_poll_delay_s(
            render.route,
            render.size_class,
            elapsed_s=self.clock.now() - render.sent_at,
            eta_s=eta_s,
            nominal_latency_s=self.routes[render.route].latency_nominal_s,
        )
        return min(max(delay_s, bounds.delay_min_s), bounds.delay_max_s)

    def situation(self, attempt: Attempt, deadline_at: float, *, answered: bool = False) -> Situation:
        """Where an attempt stands when it is to be decided whether it is submitted again."""
        now = self.clock.now()
        slack_s = deadline_at - now - self.routes[attempt.route].latency_nominal_s
        return Situation(attempt.submits, slack_s, self.account(attempt.route).budget.allows(now), answered)

    def withdraw(self, route_name: str) -> None:
        """Take a repeat out of the budget in the breath that found it allowed: before anything is awaited."""
        self.account(route_name).budget.withdraw(self.clock.now())

    def note_queue(self, attempt: Attempt, queue_s: float | None) -> None:
        """A render on a machine of our own waited there first: how long it takes is learned without that."""
        if queue_s and attempt.route in self.routes and self.routes[attempt.route].mode == "local":
            began_at = min(attempt.began_at + queue_s, self.clock.now())
            start = Observation("started", began_at, attempt.route, attempt.account, attempt.job_id, attempt.id)
            self.observe(start)

    def observe(self, observation: Observation) -> None:
        """Feed one fact to the router and to the shadow beside it, and tell the other replicas."""
        self.learn(observation)
        self.bus.share(observation)

    def learn(self, observation: Observation) -> None:
        """Feed one fact to the router and to the shadow beside it."""
        self.router.observe(observation)
        if self.shadow is not None:
            self.shadow.observe(observation)

    def hear(self, told: Observation) -> None:
        """Take in what another replica observed, as far as it is about routes and accounts that there are here.

        Its clock may be ahead: nothing was observed later than now. A fact that the router cannot use is said and left.
        """
        account = self.accounts.get(told.account)
        if account is None or (told.route and told.route not in self.routes):
            return
        fact = replace(told, at=min(told.at, self.clock.now()))
        if fact.kind == "balance" and fact.balance_micros is not None and fact.at >= (account.balance_at or 0.0):
            account.balance_micros, account.balance_at = fact.balance_micros, fact.at
        try:
            self.learn(fact)
        except OUR_FAULTS as error:
            log.warning("fact.refused", kind=fact.kind, error=f"{type(error).__name__}: {error}")

    def note_balance(self, name: str, balance_micros: int | None, source: BalanceSource = "reported") -> None:
        """Take in the credit that a vendor reported; None is no news."""
        if balance_micros is None:
            return
        account, now = self.accounts[name], self.clock.now()
        account.balance_micros, account.balance_at = balance_micros, now
        account.heard = Heard(balance_micros, now, source)
        self.observe(Observation(kind="balance", at=now, route="", account=name, balance_micros=balance_micros))

    async def refresh_balance(self, name: str) -> int | None:
        """Ask a vendor for its credit now; None when it has no such answer or could not be asked."""
        provider = self.accounts[name].provider
        if not isinstance(provider, HasBalance):
            return None
        balance = await provider.balance()
        if balance is None:
            return None
        self.note_balance(name, balance.amount_micros, "polled")
        return balance.amount_micros

    def metered(self) -> Iterable[str]:
        """The accounts whose credit can be asked for."""
        return [name for name, account in self.accounts.items() if isinstance(account.provider, HasBalance)]
