"""Renders previews. It never accepts anything for later: a submit answers with the finished clip or a refusal."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from providers.capability import Route
from providers.contract import (
    CheckOutcome,
    FailureKind,
    Finished,
    InDoubt,
    InlineFile,
    Json,
    ProviderSettings,
    Refused,
    RenderRequest,
    Report,
    SubmitOutcome,
    Token,
    Tools,
    chosen_routes,
)
from providers.preview.catalogue import CATALOGUE, PROVIDER, SIDE_PX_MAX
from providers.preview.label import labelled
from providers.rendering import camera_move, encode

WIDE = 16 / 9
# The gateway hands over pictures that it has cleaned, so these mean a fault of the caller of this adapter.
_UNREADABLE = (OSError, SyntaxError, ValueError, KeyError, TypeError, Image.DecompressionBombError)


class Settings(ProviderSettings):
    """A preview needs no account."""


class Preview:
    """The preview provider. Clips are drawn on worker threads, so the event loop never waits for pixels."""

    name = PROVIDER

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Render the clip and answer with it; INVALID_REQUEST when picture or parameters cannot be used."""
        if request.image.data is None:
            return Refused(FailureKind.INVALID_REQUEST, "the preview needs the picture's bytes")
        try:
            clip = await asyncio.to_thread(render, request.image.data, request.parameters)
        except _UNREADABLE as error:
            return Refused(FailureKind.INVALID_REQUEST, f"the preview cannot be drawn: {type(error).__name__}: {error}")
        return Finished((InlineFile(clip),), Report(cost_micros=0, model=request.route.model))

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Answer that no such render is known: every submit has already been answered in full."""
        del route, token
        return InDoubt("a preview is drawn at once and leaves nothing to ask about", gone=True)


def build(settings: Any, tools: Tools) -> Preview:
    """Make the provider from its configuration section."""
    del tools
    return Preview(chosen_routes(settings, CATALOGUE))


def render(data: bytes, parameters: Mapping[str, Json]) -> bytes:
    """Draw the clip as MP4 from the picture's bytes and the route's parameters."""
    asked: Mapping[str, Any] = parameters
    with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as opened:
        picture = opened.convert("RGB")
    frames = camera_move(
        picture,
        move=asked["camera_motion"],
        speed=float(asked.get("camera_speed", 1.0)),
        num_frames=int(asked["num_frames"]),
        size=frame_size(picture.size, asked),
    )
    return encode(labelled(frames), fps=int(asked["fps"]))


def frame_size(picture: tuple[int, int], parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels, both even: as asked, else the picture's shape or 16:9, within the route's box."""
    if "width" in parameters and "height" in parameters:
        return int(parameters["width"]), int(parameters["height"])
    width, height = picture
    if parameters.get("resize") == "crop_16_9":
        width, height = min(width, round(height * WIDE)), min(height, round(width / WIDE))
    scale = min(1.0, SIDE_PX_MAX / max(width, height))
    return max(2, round(width * scale) & ~1), max(2, round(height * scale) & ~1)
