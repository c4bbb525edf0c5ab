"""A store in a file of its own, with one team."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.sqlite import SqliteStore
from tests.unit.store.builders import add_team


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A fresh database file, opened as a server opens it."""
    opened = SqliteStore.open(f"sqlite:///{tmp_path}/vidgate.db")
    await opened.write(add_team)
    yield opened
    await opened.close()
