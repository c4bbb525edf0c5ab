"""For the whole suite: asynchronous tests run on asyncio, and a slow core never fails a property test."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from hypothesis import HealthCheck, settings

from gateway.settings import StoreSection
from gateway.store.database import open_store
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.promises_page import Recorder
from tests.support.time_limit import LastResort

# The same examples in every run, so that a verdict is the code's; `make explore` draws new ones.
settings.register_profile(
    "vidgate",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize="VIDGATE_EXPLORE" not in os.environ,
)
settings.load_profile("vidgate")


def pytest_configure(config: pytest.Config) -> None:
    """What a run shows of the promises is written down at its end, and no test lasts for ever."""
    config.pluginmanager.register(Recorder(), "promises")
    config.pluginmanager.register(LastResort(), "last_resort")


@pytest.fixture(autouse=True)
def logs_of_this_test_only() -> Iterator[None]:
    """A command under test points the log at a stream of its own; the next test must not write there."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    yield
    for handler in logging.getLogger().handlers[:]:
        if type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the product runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole run of this process, with a database `migrated` that is never written to."""
    pytest.importorskip("greenlet", reason="greenlet is not installed: pip install 'vidgate[postgres]'")
    with postgres_server() as server:
        server.query('CREATE DATABASE "migrated"', "postgres")
        with ThreadPoolExecutor(1) as elsewhere:  # whoever asks first for a server may be in an event loop of its own
            elsewhere.submit(lambda: asyncio.run(_migrate(server.url("migrated")))).result()
        yield server


async def _migrate(url: str) -> None:
    store = await open_store(StoreSection(url=url))
    await store.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of a fresh database with the schema of today."""
    name = postgres.create("migrated")
    yield postgres.url(name)
    postgres.drop(name)
