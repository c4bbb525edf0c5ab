"""Imported by the process that gateways are forked from: one rehearsal loads all that is otherwise loaded at a start.

A gateway that is killed and started a hundred times would spend most of its life importing.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import structlog

from gateway.app import build_app
from gateway.settings import Settings


async def _rehearse(folder: Path) -> None:
    sections = {
        "security": {"signing_secret": "a secret of the rehearsal, long enough"},
        "store": {"url": f"sqlite:///{folder / 'vidgate.db'}"},
        "artifacts": {"url": str(folder / "artifacts")},
        "providers": {"preview": {}},
    }
    app = build_app(Settings.model_validate(sections))
    async with app.router.lifespan_context(app):
        pass


with tempfile.TemporaryDirectory() as made, structlog.testing.capture_logs():
    asyncio.run(_rehearse(Path(made)))
