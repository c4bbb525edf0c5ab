"""The figures of README and docs/routing.md about routing are those that a fresh development stack quotes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx

from gateway.app import Chance, build_app
from gateway.cli.development import DevPlan, dev_configuration, take_state
from gateway.cli.servers import SimulatorPlan, installed, simulators
from gateway.clock import SystemClock
from tests.support.pictures import picture

ROOT = Path(__file__).parents[2]
DEADLINES_S = (120, 60, 40)
FRAMES = "14"
Quotes = dict[int, dict[str, Any]]


class StillClock(SystemClock):
    """A clock that stands, so that a slow machine does not eat into the deadlines."""

    def __init__(self) -> None:
        super().__init__()
        self._began = super().now()

    def now(self) -> float:
        """The time at which it was made."""
        return self._began


async def _quotes(folder: Path) -> Quotes:
    """What `vidgate dev --speed 1` quotes before anything ran on it, by deadline."""
    known = installed()
    where = DevPlan(folder, "http://127.0.0.1:8080", 1.0)
    async with simulators(known, SimulatorPlan(0, 1.0)) as vendors:
        state, configuration = await take_state(folder, lambda secret: dev_configuration(where, vendors, known, secret))
        app = build_app(configuration.settings, chance=Chance(StillClock(), SystemRandom()))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            headers = {"authorization": f"Bearer {state.key}"}
            async with httpx.AsyncClient(transport=transport, base_url=where.url, headers=headers) as http:
                return {deadline_s: await _quote(http, deadline_s) for deadline_s in DEADLINES_S}


async def _quote(http: httpx.AsyncClient, deadline_s: int) -> dict[str, Any]:
    routing = json.dumps({"ignore": ["local"], "deadline_s": deadline_s})
    files = {"image": ("still.png", picture(size=(320, 192)), "image/png")}
    answer = await http.post("/generate/video/quote", files=files, data={"frames": FRAMES, "routing": routing})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _rows(quotes: Quotes, *, scores: bool) -> list[str]:
    """A row of the table for each route that is ranked, in the order of the first deadline."""
    rows = []
    for ranked in quotes[DEADLINES_S[0]]["ranked"]:
        name, time = ranked["route"], _time(quotes[DEADLINES_S[0]], ranked["route"])
        cells = [
            f"`{name}`",
            f"${ranked['price_micros'] / 1e6:.4f}",
            f"{time['p50_s']:.0f} s",
            f"{time['p95_s']:.0f} s",
        ]
        for quote in quotes.values():
            odds = f"{100 * _time(quote, name)['probability_on_time']:.1f} %"
            odds = f"**{odds}**" if quote["ranked"][0]["route"] == name else odds
            score = next(one["score"] for one in quote["ranked"] if one["route"] == name)
            cells.append(f"{odds}, score {score / 1e6:.4f}" if scores else odds)
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _time(quote: dict[str, Any], route: str) -> dict[str, Any]:
    return dict(quote["routes"][route]["time"])


def test_the_quoted_figures_are_those_of_a_fresh_development_stack(tmp_path: Path) -> None:
    """Recomputed from the catalogue, the price book and the router, so that the pages cannot tell of older ones."""
    quotes = asyncio.run(asyncio.wait_for(_quotes(tmp_path), 60))
    for page, scores in (("README.md", False), ("docs/routing.md", True)):
        text = (ROOT / page).read_text(encoding="utf-8")
        shown = [line for line in text.splitlines() if line.startswith("| `") and " s | " in line]
        assert shown == _rows(quotes, scores=scores), page
    refused = {one["route"]: one["reasons"] for one in quotes[DEADLINES_S[0]]["refused"]}
    assert "needs camera_motion" in refused["segmind/motionctrl-svd"][0]
    assert quotes[DEADLINES_S[0]]["routes"]["segmind/motionctrl-svd"]["price_micros"] == 89_300
    assert quotes[DEADLINES_S[0]]["hold_micros"] == 500_000
