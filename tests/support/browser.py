"""A real browser for the tests: the Chromium on the PATH, without a window, which may reach this machine alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.prometheus import bounded

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_S = 90.0
SETTLE_MS = 15_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of opening a page: what the browser said, a picture, and the addresses that the page asked for.

    What it said ends with the document as it had settled.
    """

    said: str
    picture: Path
    asked_for: list[str]


def opened(url: str, folder: Path) -> Seen:
    """Open a page. Skips the test, with the reason, where there is no browser."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium on the PATH: on Debian, apt-get install chromium")
    picture, log = folder / "page.png", folder / "net.json"
    command = [
        program,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={folder / 'profile'}",
        f"--log-net-log={log}",
        *("--enable-logging=stderr", "--log-level=0"),
        *("--window-size=1280,1600", f"--virtual-time-budget={SETTLE_MS}"),
        *(f"--screenshot={picture}", "--dump-dom", url),
    ]
    done = bounded(command, folder, TIMEOUT_S)
    assert picture.exists(), done.said[-2000:]
    asked_for = _asked_for(json.loads(log.read_text(encoding="utf-8")), url.rpartition("/")[0])
    return Seen(done.said, picture, asked_for)


def _asked_for(log: dict[str, Any], origin: str) -> list[str]:
    """What the page asked for, by the browser's own log; what the browser asks for itself has no origin."""
    facts = [event.get("params", {}) for event in log["events"]]
    return sorted({one["url"] for one in facts if one.get("initiator") == origin and "url" in one})
