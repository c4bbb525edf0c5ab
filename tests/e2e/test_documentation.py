"""The documentation page in a real browser, and its files as they were released."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
import pytest
from PIL import Image

from gateway.api import documentation
from gateway.api.openapi import OPERATIONS
from tests.support.browser import opened
from tests.support.processes import serve_gateway, start_child

ASSETS = Path(documentation.__file__).parent / "assets"
PIXELS_DARK = 500


def test_a_browser_shows_every_operation_and_asks_nobody_else(tmp_path: Path) -> None:
    """Under the page's own policy: no script refused, no request to another origin, and something to see."""
    sections = {
        "security": {"signing_secret": "a secret of the tests, long enough"},
        "store": {"url": f"sqlite:///{tmp_path / 'vidgate.db'}"},
        "artifacts": {"url": str(tmp_path / "artifacts")},
        "providers": {"preview": {}},
    }
    child = start_child(serve_gateway, sections, str(tmp_path / "gateway.log"))
    try:
        seen = opened(f"{child.url}/docs", tmp_path)
        page = httpx.get(f"{child.url}/docs", trust_env=False)
    finally:
        child.kill()
    shown = set(re.findall(r'data-path="([^"]+)"', seen.said))
    assert {one.path for one in OPERATIONS} <= {path.replace("\u200b", "") for path in shown}, seen.said[-2000:]
    assert {url for url in seen.asked_for if not url.startswith(child.url)} == set()
    assert f"{child.url}/openapi.json" in seen.asked_for
    assert "Content Security Policy" not in seen.said, seen.said[-2000:]
    with Image.open(seen.picture) as picture:
        dark = sum(picture.convert("L").histogram()[:128])
    assert dark > PIXELS_DARK
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("name", documentation.RELEASED)
def test_what_is_kept_here_is_what_was_released(name: str) -> None:
    """Not a byte was changed, and the licence is there."""
    assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == documentation.RELEASED[name]
    assert "Apache License" in (ASSETS / "LICENSE").read_text(encoding="utf-8")


def test_the_page_names_no_other_origin() -> None:
    """Neither the page nor its own script has an address of anywhere else."""
    for name in ("page.html", "start.js"):
        assert re.findall(r"https?://|//[a-z]", (ASSETS / name).read_text(encoding="utf-8")) == []
