"""Every documented status and body, one recorded reply a file, read by the adapter to the outcome beside it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers.contract import FailureKind, InlineFile, RemoteFile, SourceImage
from providers.segmind.adapter import Segmind
from providers.segmind.catalogue import ENDPOINTS
from providers.segmind.outcomes import AMBIGUOUS, REFUSALS
from tests.contract.segmind.conftest import Answering
from tests.contract.segmind.support import made_request, picture

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent.parent / "fixtures" / "segmind"
FIXTURES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}
REQUEST_ID = "2c7f59ea-13f1-402c-9353-915a2b5a2124"


def reply_of(recorded: dict[str, Any]) -> httpx.Response:
    """A recorded reply as the transport sees it."""
    headers = recorded.get("headers", {})
    if "json" in recorded:
        return httpx.Response(recorded["status"], headers=headers, json=recorded["json"])
    body = base64.b64decode(recorded["base64"]) if "base64" in recorded else recorded["text"].encode()
    return httpx.Response(recorded["status"], headers=headers, content=body)


async def outcome_of(call: str, adapter: Segmind) -> Any:
    """What the adapter makes of the reply to this call."""
    token = {"request_id": REQUEST_ID}
    if call in {"submit", "render", "image"}:
        name = {"submit": "svd", "render": "svd-sync", "image": "ssd-img2img"}[call]
        return await adapter.submit(made_request(name))
    if call == "balance":
        return await adapter.balance()
    if call == "upload":
        return await adapter.upload(SourceImage("image/png", 64, 48, data=picture()))  # type: ignore[attr-defined]
    name = {"check": "svd", "check_image": "ssd-img2img-async", "check_sync": "svd-sync"}[call]
    return await adapter.check(ENDPOINTS[f"segmind/{name}"].route, token)


def file_of(file: InlineFile | RemoteFile) -> dict[str, str]:
    """A result as the fixtures write it."""
    if isinstance(file, RemoteFile):
        return {"url": file.url}
    return {"data": base64.b64encode(file.data).decode()}


@pytest.mark.parametrize("name", FIXTURES)
async def test_a_recorded_reply_becomes_its_typed_outcome(name: str, answering: Answering) -> None:
    """The outcome's type and every field that the fixture names are exactly as written there."""
    fixture = FIXTURES[name]
    adapter, _ = answering(*map(reply_of, fixture["replies"]), upload=fixture["call"] == "upload")
    outcome = await outcome_of(fixture["call"], adapter)
    expected = dict(fixture["outcome"])
    assert type(outcome).__name__ == expected.pop("type"), outcome
    if "value" in expected:
        assert outcome == expected.pop("value")
    if "files" in expected:
        assert [file_of(file) for file in outcome.files] == expected.pop("files")
    for field, value in expected.pop("report", {}).items():
        assert getattr(outcome.report, field) == value, field
    for field, value in expected.items():
        assert getattr(outcome, field) == value, field


def test_every_status_of_the_table_has_a_recorded_reply() -> None:
    """A status cannot be added to the table without a recorded reply for it."""
    submits = [fixture for fixture in FIXTURES.values() if fixture["call"] in {"submit", "render"}]
    recorded = {reply["status"] for fixture in submits for reply in fixture["replies"]}
    assert recorded >= set(REFUSALS) | AMBIGUOUS | {200}


def test_every_fixture_names_its_source_and_a_known_kind() -> None:
    """A recorded reply says where the fact is from, and names failures by the contract's own words."""
    for name, fixture in FIXTURES.items():
        assert fixture["source"], name
        if "kind" in fixture["outcome"]:
            assert FailureKind(fixture["outcome"]["kind"])
