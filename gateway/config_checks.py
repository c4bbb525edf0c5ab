"""What must hold between settings, and what the operator should know before starting: whole, at start, in sentences."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import ValidationError

from gateway.bus.open import bus_fault
from gateway.config_errors import ConfigurationProblem, ConfigurationWarning, nearest, problems_of
from gateway.money.prices import PriceBook, PriceBookError
from gateway.people import people_fault
from gateway.settings import Settings
from gateway.store.database import POSTGRES_SCHEMES
from gateway.telemetry.export import export_fault
from providers.capability import Route
from providers.contract import ProviderPlugin, ProviderSettings

LEASE_HEARTBEATS_MIN = 3
STORES = ("sqlite", *POSTGRES_SCHEMES)
ONE_PROCESS_STORES = frozenset({"sqlite"})
ONE_PROCESS_BUSES = frozenset({"memory"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Accounts:
    """The providers' own settings, each checked against its model, their routes, and the faults found on the way."""

    settings: Mapping[str, ProviderSettings]
    routes: tuple[Route, ...]
    problems: tuple[ConfigurationProblem, ...]


def read_accounts(sections: object, plugins: Mapping[str, ProviderPlugin]) -> Accounts:
    """Check every provider's section; `sections` is whatever stands under `providers`."""
    if not isinstance(sections, Mapping) or not sections:
        detail = f"no provider is configured; add one or more of: {', '.join(sorted(plugins))}"
        return Accounts({}, (), (ConfigurationProblem(("providers",), detail),))
    accounts: dict[str, ProviderSettings] = {}
    routes: list[Route] = []
    problems: list[ConfigurationProblem] = []
    for name, section in sections.items():
        plugin = plugins.get(str(name))
        if plugin is None:
            detail = f"unknown provider; {nearest(str(name), plugins)}"
            problems.append(ConfigurationProblem(("providers", str(name)), detail))
            continue
        try:
            accounts[plugin.name] = plugin.settings.model_validate({} if section is None else section)
            routes += plugin.routes_of(accounts[plugin.name])
        except ValidationError as error:
            problems += problems_of(error, plugin.settings, ("providers", plugin.name))
        except ValueError as error:
            problems.append(ConfigurationProblem(("providers", plugin.name, "routes"), str(error)))
    return Accounts(accounts, tuple(routes), tuple(problems))


def relations(settings: Settings) -> list[ConfigurationProblem]:
    """The faults that no setting has alone."""
    return [*_times(settings), *_places(settings), *_processes(settings), *_allowed_hosts(settings)]


def _times(settings: Settings) -> Iterator[ConfigurationProblem]:
    jobs, retry, polling = settings.jobs, settings.retry, settings.polling
    if jobs.lease_s <= LEASE_HEARTBEATS_MIN * jobs.heartbeat_s:
        yield ConfigurationProblem(
            ("jobs", "lease_s"),
            f"is {jobs.lease_s:g}, and a process must be able to miss {LEASE_HEARTBEATS_MIN} heartbeats without losing "
            f"its jobs: set it above {LEASE_HEARTBEATS_MIN * jobs.heartbeat_s:g} or lower jobs.heartbeat_s",
        )
    if jobs.deadline_s > jobs.deadline_max_s:
        yield ConfigurationProblem(
            ("jobs", "deadline_s"), f"is over jobs.deadline_max_s: set it to at most {jobs.deadline_max_s:g}"
        )
    if retry.base_s > retry.cap_s:
        yield ConfigurationProblem(("retry", "base_s"), f"is over retry.cap_s: set it to at most {retry.cap_s:g}")
    if polling.delay_min_s > polling.delay_max_s:
        yield ConfigurationProblem(
            ("polling", "delay_min_s"), f"is over polling.delay_max_s: set it to at most {polling.delay_max_s:g}"
        )


def _places(settings: Settings) -> Iterator[ConfigurationProblem]:
    if _scheme(settings.store.url) not in STORES:
        expected = f"must begin with {' or '.join(STORES[:2])}, such as sqlite:///var/vidgate.db"
        yield ConfigurationProblem(("store", "url"), expected)
    fault = bus_fault(settings.bus.url)
    if fault is not None:
        yield ConfigurationProblem(("bus", "url"), fault)
    if settings.security.oidc is not None and (fault := people_fault()) is not None:
        yield ConfigurationProblem(("security", "oidc"), fault)
    fault = export_fault(settings.telemetry.otlp_endpoint)
    if fault is not None:
        yield ConfigurationProblem(("telemetry", "otlp_endpoint"), fault)


def _processes(settings: Settings) -> Iterator[ConfigurationProblem]:
    if settings.server.replicas == 1:
        return
    if _scheme(settings.store.url) in ONE_PROCESS_STORES:
        yield ConfigurationProblem(
            ("store", "url"),
            f"is a file of one process, and server.replicas is {settings.server.replicas}: set it to "
            "postgresql://user:password@host/database, or server.replicas to 1",
        )
    if _scheme(settings.bus.url) in ONE_PROCESS_BUSES:
        yield ConfigurationProblem(
            ("bus", "url"),
            f"serves one process, and server.replicas is {settings.server.replicas}: set it to redis://host:6379/0, "
            "or server.replicas to 1",
        )


def _allowed_hosts(settings: Settings) -> Iterator[ConfigurationProblem]:
    for index, entry in enumerate(settings.outbound.allow_hosts):
        try:
            ipaddress.ip_network(entry) if "/" in entry else None
        except ValueError as error:
            yield ConfigurationProblem(
                ("outbound", "allow_hosts", index), f"{error}; write host:port, host, an address or 10.0.0.0/8"
            )


def price_problems(settings: Settings, routes: Sequence[str], at: float) -> list[ConfigurationProblem]:
    """A price book that cannot be read, and routes without a price at `at` (unix seconds): those must not start."""
    own = settings.money.price_book
    path = ("money", "price_book")
    try:
        book = PriceBook.seeded(own) if own else PriceBook.seeded()
    except PriceBookError as error:
        return [ConfigurationProblem(path, str(error))]
    return [
        ConfigurationProblem(
            path, f"has no price for {route}: add one, or leave the route out of its provider's routes"
        )
        for route in book.missing(routes, at)
    ]


def advice(settings: Settings, routes: Sequence[Route]) -> tuple[ConfigurationWarning, ...]:
    """What works less well than it may seem: routes that cannot be used as configured, what others can read."""
    url = settings.server.public_base_url
    detail = (
        "it takes the picture only as a link: set server.public_base_url to an address that the vendor can reach, or "
        "it is used only where the vendor stores an upload"
    )
    only_links = [route for route in routes if set(route.image_forms) == {"url"}] if url is None else []
    found = [ConfigurationWarning(("routes", route.name), detail) for route in only_links]
    if url and urlsplit(url).scheme == "http" and urlsplit(url).hostname not in LOOPBACK:
        detail = "is plain http: pictures and results travel readable; use https outside a private network"
        found.append(ConfigurationWarning(("server", "public_base_url"), detail))
    if settings.server.host not in LOOPBACK and settings.telemetry.metrics_token is None:
        detail = "is not set: whoever reaches the port reads every team's spend at /metrics; openssl rand -base64 32"
        found.append(ConfigurationWarning(("telemetry", "metrics_token"), detail))
    return tuple(found)


def _scheme(url: str) -> str:
    return url.partition(":")[0]
