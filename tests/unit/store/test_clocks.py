"""The database's clock against this machine's."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.settings import StoreSection
from gateway.store.clocks import check_clocks
from gateway.store.database import Store, StoreError, open_store

pytestmark = pytest.mark.anyio
LEASE_S = 15.0


class Skewed(SystemClock):
    """A machine whose clock is ahead by so much."""

    def __init__(self, ahead_s: float) -> None:
        super().__init__()
        self.ahead_s = ahead_s

    def now(self) -> float:
        return super().now() + self.ahead_s


@pytest.fixture
async def on_postgres(postgres_url: str) -> Store:
    """A store whose database has a clock of its own."""
    return await open_store(StoreSection(url=postgres_url))


@pytest.mark.parametrize("ahead_s", [-20.0, 20.0])
async def test_a_clock_beyond_the_lease_does_not_start(on_postgres: Store, ahead_s: float) -> None:
    """Others would take its jobs for abandoned: the refusal says which way, by how much, and what mends it."""
    which = "ahead of" if ahead_s > 0 else "behind"
    with pytest.raises(StoreError, match=rf"{which} the database's, more than jobs\.lease_s \(15\): set both by NTP"):
        await check_clocks(on_postgres, Skewed(ahead_s), LEASE_S)
    await on_postgres.close()


@pytest.mark.parametrize(("ahead_s", "warned"), [(0.0, False), (5.0, True), (-5.0, True)])
async def test_a_clock_that_is_off_by_seconds_is_told(on_postgres: Store, ahead_s: float, warned: bool) -> None:
    """It starts, and the operator reads it."""
    with structlog.testing.capture_logs() as logs:
        found_s = await check_clocks(on_postgres, Skewed(ahead_s), LEASE_S)
    assert abs(found_s - ahead_s) < 1
    assert [line["event"] for line in logs] == (["clock.skew"] if warned else [])
    await on_postgres.close()


async def test_a_file_has_no_clock_of_its_own(tmp_path: Path) -> None:
    """SQLite is read by this machine's clock alone."""
    store = await open_store(StoreSection(url=f"sqlite:///{tmp_path}/vidgate.db"))
    assert await check_clocks(store, Skewed(1e6), LEASE_S) == 0.0
    await store.close()
