"""`GET /docs`: the description of the API as a page to read and to try, with nothing from any other origin.

Swagger UI is kept here as its makers released it, held to its digest; its licence lies beside it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from gateway.problems import NotFound
from gateway.service import Service

VERSION = "swagger-ui-dist 5.35.0"
# What was released under that version, by the SHA-256 of each file.
RELEASED = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
    # What the description names as examples of files.
    "example.mp4": "video/mp4",
    "example.png": "image/png",
}
# Nothing but this origin; the style sheet has its pictures in itself. Nobody may put the page into a frame.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


async def page(_request: Request, _service: Service) -> Response:
    """The page. It asks for the description of this deployment by itself."""
    return Response(_asset("page.html")[0], headers=HEADERS, media_type="text/html")


async def asset(request: Request, _service: Service) -> Response:
    """One of the page's own files, by its name. Raises NotFound."""
    name = request.path_params["asset"]
    if name not in MEDIA_TYPES:
        raise NotFound("there is nothing at this address")
    data, etag = _asset(name)
    headers = {"etag": etag, "cache-control": "public, max-age=3600"}
    if etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=MEDIA_TYPES[name])


@cache
def _asset(name: str) -> tuple[bytes, str]:
    """A file and its tag."""
    data = (files(__package__) / "assets" / name).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()}"'
