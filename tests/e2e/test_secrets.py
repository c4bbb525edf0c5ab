"""No secret is in a line of the log, a span, a metric or a stored row, whatever goes wrong and however much is logged.

One faulty day on both vendors' simulators over real sockets, with every library at its most talkative, traces on and
metrics scraped. Vendors are nasty here: they repeat keys and addresses in what they answer.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.signatures import new_secret
from gateway.vendor_transport import VendorTransport
from gateway.webhooks import NewWebhook, add_webhook, rotate_webhook
from providers.modelslab.simulator.switches import SANDBOX_KEY as MODELSLAB_KEY
from providers.segmind.simulator.switches import SANDBOX_KEY as SEGMIND_KEY
from providers.serving import listen, serve
from tests.e2e.conftest import Begin
from tests.support.collector import Collector, collecting
from tests.support.gateway import SECRET, database
from tests.support.logs import Logged, logged
from tests.support.vendors import World

pytestmark = pytest.mark.anyio

PROMPT = "a lighthouse that nobody else may read of"
SCRAPER, COLLECTOR_KEY = "scraper-token-0123456789", "collector key/0123456789"
HOOK_PATH, CALLERS_LINK = "hook-path-0123456789", "X-Signature=callers-presigned-0123456789"
VIDEO = {"width": 128, "height": 96}
SEGMIND, MODELSLAB = "segmind/svd", "modelslab/svd"
# Where a secret stands by design (docs/tracing.md): an endpoint's secrets sign what is sent there, and its address is
# what it is sent to.
BY_DESIGN = {("webhooks", "secret"), ("webhooks", "old_secret"), ("webhooks", "url")}
LIBRARIES = ("asyncio", "aiohttp", "alembic", "httpcore", "httpx", "opentelemetry", "PIL", "sqlalchemy", "urllib3")


@pytest.fixture
def log() -> Iterator[Logged]:
    """Everything that anybody logs, down to DEBUG."""
    loggers = [logging.getLogger(name) for name in (*LIBRARIES, *logging.root.manager.loggerDict)]
    levels = [logger.level for logger in loggers]
    with logged(logging.DEBUG) as kept:
        logging.root.setLevel(logging.DEBUG)
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        yield kept
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as taking:
        yield taking


class Hooks:
    """The team's receiver: it fails once, then takes what comes."""

    def __init__(self) -> None:
        self.took = 0
        self.app = Starlette(routes=[Route(f"/{HOOK_PATH}", self.take, methods=["POST"])])

    async def take(self, _request: Request) -> Response:
        self.took += 1
        return Response(status_code=500 if self.took == 1 else 204)


async def faulty_day(world: World) -> list[dict[str, Any]]:
    """Jobs on both vendors through every kind of fault, then one whose vendors repeat secrets in their words."""
    segmind, modelslab = world.segmind, world.modelslab
    jobs = []
    faults = ("429", "500", "502_after_accept", "reset_before_reply", "html_at_200")
    for fault in faults:
        segmind.spoil("submit", fault)
        modelslab.spoil("submit", fault)
        jobs += [await world.made(pin=SEGMIND), await world.made(pin=MODELSLAB, **VIDEO)]
    for fault in ("500", "reset_mid_body"):
        segmind.spoil("status", fault)
        segmind.spoil("file", fault)
        modelslab.spoil("fetch", fault)
        modelslab.spoil("file", fault)
        jobs += [await world.made(pin=SEGMIND), await world.made(pin=MODELSLAB, **VIDEO)]
    jobs.append(await world.made("image", prompt=PROMPT, negative_prompt=PROMPT))
    linked = await world.send(pin=SEGMIND, image=f"{world.site}/picture.png?{CALLERS_LINK}")
    jobs.append(await world.ended(linked.json()["id"]))
    said = f"bad key {SEGMIND_KEY}, see https://files.test/results/secret-result-0123456789.mp4?token=secret-0123456789"
    segmind.tap.instead["/v2/svd"] = deque([JSONResponse({"error": said, "message": said}, 400)])
    jobs.append(await world.made(pin=SEGMIND))
    said = said.replace(SEGMIND_KEY, MODELSLAB_KEY)
    modelslab.tap.instead["/api/v6/video/img2video"] = deque([JSONResponse({"status": "error", "message": said})])
    jobs.append(await world.made(pin=MODELSLAB, **VIDEO))
    return jobs


def secrets_of(world: World, webhook_secrets: list[str]) -> dict[str, str]:
    """Every secret of the day by what it is, those that only the wire knew included."""
    bearer = world.client.headers["authorization"].removeprefix("Bearer ")
    found = {
        "Segmind's key": SEGMIND_KEY,
        "ModelsLab's key": MODELSLAB_KEY,
        "the signing secret": SECRET,
        "the caller's key": bearer,
        "the scraper's token": SCRAPER,
        "the collector's key": COLLECTOR_KEY,
        "the receiver's path": HOOK_PATH,
        "the caller's signed link": CALLERS_LINK,
        "a vendor's word": "secret-result-0123456789",
        "a token in a vendor's word": "secret-0123456789",
    }
    found |= {f"webhook secret {index}": secret for index, secret in enumerate(webhook_secrets)}
    for name, vendor in world.vendors.items():
        files = [path for method, path, _ in vendor.tap.calls if method == "GET" and re.search(r"\.\w{3,4}$", path)]
        assert files, f"nobody fetched a result from {name}"
        found |= {f"result {index} of {name}": path.rpartition("/")[2] for index, path in enumerate(sorted(set(files)))}
    for index, sent in enumerate(world.modelslab.posted("/api/v6/video/img2video")):
        found[f"link to picture {index}"] = sent["init_image"].partition("signature=")[2]
        found[f"callback {index}"] = sent["webhook"].rpartition("/")[2]
    assert all(len(secret) > 8 for secret in found.values()), found
    return found


def leaks(text: str, secrets: dict[str, str]) -> list[str]:
    """What of the secrets a text holds, with the words around it."""
    return [
        f"{name}: ...{text[max(0, at - 160) : at + 60]}"
        for name, secret in secrets.items()
        if (at := text.find(secret)) >= 0
    ]


def stored(path: Path) -> Iterator[tuple[str, str, str]]:
    """Every value of every row: table, column, text."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            yield from (
                (table, column, str(value)) for row in cursor for column, value in zip(columns, row, strict=True)
            )


async def test_no_secret_is_told_or_kept(collector: Collector, log: Logged, begin: Begin, tmp_path: Path) -> None:
    """Every line, span, sample, reply and row of a faulty day is searched for every secret there was."""
    hooks = Hooks()
    listener, url = listen()
    telemetry = {
        "metrics_token": SCRAPER,
        "otlp_endpoint": collector.url,
        "otlp_headers": f"x-key={COLLECTOR_KEY.replace(' ', '%20')}",
    }
    metering = {"usage_webhook": {"url": f"{url}/{HOOK_PATH}", "secret": (usage_secret := new_secret())}}
    client = httpx.AsyncClient(transport=VendorTransport(), trust_env=False)
    async with serve(hooks.app, listener):
        world = await begin(http=client, telemetry=telemetry, money=metering, jobs={"in_doubt_s": 300})
        gateway = world.gateway
        hook = NewWebhook("hook_1", gateway.team_id, f"{url}/{HOOK_PATH}", gateway.clock.now())
        secrets = [await gateway.write(add_webhook, hook), usage_secret]
        secrets.append(await gateway.write(rotate_webhook, "hook_1", gateway.clock.now()))
        jobs = await faulty_day(world)
        await gateway.when(lambda: hooks.took > len(jobs))
        found = secrets_of(world, secrets)
        accept = {"accept": "application/openmetrics-text; version=1.0.0", "authorization": f"Bearer {SCRAPER}"}
        scraped = (await world.client.get("/metrics", headers=accept)).text
        replies = json.dumps(jobs) + (await world.client.get("/webhooks/deliveries")).text
        last = jobs[-1]["trace_id"]
        collector.until(lambda spans: any(span.trace_id == last and span.name == "job" for span in spans))
        known = [
            secret for name, secret in found.items() if name.endswith("key") or name.startswith(("webhook", "the s"))
        ]
        structlog.get_logger().warning("said.last", secrets=known, error=repr(known), url=f"{url}/{HOOK_PATH}")
        bodies = [body.decode("latin-1") for body in collector.bodies]
    await client.aclose()
    assert {"succeeded", "failed"} <= {job["status"] for job in jobs}
    assert sum(len(job["attempts"]) for job in jobs) >= len(jobs)
    assert "DEBUG" in log.text
    assert "sqlalchemy" in log.text
    assert "said.last" in log.text
    assert leaks(log.text, found) == []
    of_jobs = [line for line in log.lines() if "job" in line]
    assert [line for line in of_jobs if not {"team", "trace_id"} <= line.keys()] == []
    assert leaks(scraped, found | {"a prompt": PROMPT}) == []
    assert leaks("".join(bodies), found | {"a prompt": PROMPT}) == []
    assert leaks(replies, {name: one for name, one in found.items() if name != "the receiver's path"}) == []
    kept = [
        f"{table}.{column}: {leak}"
        for table, column, text in stored(database(tmp_path))
        if (table, column) not in BY_DESIGN
        for leak in leaks(text, found)
    ]
    assert kept == []
