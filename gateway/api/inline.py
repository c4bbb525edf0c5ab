"""`output: inline`: a job with its files in it as base64, sent piece by piece so that no file lies in memory."""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.responses import Response, StreamingResponse

from gateway.holds import Hold, while_held
from gateway.media.artifacts import Artifacts

JSON = "application/json"


async def document_with_files(
    artifacts: Artifacts, shown: dict[str, Any], *, hold: Hold | None, headers: Mapping[str, str], bytes_max: int
) -> Response:
    """A job that has a result, with the bytes of its files as `data`.

    All files together may have `bytes_max`; where they have more, and where one is no longer stored, `data` is null
    and the file is had from its `url` alone.
    """
    files = shown["result"]["files"]
    sizes = [await artifacts.size(file["sha256"]) for file in files]
    known = [size for size in sizes if size is not None]
    if not files or len(known) < len(files) or sum(known) > bytes_max:
        for file in files:
            file["data"] = None
        return Response(json.dumps(shown), headers=dict(headers), media_type=JSON)
    between = _between(shown)
    length = sum(map(len, between)) + sum(4 * -(-size // 3) for size in known)
    body = _body(artifacts, between, [file["sha256"] for file in files])
    return StreamingResponse(
        while_held(hold, body), headers={**headers, "content-length": str(length)}, media_type=JSON
    )


def _between(shown: Mapping[str, Any]) -> list[bytes]:
    """The document as what stands before, between and after the base64 of its files, which come last in it."""
    job = {name: value for name, value in shown.items() if name != "result"}
    result = {name: value for name, value in shown["result"].items() if name != "files"}
    opened = [json.dumps({**file, "data": ""}).removesuffix('"}') for file in shown["result"]["files"]]
    first = json.dumps({**job, "result": {**result, "files": []}}).removesuffix("]}}")
    return [text.encode() for text in (first + opened[0], *('"}, ' + one for one in opened[1:]), '"}]}}')]


async def _body(artifacts: Artifacts, between: Sequence[bytes], sha256s: Sequence[str]) -> AsyncIterator[bytes]:
    for before, sha256 in zip(between, sha256s, strict=False):
        yield before
        rest = b""
        async for chunk in artifacts.stream(sha256):
            data = rest + bytes(chunk)
            whole = len(data) - len(data) % 3  # padding is for the end of a file alone
            rest = data[whole:]
            yield b2a_base64(data[:whole], newline=False)
        yield b2a_base64(rest, newline=False)
    yield between[-1]
