"""An event outlives the process that wrote it: killed between commit and send, and in the middle of a send."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.settings import StoreSection
from gateway.signatures import signature
from gateway.store.database import open_store
from gateway.store.schema_events import webhook_deliveries
from gateway.webhooks import NewWebhook, add_webhook
from tests.support.pictures import picture_base64
from tests.support.processes import Stand, stand

SWITCHES = {
    "latency": {"svd": {"kind": "constant", "mean_s": 0.1}},
    "queue": {"kind": "constant", "mean_s": 0.0},
}
SECTIONS = {"outbound": {"allow_hosts": ["127.0.0.1"]}}


class Receiver(ThreadingHTTPServer):
    """Keeps every request; while `holds` is set it takes them and does not answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.holds = threading.Event()
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/in"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        if self.server.holds.is_set():
            self.connection.recv(1)  # until the sender is gone
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing: the test reads what was kept."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


async def listen(folder: Path, team_id: str, url: str) -> str:
    """Make the team's endpoint; its secret."""
    store = await open_store(StoreSection(url=f"sqlite:///{folder / 'vidgate.db'}"))
    secret = await store.write(add_webhook, NewWebhook("hook_1", team_id, url, 1.0, ("job.succeeded",)))
    await store.close()
    return secret


def told(running: Stand) -> dict[str, int]:
    """The deliveries by their state; read while no gateway runs."""
    with running.books() as connection:
        query = select(webhook_deliveries.c.state, func.count()).group_by(webhook_deliveries.c.state)
        return {row[0]: row[1] for row in connection.execute(query)}


@pytest.mark.parametrize("moment", ["before the send", "in the send"])
def test_an_event_is_sent_by_the_next_process_under_its_id(tmp_path: Path, moment: str) -> None:
    """SIGKILL once the job's end is committed: the event is there, and is sent with a signature that holds."""
    with receiving() as receiver, stand(tmp_path, switches=SWITCHES, sections=SECTIONS) as running:
        secret = asyncio.run(listen(tmp_path, running.team_id, receiver.url))
        receiver.holds.set()
        gateway = running.start()
        job_id = str(running.client.post("/generate/video", json={"image": picture_base64()}).json()["id"])
        running.ended(job_id)
        if moment == "in the send":
            running.until(lambda: bool(receiver.got))
        gateway.kill()
        assert told(running) == {"pending": 1}
        before = list(receiver.got)
        receiver.holds.clear()
        again = running.start()
        running.until(lambda: len(receiver.got) > len(before))
        assert again.stop() == 0
        assert told(running) == {"delivered": 1}
        assert len({sent["webhook-id"] for sent, _ in receiver.got}) == 1
        assert len({body for _, body in receiver.got}) == 1
        for sent, body in receiver.got:
            signed = signature(secret, sent["webhook-id"], int(sent["webhook-timestamp"]), body)
            assert signed == sent["webhook-signature"]
