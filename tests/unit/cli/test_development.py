"""The development gateway: its configuration, and the secrets that are kept between runs."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.development import STATE_FILE, DevPlan, DevState, dev_configuration, provider_sections, take_state
from gateway.cli.exit_codes import CommandError
from gateway.config import Configuration
from gateway.keys import find_caller
from gateway.money.budgets import budget_states
from gateway.store.database import open_store
from providers.registry import BUILTIN

PLUGINS = {plugin.name: plugin for plugin in BUILTIN}
SIMULATORS = {plugin.name: f"http://127.0.0.1:{port}" for port, plugin in enumerate(BUILTIN, 9100) if plugin.simulator}
SECRET = "a-signing-secret-of-enough-bytes"


def configuration(folder: Path, secret: str = SECRET, speed: float = 10.0) -> Configuration:
    """The development configuration in a folder."""
    return dev_configuration(DevPlan(folder, "http://127.0.0.1:8080", speed), SIMULATORS, PLUGINS, secret)


async def state_of(folder: Path) -> DevState:
    """The state that a start in this folder takes or makes."""
    state, _ = await take_state(folder, lambda secret: configuration(folder, secret))
    return state


def test_the_only_places_that_may_be_reached_are_the_simulators(tmp_path: Path) -> None:
    """A development gateway cannot call a vendor, nor fetch from anything else on this machine."""
    made = configuration(tmp_path)
    assert set(made.settings.outbound.allow_hosts) == {url.removeprefix("http://") for url in SIMULATORS.values()}
    for name, url in SIMULATORS.items():
        section: Mapping[str, object] = made.settings.providers[name]
        values = [one for value in section.values() for one in (value if isinstance(value, list) else [value])]
        addresses = [value for value in values if isinstance(value, str) and value.startswith("http")]
        assert addresses
        assert all(address.startswith(url) for address in addresses)


def test_every_route_can_be_used(tmp_path: Path) -> None:
    """Every provider is there, and nothing is warned about: the gateway's own address reaches the simulators."""
    made = configuration(tmp_path)
    assert set(made.accounts) == set(PLUGINS)
    assert made.warnings == ()


def test_everything_is_kept_in_the_folder(tmp_path: Path) -> None:
    """Removing the folder forgets the gateway."""
    made = configuration(tmp_path)
    assert str(tmp_path) in made.settings.store.url
    assert made.settings.artifacts.url.startswith(str(tmp_path))


@pytest.mark.parametrize("speed", [0.01, 1, 10, 1000, 1e6])
def test_any_speed_gives_a_good_configuration(tmp_path: Path, speed: float) -> None:
    """Waits shrink with the vendors' pace and stay inside their ranges."""
    polling = configuration(tmp_path, speed=speed).settings.polling
    assert 0 < polling.delay_min_s <= polling.delay_max_s


def test_a_provider_that_needs_an_account_is_left_out_without_a_simulator() -> None:
    """A third party's plugin without a simulator and with a key to set cannot be used here; it is no error."""
    alone = {name: replace(plugin, simulator=None) for name, plugin in PLUGINS.items()}
    sections = provider_sections({}, alone)
    assert "preview" in sections
    assert not set(sections) & set(SIMULATORS)


@pytest.mark.anyio
async def test_a_first_start_makes_a_key_with_a_budget(tmp_path: Path) -> None:
    """The key works, and even play money has a limit."""
    state = await state_of(tmp_path)
    store = await open_store(configuration(tmp_path).settings.store)
    try:
        caller = await store.read(find_caller, state.key, 2e9)
        assert caller is not None
        budgets = await store.read(budget_states, caller.team_id, 2e9)
        assert [budget.budget.limit_micros for budget in budgets] == [1_000_000_000]
    finally:
        await store.close()


@pytest.mark.anyio
async def test_a_second_start_has_the_same_key_and_secret(tmp_path: Path) -> None:
    """What a developer exported into the shell goes on working."""
    assert await state_of(tmp_path) == await state_of(tmp_path)


@pytest.mark.anyio
async def test_a_lost_database_gives_a_new_key_and_keeps_the_secret(tmp_path: Path) -> None:
    """The key of a database that is gone would be refused by the next."""
    before = await state_of(tmp_path)
    for name in ("vidgate.db", "vidgate.db-wal", "vidgate.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    after = await state_of(tmp_path)
    assert after.key != before.key
    assert after.signing_secret == before.signing_secret


@pytest.mark.anyio
async def test_the_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Mode 0600, also where a careless copy had more."""
    await state_of(tmp_path)
    file = tmp_path / STATE_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    file.chmod(0o644)
    file.write_text(json.dumps(kept | {"key": "vg_unknown"}))
    await state_of(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["", "[]", "{", '{"key": "x"}', '{"signing_secret": "x", "key": "y", "more": 1}'])
async def test_a_state_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    """It is not overwritten in silence: it may hold a key that somebody uses."""
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(CommandError, match=r"dev\.json cannot be read") as caught:
        await state_of(tmp_path)
    assert caught.value.mend.startswith("rm ")
