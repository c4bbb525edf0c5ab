"""A job's document with its files in it: the same JSON as if it had been built whole, of any number and size."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from gateway.api.inline import document_with_files
from gateway.media.artifacts import CHUNK_BYTES, Artifacts

LARGE = bytes(range(256)) * 4096 * 5 + b"xy"


@pytest.mark.parametrize("files", [[b""], [b"a"], [b"ab", b"", b"abc"], [LARGE], [b"first", LARGE, b"last"]])
def test_files_come_in_pieces_that_make_the_document(tmp_path: Path, files: list[bytes]) -> None:
    """No piece is as large as a large file, the length that was told is true, and every file is whole in its place."""

    async def told() -> tuple[int, list[bytes]]:
        artifacts = Artifacts.open(tmp_path)
        kept = [await artifacts.put(file, "video/mp4") for file in files]
        shown: dict[str, Any] = {
            "id": '"}, "data": "',
            "result": {"files": [{"sha256": one.sha256, "url": "/x"} for one in kept], "seed": None},
            "links": {},
        }
        response = await document_with_files(
            artifacts, shown, hold=None, headers={"x-a": "b"}, bytes_max=len(b"".join(files))
        )
        assert isinstance(response, StreamingResponse)
        return int(response.headers["content-length"]), [bytes(one) async for one in response.body_iterator]  # type: ignore[arg-type]

    length, pieces = asyncio.run(told())
    text = b"".join(pieces)
    assert len(text) == length
    found = json.loads(text)
    assert (found["id"], found["links"], found["result"]["seed"]) == ('"}, "data": "', {}, None)
    assert [base64.b64decode(file["data"]) for file in found["result"]["files"]] == files
    assert max(map(len, pieces)) <= 8 * CHUNK_BYTES
