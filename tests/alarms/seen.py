"""What a scraper sees of a running gateway, and what Prometheus makes of it: the chart's rules over real samples."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from gateway.telemetry import files
from gateway.telemetry.alerts import ALERTS
from tests.support.gateway import Gateway
from tests.support.prometheus import check_rules
from tests.unit.tidy import ROOT

RULES = ROOT / files.CHART_FILES / "alerts.yaml"
NAMES = {name for alert in ALERTS for name in re.findall(r"\bvidgate_[a-z_]+", alert.expression)}
KNOWN = {alert.name for alert in ALERTS}
LINE = re.compile(r"(?P<series>(?P<name>vidgate_[a-z_]+)(?:{[^\n]*})?) (?P<value>\S+)")
CAUSED: set[str] = set()
F = TypeVar("F", bound=Callable[..., object])


def causes(*names: str) -> Callable[[F], F]:
    """Says of a test that it causes the condition of these alarms on a running gateway."""
    assert set(names) <= KNOWN, names
    CAUSED.update(names)
    return lambda test: test


@dataclass
class Seen:
    """The samples of a series of scrapes, the first at minute 0; a scrape that failed ends every series of its target.

    `workers` are further targets by their `instance`: GPU workers, which tell figures of their own.
    """

    every_min: int = 1
    workers: Mapping[str, httpx.AsyncClient] = field(default_factory=dict)
    scrapes: list[dict[str, str]] = field(default_factory=list)

    @property
    def minute(self) -> int:
        """The minute of the last scrape."""
        return (len(self.scrapes) - 1) * self.every_min

    async def scrape(self, client: httpx.AsyncClient) -> None:
        """Take one more look."""
        seen = await told(client)
        for instance, worker in self.workers.items():
            for series, value in (await told(worker)).items():
                name, _, labels = series.partition("{")
                seen[f'{name}{{instance="{instance}",{labels or "}"}'] = value
        self.scrapes.append(seen)

    def judge(self, folder: Path, alarm: str, *, quiet_until: int, fires_at: int, over_at: int | None = None) -> None:
        """Have Prometheus evaluate the rules over what was seen, each minute; the alarm goes off just then.

        It was not going off in any minute up to `quiet_until`, does at `fires_at`, and no more at `over_at`.
        """
        firing = f'ALERTS{{alertname="{alarm}",alertstate="firing"}}'
        wanted = [(f"count_over_time({firing}[2d])", quiet_until, 0), (firing, fires_at, 1)]
        if over_at is not None:
            wanted.append((firing, over_at, 0))
        last = max(minute for _, minute, _ in wanted)
        assert last <= self.minute, f"looked for {self.minute} minutes only"
        test = {
            "name": alarm,
            "interval": f"{self.every_min}m",
            "input_series": [{"series": name, "values": values} for name, values in self._series().items()],
            "promql_expr_test": [
                {
                    "expr": f"(count({expression}) > bool 0) or vector(0)",
                    "eval_time": f"{minute}m",
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
                for expression, minute, count in wanted
            ],
        }
        assert check_rules(folder, RULES, [test]) == ""

    def _series(self) -> dict[str, str]:
        """Each series in promtool's notation; where it was not seen any more it is stale."""
        values: defaultdict[str, list[str]] = defaultdict(list)
        for place, scrape in enumerate(self.scrapes):
            for name, value in scrape.items():
                told = values[name]
                told.extend(["_"] * (place - len(told)))
                told.append(value)
            for told in values.values():
                told.extend(["stale"] * (place + 1 - len(told)))
        return {name: " ".join(told) for name, told in values.items()}


async def told(client: httpx.AsyncClient) -> dict[str, str]:
    """The samples on a page of metrics of which an alarm speaks; none where it cannot be had."""
    try:
        response = await client.get("/metrics")
        text = response.text if response.status_code == 200 else ""
    except (httpx.TransportError, RuntimeError):
        text = ""
    found = (match for line in text.splitlines() if (match := LINE.fullmatch(line)))
    return {match["series"]: match["value"] for match in found if match["name"] in NAMES}


@asynccontextmanager
async def watching(
    gateway: Gateway, *, every_min: int = 1, workers: Mapping[str, httpx.AsyncClient] | None = None
) -> AsyncIterator[Seen]:
    """Scrape a gateway, and GPU workers beside it, each minute of its virtual time for the length of the block."""
    seen, began_at = Seen(every_min, workers or {}), gateway.clock.now()

    async def scrape() -> None:
        while True:
            await seen.scrape(gateway.client)
            next_at = began_at + len(seen.scrapes) * every_min * 60
            await gateway.clock.sleep(next_at - gateway.clock.now())

    task = asyncio.create_task(scrape())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def minutes(gateway: Gateway, number: float) -> None:
    """Let so many minutes pass, and the scrape at their end."""
    await gateway.clock.sleep(number * 60 + 1)


async def every_minute(gateway: Gateway, number: int, act: Callable[[], Awaitable[object]]) -> None:
    """Do something once a minute, so many times."""
    for _ in range(number):
        began_at = gateway.clock.now()
        await act()
        await gateway.clock.sleep(max(0.0, began_at + 60 - gateway.clock.now()))
