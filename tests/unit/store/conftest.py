"""A store with one team: in a SQLite file of its own, and in a PostgreSQL database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.settings import StoreSection
from gateway.store.database import Store, open_store
from tests.unit.store.builders import add_team


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a fresh database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/vidgate.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """A fresh database, opened as a server opens it."""
    opened = await open_store(StoreSection(url=store_url))
    await opened.write(add_team)
    yield opened
    await opened.close()
