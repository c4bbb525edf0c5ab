"""Watching the money while the service runs: price drift, provider accounts under their floor, the metering endpoint.

One turn reads what settlements have written since the last one; nothing here stands in the way of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from sqlalchemy import Connection

from gateway import events, webhooks
from gateway.fleet import Heard
from gateway.money.accounts import LowWater, record_balance
from gateway.money.drift import PriceDrift, price_drift
from gateway.parts import Parts

log = structlog.get_logger()

WATCH_INTERVAL_S = 3600.0
# How often at most an account's balance is written down from replies, which may come many times a second.
HEARD_INTERVAL_S = 5.0
DRIFT_WINDOW_S = 7 * 86_400.0
# Fewer reported costs than this say more about those renders than about the price.
DRIFT_OBSERVATIONS_MIN = 5
SOURCE_USUAL = "urn:vidgate"


@dataclass(slots=True)
class MoneyWatch:
    """What the watch saw at its last turn; `drift` is by route."""

    parts: Parts
    drift: Mapping[str, PriceDrift] = field(default_factory=dict)

    async def turn(self) -> None:
        """Look at the prices of the last week, and keep the metering endpoint what the configuration says."""
        parts = self.parts
        now, money = parts.clock.now(), parts.settings.money
        drifts = await parts.store.read(price_drift, now - DRIFT_WINDOW_S, money.price_drift_threshold)
        self.drift = {one.route: one for one in drifts}
        for one in drifts:
            if one.is_beyond and one.observations >= DRIFT_OBSERVATIONS_MIN:
                log.warning("price.drift", route=one.route, ratio=one.ratio, observations=one.observations)
                day = datetime.fromtimestamp(now, UTC).date().isoformat()
                await parts.store.write(events.price_drifted, one, day, now)
        wanted, source = money.usage_webhook, parts.settings.server.public_base_url or SOURCE_USUAL
        url, secret = (wanted.url, wanted.secret.get_secret_value()) if wanted is not None else (None, "")
        await parts.store.write(webhooks.keep_usage_webhook, url, secret, source=source, at=now)

    async def balances(self) -> None:
        """Write down the balances that replies have named since the last turn, where they changed: the last of each.

        What is asked for now and then is written by `balance`, changed or not.
        """
        for name, account in self.parts.fleet.accounts.items():
            if account.heard is not None and account.heard.amount_micros != account.written_micros:
                await self.balance(name, account.heard)

    async def balance(self, provider: str, heard: Heard) -> None:
        """Write down what a vendor said is left, and tell the operator the first time it is under the floor."""
        account = self.parts.fleet.accounts[provider]
        account.heard, account.written_micros = None, heard.amount_micros
        low = await self.parts.store.write(note_balance, provider, heard, account.settings.floor_micros)
        if low is not None:
            log.warning("account.low_water", provider=provider, balance_micros=heard.amount_micros)


def note_balance(connection: Connection, provider: str, heard: Heard, floor_micros: int) -> LowWater | None:
    """Record a balance and, in the same transaction, the event of an account that fell under its floor."""
    low = record_balance(
        connection, provider, heard.amount_micros, at=heard.at, source=heard.source, floor_micros=floor_micros
    )
    if low is not None:
        events.account_low(connection, low)
    return low
