"""Taking in a changed configuration while running: on SIGHUP, and when the file or its price book changes.

The new file is read and checked whole first; a bad one changes nothing and says why. What may change while running is
the table `LIVE`; it is swapped in one step between two decisions. The rest is named as needing a restart.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import structlog

from gateway.config import Configuration, check
from gateway.config_errors import ConfigurationError, place
from gateway.media.intake import ImageLimits
from gateway.memory import remember
from gateway.money.prices import PriceBook
from gateway.outbound import FetchLimits
from gateway.parts import Parts
from gateway.planning import Planner
from gateway.settings import Settings
from gateway.shadow import make_routers
from gateway.telemetry import redaction
from providers.contract import ProviderPlugin

log = structlog.get_logger()

WATCH_INTERVAL_S = 2.0
PROVIDERS = "providers"
# What may change while running, by the beginning of its path, and of each provider's own section.
LIVE: tuple[tuple[str, ...], ...] = (
    ("routing",),
    ("retry",),
    ("intake",),
    ("limits",),
    ("overload",),
    ("money",),
    ("polling", "delay_min_s"),
    ("polling", "delay_max_s"),
    ("jobs", "deadline_s"),
    ("jobs", "deadline_max_s"),
    ("jobs", "give_up_s"),
    ("jobs", "in_doubt_s"),
    ("jobs", "running_max"),
    ("jobs", "attempts_max"),
    ("jobs", "crashes_max"),
    ("server", "wait_s_max"),
    ("server", "body_bytes_max"),
    ("server", "body_s"),
    ("server", "body_bytes_per_s_min"),
    ("security", "link_ttl_s"),
)
LIVE_OF_PROVIDER = ("concurrency_max", "requests_per_minute")
# A change of these is a change of what the routers know, which is then learned again from the recorded attempts.
ROUTERS = (("routing", "tuning"), ("routing", "shadow"))
KeyPath = tuple[str, ...]
Outcome = Literal["started", "applied", "needs_restart", "refused"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration is from, and how it is read and checked again (raises ConfigurationError)."""

    file: Path
    read: Callable[[], Configuration]


@dataclass(frozen=True, slots=True)
class ReloadState:
    """What became of the last reading: the paths that took effect, those that wait for a restart, and the faults.

    Its outcome is `needs_restart` where nothing took effect because all that changed waits for one.
    """

    outcome: Outcome
    at: float
    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """The settings in force after a reload, and which paths of the new ones are in them and which are not."""

    settings: Settings
    applied: tuple[KeyPath, ...]
    needs_restart: tuple[KeyPath, ...]


def is_live(path: KeyPath) -> bool:
    """Whether a setting may change while running."""
    if path[0] == PROVIDERS:
        return len(path) == 3 and path[2] in LIVE_OF_PROVIDER
    return any(path[: len(start)] == start for start in LIVE)


def merge(old: Settings, new: Settings) -> Merged:
    """The old settings with everything of the new ones that may change while running."""
    before, after = old.model_dump(), new.model_dump()
    changed = list(_differing(before, after, ()))
    applied = tuple(path for path in changed if is_live(path))
    for path in applied:
        _copy(before, after, path)
    waiting = tuple(path for path in changed if not is_live(path))
    return Merged(Settings.model_validate(before), applied, waiting)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], path: KeyPath) -> Iterator[KeyPath]:
    for name in sorted(old.keys() | new.keys()):
        here = (*path, name)
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differing(before, after, here)
        elif name not in old or name not in new or before != after:
            yield here


def _copy(into: dict[str, Any], source: Mapping[str, Any], path: KeyPath) -> None:
    for name in path[:-1]:
        into, source = into[name], source[name]
    if path[-1] in source:
        into[path[-1]] = source[path[-1]]
    else:
        into.pop(path[-1], None)


class Reloader:
    """Watches one configuration for one running service; `state` says what became of the last reading."""

    def __init__(self, parts: Parts, source: Source, plugins: Mapping[str, ProviderPlugin]) -> None:
        self._parts = parts
        self._source = source
        self._plugins = plugins
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._seen = self._stamp()
        self.counts: dict[Outcome, int] = {"applied": 0, "needs_restart": 0, "refused": 0}
        self.state = ReloadState("started", parts.clock.now())

    def start(self) -> None:
        """Watch from now on; SIGHUP asks for a reading at once."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        self._task = loop.create_task(self._watch(), name="reload")

    async def stop(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def reload(self) -> ReloadState:
        """Read the file now and take in what may change; a bad file leaves everything as it is."""
        try:
            configuration = await asyncio.to_thread(self._source.read)
            merged = merge(self._parts.settings, configuration.settings)
            check(merged.settings, self._plugins, at=self._parts.clock.now())
            prices = _prices(merged.settings)
        except ConfigurationError as error:
            self._refused(error)
            return self.state
        routers = None
        if any(path[:2] in ROUTERS for path in merged.applied):
            routers = make_routers(merged.settings.routing, self._parts.random)
            for fact in await remember(self._parts.store, self._parts.clock.now()):
                routers[0].observe(fact)
                if routers[1] is not None:
                    routers[1].observe(fact)
        if routers is not None:
            self._parts.fleet.router, self._parts.fleet.shadow = routers
        self._swap(merged.settings, prices)
        self._took(merged)
        return self.state

    def _swap(self, settings: Settings, prices: PriceBook) -> None:
        """Put everything in force: no decision can fall between two of these lines, for none of them waits."""
        parts, intake = self._parts, settings.intake
        redaction.learn(settings)
        parts.settings = settings
        parts.inputs = replace(
            parts.inputs,
            limits=ImageLimits(intake.bytes_max, intake.pixels_max, intake.side_max),
            fetch_limits=FetchLimits(intake.bytes_max, settings.outbound.timeout_s),
            link_ttl_s=settings.security.link_ttl_s,
        )
        parts.planner = Planner(parts.fleet, prices, settings.routing, parts.inputs.form)
        retry = settings.retry
        for name, account in parts.fleet.accounts.items():
            section = settings.providers[name]
            account.settings = account.settings.model_copy(update={one: section.get(one) for one in LIVE_OF_PROVIDER})
            account.budget.ratio, account.budget.reserve_per_s = retry.budget_ratio, retry.budget_reserve_per_s
            account.budget.ttl_s = retry.budget_ttl_s

    def _took(self, merged: Merged) -> None:
        applied, waiting = tuple(map(place, merged.applied)), tuple(map(place, merged.needs_restart))
        outcome: Outcome = "needs_restart" if waiting and not applied else "applied"
        self.state = ReloadState(outcome, self._parts.clock.now(), applied, waiting)
        self.counts[outcome] += 1
        if outcome == "applied":
            log.info("configuration.applied", file=str(self._source.file), changed=applied)
        if waiting:
            log.warning("configuration.needs_restart", file=str(self._source.file), settings=waiting)

    def _refused(self, error: ConfigurationError) -> None:
        faults = tuple(problem.text(error.source) for problem in error.problems)
        self.state = ReloadState("refused", self._parts.clock.now(), faults=faults)
        self.counts["refused"] += 1
        log.error("configuration.refused", file=str(self._source.file), faults=faults, kept="the one before")

    async def _watch(self) -> None:
        while True:
            asked = await self._parts.clock.wait(self._asked, WATCH_INTERVAL_S)
            self._asked.clear()
            stamp = self._stamp()
            if asked or stamp != self._seen:
                self._seen = stamp
                await self.reload()

    def _stamp(self) -> tuple[tuple[int, int] | None, ...]:
        """What changes when a watched file does: time of change and size; None for a file that is not there."""
        book = self._parts.settings.money.price_book
        return tuple(_file_stamp(path) for path in (self._source.file, *([book] if book is not None else [])))


def _file_stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _prices(settings: Settings) -> PriceBook:
    book = settings.money.price_book
    return PriceBook.seeded(*([book] if book is not None else []))
