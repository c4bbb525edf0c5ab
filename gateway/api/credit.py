"""The credit behind a route as callers are shown it: balance, what is in flight, burn and runway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from gateway.api.shown import rfc3339
from gateway.audience import Audience, visible
from gateway.money.accounts import ProviderAccount, provider_state
from gateway.service import Service


async def accounts_behind(service: Service, costs_micros: Mapping[str, int], at: float) -> dict[str, ProviderAccount]:
    """The accounts behind routes at `at`, by provider. `costs_micros` says what one render costs on each route."""
    fleet = service.parts.fleet
    committed: dict[str, int] = {}
    for route, cost in costs_micros.items():
        provider = fleet.routes[route].provider
        committed[provider] = committed.get(provider, 0) + cost * len(fleet.in_flight(route))
    floors = {name: fleet.accounts[name].settings.floor_micros for name in committed}
    return await service.parts.store.read(_states, committed, floors, at)


def _states(
    connection: Connection, committed_micros: Mapping[str, int], floors_micros: Mapping[str, int], at: float
) -> dict[str, ProviderAccount]:
    return {
        name: provider_state(connection, name, at=at, in_flight_micros=micros, floor_micros=floors_micros[name])
        for name, micros in committed_micros.items()
    }


def credit_json(service: Service, account: ProviderAccount, audience: Audience) -> dict[str, Any]:
    """One account; `low` is under its floor. `runway_h` is null until something is spent and known."""
    live = service.parts.fleet.accounts[account.provider]
    shown = {
        "state": "unknown" if account.balance_micros is None else "low" if account.is_low else "fine",
        "balance_micros": live.balance_micros if live.balance_at is not None else account.balance_micros,
        "balance_at": rfc3339(live.balance_at if live.balance_at is not None else account.balance_at),
        "in_flight_micros": account.in_flight_micros,
        "burn_micros_per_hour": account.burn_micros_per_hour,
        "runway_h": account.runway_h,
    }
    return visible("credit", shown, audience)
