"""For the whole suite: asynchronous tests run on asyncio, and a slow core never fails a property test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("vidgate", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("vidgate")


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the product runs on."""
    return "asyncio"
