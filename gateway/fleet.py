"""The vendor accounts as they stand now: routes, credit, what is in flight, and the facts fed to the router."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.shadow import Shadow
from gateway.store.jobs import Attempt
from policies.retry import RetryBudget
from policies.router import Router
from policies.values import InFlight, Observation
from providers.capability import Route
from providers.contract import Clock, HasBalance, Provider, ProviderSettings


@dataclass(slots=True)
class Account:
    """One vendor account. `balance_micros` None: unknown or not metered. `arrival_at`: when an attempt last ended."""

    provider: Provider
    settings: ProviderSettings
    budget: RetryBudget
    balance_micros: int | None = None
    balance_at: float | None = None
    arrival_at: float = 0.0
    flights: int = 0


@dataclass(slots=True)
class _Flight:
    route: str
    balance_before_micros: int | None


@dataclass(slots=True)
class Fleet:
    """Every configured provider and what this process knows of it. A provider is one account, named after it."""

    accounts: Mapping[str, Account]
    router: Router
    clock: Clock
    shadow: Shadow | None = None
    routes: dict[str, Route] = field(init=False)
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _by_route: dict[str, dict[str, InFlight]] = field(init=False)
    _shown: dict[str, tuple[InFlight, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the routes of every account by name."""
        every = (route for account in self.accounts.values() for route in account.provider.routes)
        self.routes = {route.name: route for route in every}
        self._by_route = {name: {} for name in self.routes}

    def account(self, route_name: str) -> Account:
        """The account that serves a route."""
        return self.accounts[self.routes[route_name].provider]

    def in_flight(self, route_name: str) -> tuple[InFlight, ...]:
        """The attempts of all jobs that run on a route; the same tuple until one of them changes."""
        shown = self._shown.get(route_name)
        if shown is None:
            shown = self._shown[route_name] = tuple(self._by_route[route_name].values())
        return shown

    def depart(self, route_name: str, attempt_id: str, at: float) -> None:
        """An attempt was sent, or was picked up again after a restart."""
        account = self.account(route_name)
        if attempt_id not in self._flights:
            account.flights += 1
            known = account.balance_at is not None and account.balance_at > account.arrival_at
            before = account.balance_micros if known and account.flights == 1 else None
            self._flights[attempt_id] = _Flight(route_name, before)
        if account.flights > 1:
            self._blur(account)
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

    def arrive(self, attempt_id: str) -> None:
        """An attempt has no more work under way; harmless when it was never known."""
        flight = self._flights.pop(attempt_id, None)
        if flight is None:
            return
        account = self.account(flight.route)
        account.flights -= 1
        account.arrival_at = self.clock.now()
        self._by_route[flight.route].pop(attempt_id, None)
        self._shown.pop(flight.route, None)

    def balance_before(self, attempt_id: str) -> int | None:
        """The account's credit before an attempt, where nothing else was charged in between; else None."""
        flight = self._flights.get(attempt_id)
        return flight.balance_before_micros if flight is not None else None

    def _blur(self, account: Account) -> None:
        """With two attempts under way on one account, no fall of its balance belongs to one of them alone."""
        for route in account.provider.routes:
            for attempt_id in self._by_route[route.name]:
                self._flights[attempt_id].balance_before_micros = None

    def poll_delay_s(self, attempt: Attempt, eta_s: float | None) -> float:
        """Seconds until it pays to ask for an accepted attempt again; `eta_s` is the vendor's last word on that."""
        return self.router.next_poll_delay_s(
            attempt.route,
            attempt.size_class,
            elapsed_s=self.clock.now() - (attempt.sent_at or attempt.prepared_at),
            eta_s=eta_s,
            nominal_latency_s=self.routes[attempt.route].latency_nominal_s,
        )

    def observe(self, observation: Observation) -> None:
        """Feed one fact to the router, and to the shadow beside it."""
        self.router.observe(observation)
        if self.shadow is not None:
            self.shadow.observe(observation)

    def note_balance(self, name: str, balance_micros: int | None) -> None:
        """Take in the credit that a vendor reported; None is no news."""
        if balance_micros is None:
            return
        account, now = self.accounts[name], self.clock.now()
        account.balance_micros, account.balance_at = balance_micros, now
        self.observe(Observation(kind="balance", at=now, route="", account=name, balance_micros=balance_micros))

    async def refresh_balance(self, name: str) -> int | None:
        """Ask a vendor for its credit now; None when it has no such answer or could not be asked."""
        provider = self.accounts[name].provider
        if not isinstance(provider, HasBalance):
            return None
        balance = await provider.balance()
        if balance is None:
            return None
        self.note_balance(name, balance.amount_micros)
        return balance.amount_micros

    def metered(self) -> Iterable[str]:
        """The accounts whose credit can be asked for."""
        return [name for name, account in self.accounts.items() if isinstance(account.provider, HasBalance)]
