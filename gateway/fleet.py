"""The vendor accounts as they stand now: routes, credit, what is in flight, and the facts fed to the router."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policies.retry import RetryBudget
from policies.router import Router
from policies.values import InFlight, Observation
from providers.capability import Route
from providers.contract import Clock, HasBalance, Provider, ProviderSettings


@dataclass(slots=True)
class Account:
    """One vendor account. `balance_micros` None means unknown or not metered."""

    provider: Provider
    settings: ProviderSettings
    budget: RetryBudget
    balance_micros: int | None = None
    balance_at: float | None = None


@dataclass(slots=True)
class _Flight:
    route: str
    in_flight: InFlight


@dataclass(slots=True)
class Fleet:
    """Every configured provider and what this process knows of it. A provider is one account, named after it."""

    accounts: Mapping[str, Account]
    router: Router
    clock: Clock
    routes: dict[str, Route] = field(init=False)
    _flights: dict[str, _Flight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the routes of every account by name."""
        every = (route for account in self.accounts.values() for route in account.provider.routes)
        self.routes = {route.name: route for route in every}

    def account(self, route_name: str) -> Account:
        """The account that serves a route."""
        return self.accounts[self.routes[route_name].provider]

    def in_flight(self, route_name: str) -> tuple[InFlight, ...]:
        """The attempts of all jobs that run on a route."""
        return tuple(flight.in_flight for flight in self._flights.values() if flight.route == route_name)

    def depart(self, route_name: str, attempt_id: str, at: float) -> None:
        """An attempt was sent, or was picked up again after a restart."""
        self._flights[attempt_id] = _Flight(route_name, InFlight(attempt_id, at))

    def arrive(self, attempt_id: str) -> None:
        """An attempt has no more work under way; harmless when it was never known."""
        self._flights.pop(attempt_id, None)

    def observe(self, observation: Observation) -> None:
        """Feed one fact to the router."""
        self.router.observe(observation)

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
