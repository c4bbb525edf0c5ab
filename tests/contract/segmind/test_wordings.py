"""What is read from words, where the wire gives nothing else: content blocks (trap 34) and the meanings of 406."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from providers.contract import FAULTS, Balance, Failed, FailureKind, InDoubt, Refused
from providers.segmind.catalogue import ENDPOINTS
from tests.contract.segmind.conftest import Answering
from tests.contract.segmind.support import made_request

pytestmark = pytest.mark.anyio

REQUEST_ID = "2c7f59ea-13f1-402c-9353-915a2b5a2124"


async def test_trap_11_one_status_has_several_meanings_and_405_is_html(answering: Answering) -> None:
    """406 is told apart by its text, 404 by the address, 401 has two bodies, 405 is not JSON."""
    texts = {
        "Invalid content type": FailureKind.SERVER_ERROR,
        "Insufficient credits": FailureKind.NO_CREDIT,
        "frames must be one of: 14, 25": FailureKind.INVALID_REQUEST,
        "frames should be one of ['14', '25']": FailureKind.INVALID_REQUEST,
        "Input should be '14' or '25'": FailureKind.INVALID_REQUEST,
        "Invalid scheduler: Foo": FailureKind.INVALID_REQUEST,
        "frames: value '16' is not permitted": FailureKind.INVALID_REQUEST,
        "Foo is not a valid scheduler": FailureKind.INVALID_REQUEST,
        "Team spend limit reached": FailureKind.NO_CREDIT,
        "Team monthly budget exceeded": FailureKind.NO_CREDIT,
        "Your balance is too low": FailureKind.NO_CREDIT,
        "Payment required": FailureKind.NO_CREDIT,
        "Unsupported content type": FailureKind.SERVER_ERROR,
        "You must be one of our customers": FailureKind.SERVER_ERROR,
        "Not Acceptable": FailureKind.SERVER_ERROR,
    }
    for text, kind in texts.items():
        adapter, _ = answering(httpx.Response(406, json={"error": text}))
        outcome = await adapter.submit(made_request("svd"))
        assert isinstance(outcome, Refused)
        assert outcome.kind is kind, text
    adapter, _ = answering(httpx.Response(405, text="<html>"))
    assert isinstance(await adapter.submit(made_request("svd")), Refused)
    missing = httpx.Response(404, json={"error": "?"})
    adapter, _ = answering(missing)
    assert isinstance(await adapter.submit(made_request("svd")), Refused)
    assert await adapter.balance() == Balance(0)
    lost = await adapter.check(ENDPOINTS["segmind/svd"].route, {"request_id": REQUEST_ID})
    assert isinstance(lost, InDoubt)
    assert lost.gone


@pytest.mark.parametrize(
    "text",
    [
        "Input image flagged as NSFW",
        "Blocked by our content policy",
        "Responsible AI check failed",
        "Failed moderation",
        "Request blocked: sensitive or explicit material",
        "Content was blocked by the RAI filter",
        "The image contains nudity",
        "violates our usage policy",
        "violates safety guidelines",
        "RAI: blocked",
        "RAI_BLOCK",
        "The image failed the safety check",
        {"message": "NSFW content detected", "type": "invalid"},
        {"detail": "The render was refused", "code": "content_policy_violation"},
        [{"msg": "RAI: blocked"}],
    ],
)
async def test_trap_34_a_content_block_is_the_callers_and_is_not_shopped_around(
    answering: Answering, text: Any
) -> None:
    """A block has no code, only words in FAILED.error, which may be an object."""
    adapter, _ = answering(httpx.Response(422, json={"status": "FAILED", "error": text, "metrics": {}}))
    outcome = await adapter.check(ENDPOINTS["segmind/svd"].route, {"request_id": REQUEST_ID})
    assert isinstance(outcome, Failed)
    assert FAULTS[outcome.kind] == "caller"


@pytest.mark.parametrize(
    "text",
    [
        "The samurai failed",
        "unsafe memory access",
        "trained model missing",
        "flag --x unknown",
        "The worker failed the safety check of CUDA graph",
        "RAID volume is full",
        "explicitly freed twice",
        {"message": "The worker ran out of memory"},
        {},
        None,
    ],
)
async def test_trap_34_ordinary_failures_are_not_taken_for_content_blocks(answering: Answering, text: Any) -> None:
    """A content block is final, so words that only resemble one must not end a job."""
    adapter, _ = answering(httpx.Response(422, json={"status": "FAILED", "error": text, "metrics": {}}))
    outcome = await adapter.check(ENDPOINTS["segmind/svd"].route, {"request_id": REQUEST_ID})
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.RENDER_FAILED
