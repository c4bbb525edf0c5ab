"""Hot reload: a good file takes effect between two decisions, a bad one changes nothing, the rest needs a restart."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Configuration, load
from gateway.reload import WATCH_INTERVAL_S, Reloader, Source, is_live, merge
from gateway.settings import Settings
from tests.support.clock import VirtualLoop
from tests.support.gateway import Gateway, Setting, fresh_database, make_template, running
from tests.support.scripted import Scripted, price_book

pytestmark = pytest.mark.anyio
SECRET = "a secret of the tests, long enough"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"security": {"signing_secret": SECRET}, **sections})


class Bench:
    """A gateway over two scripted vendors, its configuration file, and the reloader that watches it."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.file = folder / "vidgate.yaml"
        self.book = folder / "prices.yaml"
        self.write("")
        plugins = gateway.setting.plugins()
        self.reloader = Reloader(gateway.service.parts, Source(self.file, self._reading(plugins)), plugins)

    def _reading(self, plugins: Any) -> Callable[[], Configuration]:
        at = self.gateway.clock.now()
        return lambda: load(self.file, environment={}, plugins=plugins, at=at)

    def write(self, text: str, providers: str = "{alpha: {}, beta: {}}") -> None:
        parts = self.gateway.service.parts.settings
        usual = (
            f"security: {{signing_secret: '{SECRET}'}}\nstore: {{url: '{parts.store.url}'}}\n"
            f"artifacts: {{url: '{parts.artifacts.url}'}}\nmoney: {{price_book: {self.book}, show_cost: true}}\n"
            "outbound: {allow_hosts: ['127.0.0.1']}\n"
        )
        jobs = "" if "jobs:" in text else "jobs: {lease_s: 600, heartbeat_s: 100}\n"
        self.file.write_text(f"{usual}{jobs}providers: {providers}\n{text}\n")

    async def first_choice(self) -> str:
        """The route that a request would take now."""
        answer = await self.gateway.post("/generate/video/quote")
        return str(answer.json()["ranked"][0]["route"])


@pytest.fixture
async def bench(tmp_path: Path, template: Path) -> AsyncIterator[Bench]:
    fresh_database(tmp_path, template)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    vendors = (Scripted(price_micros=10_000, latency_s=60.0), Scripted("beta", price_micros=90_000, latency_s=5.0))
    async with running(Setting(tmp_path, loop, vendors, {"jobs": {"heartbeat_s": 100}})) as gateway:
        yield Bench(gateway, tmp_path)


@asynccontextmanager
async def watching(bench: Bench) -> AsyncIterator[None]:
    bench.reloader.start()
    try:
        yield
    finally:
        await bench.reloader.stop()


async def test_a_new_objective_holds_for_the_next_decision(bench: Bench) -> None:
    """The routing section is swapped while running: nothing is restarted."""
    assert await bench.first_choice() == "alpha/one"
    bench.write("routing: {objective: fastest}")
    state = await bench.reloader.reload()
    assert (state.outcome, state.applied, state.needs_restart) == ("applied", ("routing.objective",), ())
    assert await bench.first_choice() == "beta/one"


async def test_a_bad_file_keeps_the_old_settings_and_says_why(bench: Bench) -> None:
    """Faults are told with their lines, and the very same settings and planner stay in force."""
    parts = bench.gateway.service.parts
    before = parts.settings, parts.planner, parts.inputs
    bench.write("routing: {objectiv: fastest}\nretry: {base_s: 30, cap_s: 1}")
    state = await bench.reloader.reload()
    assert state.outcome == "refused"
    assert any("did you mean `objective`" in fault for fault in state.faults)
    assert (parts.settings, parts.planner, parts.inputs) == before
    assert bench.reloader.counts == {"applied": 0, "needs_restart": 0, "refused": 1}


async def test_a_file_that_is_gone_keeps_the_old_settings(bench: Bench) -> None:
    """An editor that moves the file away for a moment does no harm."""
    bench.file.unlink()
    state = await bench.reloader.reload()
    assert (state.outcome, len(state.faults)) == ("refused", 1)


async def test_what_needs_a_restart_is_named_and_not_half_applied(bench: Bench) -> None:
    """A new address waits, a new retry rule from the same file does not."""
    bench.write("server: {port: 9999}\nretry: {ambiguous: never, budget_ratio: 0.1}")
    state = await bench.reloader.reload()
    parts = bench.gateway.service.parts
    assert state.needs_restart == ("server.port",)
    assert set(state.applied) == {"retry.ambiguous", "retry.budget_ratio"}
    assert (parts.settings.retry.ambiguous, parts.settings.server.port) == ("never", 8080)
    assert {account.budget.ratio for account in parts.fleet.accounts.values()} == {0.1}


async def test_prices_are_read_again_when_only_their_file_changed(bench: Bench) -> None:
    """The price book is watched too: its path is the same, its figures are not."""
    async with watching(bench):
        bench.book.write_text(price_book([Scripted(price_micros=500_000), Scripted("beta", price_micros=90_000)]))
        await bench.gateway.clock.sleep(2 * WATCH_INTERVAL_S)
        assert bench.reloader.state.outcome == "applied"
        assert await bench.first_choice() == "beta/one"


async def test_a_change_that_waits_for_a_restart_is_not_called_applied(bench: Bench) -> None:
    """Who reads `/readyz` after a change of nothing but the port is not told that it is in force."""
    bench.write("server: {port: 9999}")
    state = await bench.reloader.reload()
    assert (state.outcome, state.applied, state.needs_restart) == ("needs_restart", (), ("server.port",))
    assert bench.reloader.counts == {"applied": 0, "needs_restart": 1, "refused": 0}


async def test_a_providers_cap_changes_while_running(bench: Bench) -> None:
    """Caps of an account count from the next decision; a provider that is gone waits for a restart."""
    bench.write("", providers="{alpha: {concurrency_max: 3, requests_per_minute: 20}}")
    state = await bench.reloader.reload()
    account = bench.gateway.service.parts.fleet.accounts["alpha"]
    assert (account.settings.concurrency_max, account.settings.requests_per_minute) == (3, 20)
    assert state.needs_restart == ("providers.beta",)
    assert await bench.first_choice() == "alpha/one"


async def test_new_tuning_starts_a_router_that_knows_what_the_old_one_knew(bench: Bench) -> None:
    """What was learned is learned again from the recorded attempts, by the new router and by a new shadow."""
    await bench.gateway.made()
    old = bench.gateway.service.parts.fleet.router
    bench.write("routing: {tuning: {failure_prior: 0.1}, shadow: {objective: fastest}}")
    await bench.reloader.reload()
    fleet, now = bench.gateway.service.parts.fleet, bench.gateway.clock.now()
    assert fleet.router is not old
    assert fleet.router.snapshot("alpha/one", now).observations > 0
    assert fleet.shadow is not None
    assert fleet.shadow.router.snapshot("alpha/one", now).observations > 0


async def test_a_changed_file_and_sighup_are_both_noticed(bench: Bench) -> None:
    """The watch sees a changed file within its interval; SIGHUP asks for a reading of an unchanged one."""
    async with watching(bench):
        bench.write("routing: {objective: fastest}")
        await bench.gateway.clock.sleep(2 * WATCH_INTERVAL_S)
        assert bench.reloader.counts["applied"] == 1
        await bench.gateway.clock.sleep(5 * WATCH_INTERVAL_S)
        assert bench.reloader.counts["applied"] == 1
        os.kill(os.getpid(), signal.SIGHUP)
        await bench.gateway.clock.sleep(2 * WATCH_INTERVAL_S)
        assert bench.reloader.counts["applied"] == 2


def test_merging_equal_settings_changes_nothing() -> None:
    """The same file read again has nothing to apply and nothing that waits."""
    merged = merge(settings(), settings())
    assert (merged.applied, merged.needs_restart) == ((), ())
    assert merged.settings == settings()


def test_a_setting_taken_out_of_the_file_goes_back_to_its_default() -> None:
    """Removing a line is a change like any other, of a provider's cap too."""
    old = settings(retry={"submits_max": 9}, providers={"alpha": {"concurrency_max": 2}})
    merged = merge(old, settings(providers={"alpha": {}}))
    assert merged.settings.retry.submits_max == 3
    assert merged.settings.providers == {"alpha": {}}


@pytest.mark.parametrize(
    ("path", "live"),
    [
        (("routing", "weights", "cost"), True),
        (("providers", "alpha", "concurrency_max"), True),
        (("providers", "alpha", "api_key"), False),
        (("providers", "alpha"), False),
        (("jobs", "lease_s"), False),
        (("store", "url"), False),
        (("security", "signing_secret"), False),
    ],
)
def test_secrets_addresses_and_leases_wait_for_a_restart(path: tuple[str, ...], live: bool) -> None:
    """What others rely on while the process runs is never changed under them."""
    assert is_live(path) is live
