"""A gateway for one developer: embedded parts in one folder, simulated vendors, a key that is made once."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from sqlalchemy import Connection

import gateway
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.clock import SystemClock
from gateway.config import Configuration, check
from gateway.ids import Ids
from gateway.keys import NewKey, create_key, find_caller
from gateway.money.budgets import Budget, set_budget
from gateway.money.windows import WindowKind
from gateway.settings import Settings
from gateway.store.database import open_store
from providers.contract import ProviderPlugin

TEAM = "development"
BUDGET_MICROS = 1_000_000_000
STATE_FILE = "dev.json"
SCENE = Path(gateway.__file__).parents[1] / "examples" / "scene.py"
SETTLE_S = 2.0
POLL_MAX_S = 15.0


@dataclass(frozen=True, slots=True)
class DevState:
    """What is kept between runs: the secret that signs links, and the developer's key."""

    signing_secret: str
    key: str


@dataclass(frozen=True, slots=True)
class DevPlan:
    """Where a development gateway listens and keeps its things, how fast its vendors are, and what it adds."""

    folder: Path
    url: str
    speed: float
    margin_percent: int = 0


def dev_configuration(
    plan: DevPlan, simulators: Mapping[str, str], plugins: Mapping[str, ProviderPlugin], signing_secret: str
) -> Configuration:
    """Settings of a gateway on embedded parts whose vendors are the simulators and nobody else.

    Waits that suit a vendor's pace are divided by the speed of simulators that are faster than life.
    """
    address, pace = urlsplit(plan.url), max(1.0, plan.speed)
    sections: dict[str, dict[str, Any]] = {
        "server": {"host": address.hostname, "port": address.port, "public_base_url": plan.url, "drain_s": 5},
        "store": {"url": f"sqlite:///{plan.folder / 'vidgate.db'}"},
        "artifacts": {"url": str(plan.folder / "artifacts")},
        "security": {"signing_secret": signing_secret},
        "providers": provider_sections(simulators, plugins),
        "outbound": {"allow_hosts": [urlsplit(url).netloc for url in simulators.values()]},
        "money": {"margin_percent": plan.margin_percent, "show_cost": True},
        "retry": {"verify_settle_s": SETTLE_S / pace},
        "polling": {"delay_min_s": 0.1, "delay_max_s": max(0.2, POLL_MAX_S / pace)},
    }
    return check(Settings.model_validate(sections), plugins, at=SystemClock().now())


def provider_sections(
    simulators: Mapping[str, str], plugins: Mapping[str, ProviderPlugin]
) -> dict[str, dict[str, Any]]:
    """The configuration of every provider that needs no account: the simulated ones, and those without a vendor."""
    sections: dict[str, dict[str, Any]] = {}
    for name, plugin in plugins.items():
        if name in simulators:
            section = plugin.simulator_settings(simulators[name]) if plugin.simulator_settings else {}
            sections[name] = dict(section)
        elif plugin.simulator is None and _needs_nothing(plugin):
            sections[name] = {}
    return sections


def _needs_nothing(plugin: ProviderPlugin) -> bool:
    try:
        plugin.settings.model_validate({})
    except ValidationError:
        return False
    return True


async def take_state(folder: Path, configure: Any) -> tuple[DevState, Configuration]:
    """The kept state of a folder, made where it is missing; the key is one that the folder's database knows.

    `configure` makes the configuration from a signing secret.
    """
    file = folder / STATE_FILE
    kept = _read_state(file)
    signing_secret = kept.signing_secret if kept else secrets.token_urlsafe(32)
    configuration: Configuration = configure(signing_secret)
    store = await open_store(configuration.settings.store)
    try:
        key = await store.write(_known_key, kept.key if kept else "")
    finally:
        await store.close()
    state = DevState(signing_secret, key)
    if state != kept:
        _write_state(file, state)
    return state, configuration


def _known_key(connection: Connection, kept: str) -> str:
    """The kept key when the database knows it, else a new one for the development team, with a budget."""
    clock = SystemClock()
    now = clock.now()
    if kept and find_caller(connection, kept, now) is not None:
        return kept
    ids = Ids(clock)
    _, team_id, secret = create_key(connection, ids, NewKey(TEAM, "vidgate dev", now))
    set_budget(connection, Budget(ids.new("budget"), team_id, WindowKind.MONTH, limit_micros=BUDGET_MICROS), now)
    return secret


def _read_state(file: Path) -> DevState | None:
    try:
        return DevState(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(ExitCode.USAGE, f"{file} cannot be read: {error}", f"rm {file}") from error


def _write_state(file: Path, state: DevState) -> None:
    """Write the secrets readable by their owner alone, from the first byte on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        os.fchmod(descriptor, 0o600)
        json.dump(asdict(state), out, indent=2)


def draw_scene(folder: Path) -> Path | None:
    """A picture to try things with, drawn once by the script among the examples; None where that is not installed."""
    picture = folder / "scene.png"
    spec = importlib.util.spec_from_file_location("scene", SCENE)
    if picture.exists():
        return picture
    if not SCENE.exists() or spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder.mkdir(parents=True, exist_ok=True)
    module.draw_scene().save(picture)
    return picture
