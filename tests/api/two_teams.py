"""Two teams that play with everything of each other's they can name, and a watch over what either is told.

Every call is drawn from the table of routes: a new route takes part by itself, and one whose path has a name that the
players do not know fails. What belongs to a team is read from the database, not from replies: its ids, prompts' place
(metadata), hashes of files, secrets' beginnings, addresses and amounts. A reply to one team that holds anything of the
other's, beyond what its own request had named, is a cross read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
from sqlalchemy import Connection, select
from starlette.routing import Route

from gateway import webhooks
from gateway.api import openapi
from gateway.api.pages import cursor_of
from gateway.app import ROUTES
from gateway.keys import NewKey, create_key
from gateway.money.budgets import Budget, set_budget
from gateway.money.windows import WindowKind
from gateway.scopes import NEEDED, Scope
from gateway.store.schema import attempts, jobs, keys
from gateway.store.schema_events import webhook_deliveries
from gateway.store.schema_events import webhooks as endpoints
from gateway.store.schema_money import budgets, holds
from gateway.webhooks import NewWebhook
from tests.support.gateway import BASE_URL, Gateway
from tests.support.pictures import picture

# Told to whoever operates the service, and kept from strangers by a token of its own (telemetry.metrics_token).
OPERATORS = frozenset({"/metrics"})
JOBS_MAX = 60
DESCRIPTION = "/openapi.json"  # the figures of its examples are nobody's and the same to all
REFRESH_CALLS = 20
PRICES = ("price_micros", "spent_micros", "total_micros", "held_micros")
PATHS = [route for route in ROUTES if isinstance(route, Route) and route.path not in OPERATORS]


class CrossReadError(AssertionError):
    """One team was told something of the other's, or that it is there."""


@dataclass
class Team:
    """A player: its key, the marks by which all that is its own is known, and what it has by now."""

    name: str
    price_micros: int
    limit_micros: int
    frames: int
    size: tuple[int, int]
    team_id: str = ""
    key_id: str = ""
    header: dict[str, str] = field(default_factory=dict)
    facts: set[str] = field(default_factory=set)
    job_ids: list[str] = field(default_factory=list)
    attempt_ids: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """What its metadata says."""
        return f"lantern-of-{self.name}"

    @property
    def amounts(self) -> re.Pattern[str]:
        """Its price and its limit, as micro-USD or dollars, standing alone."""
        dollars = f"{self.price_micros / 1e6:.4f}".replace(".", r"\.")
        return re.compile(rf"(?<![\d.])(?:{self.price_micros}|{self.limit_micros}|{dollars})(?!\d)")


def players() -> tuple[Team, Team]:
    """Prices, limits, clips and pictures of one are none of the other's."""
    return (
        Team("vermilion", 113_700, 77_345_671, 5, (64, 48)),
        Team("celadon", 107_300, 88_456_781, 6, (72, 48)),
    )


@dataclass
class Game:
    """The two at play. `tally` counts the calls by what they were about and how they were answered."""

    gateway: Gateway
    teams: tuple[Team, Team]
    random: Random
    client: httpx.AsyncClient = field(init=False)
    tally: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # No check of replies against the description here: this is about what they hold.
        transport = httpx.ASGITransport(self.gateway.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url=BASE_URL, trust_env=False)

    async def begin(self) -> None:
        """Make the teams, each with a plan, a budget, a webhook, and jobs that have ended and that go on."""
        for team in self.teams:
            await self.gateway.write(self._found, team)
            for number in range(3):
                response = await self.client.post("/generate/video", headers=team.header, json=self._order(team))
                assert response.status_code == 202, response.text
                if number < 2:
                    job_id = response.json()["id"]
                    await self.client.get(f"/jobs/{job_id}", headers={**team.header, "prefer": "wait=60"})
        await self.refresh()

    def _found(self, connection: Connection, team: Team) -> None:
        at, ids = self.gateway.clock.now(), self.gateway.service.parts.ids
        percent = (team.price_micros - 100_000) / 1_000
        new = NewKey(team.name, f"{team.mark}-key", at, plan={"percent": f"{percent:g}"})
        team.key_id, team.team_id, secret = create_key(connection, ids, new)
        team.header = {"authorization": f"Bearer {secret}"}
        budget = Budget(ids.new("budget"), team.team_id, WindowKind.MONTH, limit_micros=team.limit_micros)
        set_budget(connection, budget, at)
        hook = NewWebhook(ids.new("hook"), team.team_id, f"https://hook.test/{team.mark}", at)
        webhooks.add_webhook(connection, hook)

    async def refresh(self) -> None:
        """Read anew what belongs to whom."""
        for team in self.teams:
            await self.gateway.read(_learn, team)
        mine, theirs = self.teams
        shared = mine.facts & theirs.facts
        assert not shared, f"the marks do not tell the teams apart: {shared}"

    async def play(self, calls: int) -> None:
        """So many calls, each by one of the two."""
        for number in range(calls):
            if number % REFRESH_CALLS == 0:
                await self.refresh()
            me, other = self.random.sample(self.teams, 2)
            await self.call(me, other)

    async def call(self, me: Team, other: Team) -> None:
        """One call, and a look at everything in its reply."""
        route = self.random.choice(PATHS)
        verb = self.random.choice(sorted(route.methods or {"GET"}))
        names = {name: self._fill(name, me, other) for name in re.findall(r"\{(\w+)\}", route.path)}
        path = route.path.format(**{name: value for name, (value, _) in names.items()})
        request = self.client.build_request(
            verb,
            path,
            params=_taken(route, verb, self._query(me, other)),
            headers=self._headers(me, other),
            json=self._body(route, verb, me),
        )
        response = await self.client.send(request)
        foreign = any(is_theirs for _, is_theirs in names.values())
        self.tally["calls"] += 1
        self.tally[f"{response.status_code // 100}xx"] += 1
        self.tally["named something of the other's in the path"] += foreign
        self._look(request, response, me, other)
        if foreign and NEEDED.get(route.path, Scope.ADMIN) is not Scope.ADMIN and response.status_code != 404:
            raise CrossReadError(f"{verb} {path} is told {response.status_code}: that it is there")
        if response.status_code >= 500:
            raise AssertionError(f"{verb} {request.url}: {response.text}")

    def _look(self, request: httpx.Request, response: httpx.Response, me: Team, other: Team) -> None:
        asked = (
            f"{request.url} {dict(request.headers)} {request.content!r} {_decoded(request.url.params.get('cursor'))}"
        )
        kind = response.headers.get("content-type", "")
        is_text = kind.startswith(("application/json", "application/problem+json", "text/"))
        body = response.text if is_text else hashlib.sha256(response.content).hexdigest()
        told = f"{body} {dict(response.headers)} {_cursors(body)}"
        found = [fact for fact in other.facts if fact in told and fact not in asked]
        found += [match for match in other.amounts.findall(told) if match not in asked]
        if "json" in kind and body and request.url.path != DESCRIPTION:
            found += list(_mixed(json.loads(body), me.price_micros))
        if found:
            raise CrossReadError(f"{request.method} {request.url} as {me.name} is told {found[:5]} of {other.name}")

    def _fill(self, name: str, me: Team, other: Team) -> tuple[str, bool]:
        """A value for a name in a path, and whether it is the other's; mostly it is."""
        owner = other if self.random.random() < 0.7 else me
        pools = {
            "job_id": owner.job_ids, "attempt_id": owner.attempt_ids, "name": owner.inputs,
            "team_id": [owner.team_id], "key_id": [owner.key_id],
            "token": [self._token(me, owner), "0" * 32], "number": ["0", "1"], "asset": ["start.js", "nothing.js"],
        }  # fmt: skip
        is_theirs = owner is other and bool(pools[name]) and name not in {"token", "number", "asset"}
        return self.random.choice(pools[name] or ["none"]), is_theirs

    def _token(self, me: Team, owner: Team) -> str:
        """A signature that is good for something else of one's own."""
        links = self.gateway.service.parts.inputs.links
        return links.sign("callback", me.attempt_ids[0] if me is not owner and me.attempt_ids else "none")

    def _query(self, me: Team, other: Team) -> dict[str, str]:
        """Names that some route takes, with values of the other's; every route is given any of them."""
        links, pick = self.gateway.service.parts.inputs.links, self.random.choice
        expires = str(int(self.gateway.clock.now()) + 600)
        offered = {
            "before": pick([*other.job_ids, *me.job_ids, "zzz"]), "limit": pick(["1", "5", "100"]),
            "group_by": pick(["key", "route", "day", "tag:project", "key,route,day,tag:project"]),
            "since": "2020-01-01", "until": "2099-01-01", "format": pick(["json", "csv"]), "file": pick(["0", "1"]),
            "state": pick(["pending", "delivered", "failed"]), "team_id": other.team_id, "team": other.team_id,
            "key_id": other.key_id, "key": other.key_id, "metadata[project]": other.mark, "route": "alpha/one",
            "target": other.key_id, "act": "key.create", "status": "succeeded",
            "after": pick([*other.job_ids, "0"]), "cursor": self._cursor(other), "expires": expires,
            "signature": pick([
                links.sign("input", pick(me.inputs or ["none"]), expires),
                links.sign("result", pick(me.job_ids or ["none"]), "0", expires),
            ]),
        }  # fmt: skip
        return {name: value for name, value in offered.items() if self.random.random() < 0.25}

    def _cursor(self, other: Team) -> str:
        """A place in the other's lists, in each of the forms that cursors have."""
        at = self.gateway.clock.now()
        hooks = sorted(fact for fact in other.facts if fact.startswith("hook_"))
        return cursor_of(self.random.choice([(self.random.choice(other.job_ids),), (at, "evt_0", hooks[0])]))

    def _headers(self, me: Team, other: Team) -> dict[str, str]:
        pick = self.random.choice
        offered = {
            "idempotency-key": pick([*other.once, *me.once, f"once-{me.name}-{self.random.randrange(10)}"]),
            "last-event-id": pick(["0.0", "1.1", "end", pick(other.job_ids)]),
            "prefer": pick(["wait=1", "respond-async"]),
            "range": "bytes=0-99",
            "if-none-match": pick(['"x"', *(f'"{fact}"' for fact in other.facts if len(fact) == 64)]),
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "x-vidgate-team": other.team_id,
        }
        sent = {name: value for name, value in offered.items() if self.random.random() < 0.3}
        key = sent.get("idempotency-key", "")
        if key and not self.random.randrange(4) and key not in me.once:
            me.once.append(key)
        return {**me.header, **sent}

    def _body(self, route: Route, verb: str, me: Team) -> dict[str, Any] | None:
        if verb != "POST":
            return None
        if not route.path.startswith("/generate"):
            return {}
        full = len(me.job_ids) >= JOBS_MAX and not route.path.endswith("/quote")
        # Too many jobs make a call slow: then what is posted is refused after it was authorised and read.
        return {**self._order(me), **({"no_such_field": 1} if full else {})}

    def _order(self, team: Team) -> dict[str, Any]:
        """A request whose picture, clip and tags are the team's alone; of a few forms, so that keys can be repeated."""
        image = base64.b64encode(picture("PNG", team.size)).decode()
        fps = self.random.choice([5, 7])
        return {"image": image, "num_frames": team.frames, "fps": fps, "metadata": {"project": team.mark}}


def _taken(route: Route, verb: str, offered: dict[str, str]) -> dict[str, str]:
    """What an address with a key takes of a query: the rest would be refused before anything is looked at."""
    known = openapi.query_of(verb, route.path)
    return {name: text for name, text in offered.items() if route.path not in NEEDED or name.partition("[")[0] in known}


def _cursors(body: str) -> str:
    """What stands in the cursors of a reply."""
    return " ".join(_decoded(cursor) for cursor in re.findall(r'"next_cursor": "([\w-]+)"', body))


def _decoded(cursor: str | None) -> str:
    """What stands in a cursor."""
    padded = (cursor or "") + "=" * (-len(cursor or "") % 4)
    return base64.urlsafe_b64decode(padded).decode(errors="replace")


def _mixed(value: Any, price_micros: int) -> Iterator[str]:
    """Sums that are not made of the team's own price alone."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in PRICES and isinstance(inner, int) and inner % price_micros:
                yield f"{name} {inner}"
            yield from _mixed(inner, price_micros)
    elif isinstance(value, list):
        for inner in value:
            yield from _mixed(inner, price_micros)


def _learn(connection: Connection, team: Team) -> None:
    """Everything in the database by which the team can be known."""
    of_team = select(jobs.c.id, jobs.c.input, jobs.c.result).where(jobs.c.team_id == team.team_id)
    found = connection.execute(of_team.order_by(jobs.c.id)).all()
    team.job_ids = [row.id for row in found]
    own = select(attempts.c.id).join(jobs, jobs.c.id == attempts.c.job_id).where(jobs.c.team_id == team.team_id)
    team.attempt_ids = list(connection.execute(own).scalars())
    hashes = {row.input["sha256"] for row in found}
    team.inputs = [f"{one}.png" for one in sorted(hashes)]
    for row in found:
        hashes |= {file["sha256"] for file in (row.result or {"files": []})["files"]}
    told = select(webhook_deliveries.c.event_id).join(endpoints, endpoints.c.id == webhook_deliveries.c.webhook_id)
    statements = [
        select(holds.c.id).where(holds.c.team_id == team.team_id),
        select(budgets.c.id).where(budgets.c.team_id == team.team_id),
        select(endpoints.c.id).where(endpoints.c.team_id == team.team_id),
        select(endpoints.c.secret).where(endpoints.c.team_id == team.team_id),
        select(keys.c.id).where(keys.c.team_id == team.team_id),
        select(keys.c.hash).where(keys.c.team_id == team.team_id),
        select(keys.c.prefix).where(keys.c.team_id == team.team_id),
        told.where(endpoints.c.team_id == team.team_id),
    ]
    ids = {value for statement in statements for value in connection.execute(statement).scalars()}
    team.facts = {*team.job_ids, *team.attempt_ids, *hashes, *ids, team.team_id, team.name, team.mark}
