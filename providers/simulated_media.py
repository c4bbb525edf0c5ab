"""Pictures in and clips out for vendor simulators: inputs are really read, results are real playable files."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx
from PIL import Image

from providers.rendering import camera_move, encode

PICTURE_BYTES_MAX = 32 * 1024 * 1024
PICTURE_PIXELS_MAX = 50_000_000
FETCH_TIMEOUT_S = 20.0
FETCH_HOPS_MAX = 3
CACHE_CLIPS_MAX = 128

PictureFault = Literal["unreachable", "redirect", "too_large", "not_base64", "prefix", "not_a_picture"]


class BadPictureError(Exception):
    """The input picture could not be had; `reason` says why."""

    def __init__(self, reason: PictureFault) -> None:
        super().__init__(reason)
        self.reason: PictureFault = reason


@dataclass(frozen=True, slots=True)
class PictureRules:
    """How a vendor takes a picture: does it follow redirects, does it accept base64 and a `data:` prefix, how large."""

    follows_redirects: bool = False
    accepts_data_uri: bool = True
    accepts_base64: bool = True
    pixels_max: int = PICTURE_PIXELS_MAX


async def read_picture(value: object, http: httpx.AsyncClient, rules: PictureRules) -> bytes:
    """The bytes of a picture given as http(s) URL, base64 or data URI; really fetched, really decoded.

    Raises BadPictureError.
    """
    if not isinstance(value, str) or not value:
        raise BadPictureError("not_a_picture")
    if value.startswith(("http://", "https://")):
        data = await _fetch(value, http, hops=FETCH_HOPS_MAX if rules.follows_redirects else 0)
    else:
        data = _decode(value, rules)
    if not await asyncio.to_thread(_is_picture, data, rules.pixels_max):
        raise BadPictureError("not_a_picture")
    return data


async def _fetch(url: str, http: httpx.AsyncClient, *, hops: int) -> bytes:
    data = bytearray()
    try:
        async with http.stream("GET", url, follow_redirects=False, timeout=FETCH_TIMEOUT_S) as response:
            if response.is_redirect:
                if not hops or response.next_request is None:
                    raise BadPictureError("redirect")
                following = str(response.next_request.url)
            elif response.status_code != 200:
                raise BadPictureError("unreachable")
            else:
                async for chunk in response.aiter_bytes():
                    data.extend(chunk)
                    if len(data) > PICTURE_BYTES_MAX:
                        raise BadPictureError("too_large")
                return bytes(data)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadPictureError("unreachable") from error
    return await _fetch(following, http, hops=hops - 1)


def _decode(text: str, rules: PictureRules) -> bytes:
    if text.startswith("data:"):
        if not rules.accepts_data_uri:
            raise BadPictureError("prefix")
        text = text.partition(",")[2]
    elif not rules.accepts_base64:
        raise BadPictureError("not_base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPictureError("not_base64") from error


def _is_picture(data: bytes, pixels_max: int) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > pixels_max:
                return False
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False
    return True


@dataclass(frozen=True, slots=True)
class ClipOrder:
    """What a clip is to look like: the move and its speed, the frames, their rate and size, and the container."""

    num_frames: int
    fps: int
    size: tuple[int, int]
    move: str = "zoom_in"
    speed: float = 1.0
    container: str = "mp4"


class Clips:
    """Renders clips in a worker thread and remembers them."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    async def render(self, picture: bytes, order: ClipOrder, *, cached: bool = False) -> bytes:
        """A playable file made from a picture; `cached` gives one per frame count and rate, whatever the picture."""
        if cached:
            return await self._remembered((order.num_frames, order.fps, order.container), lambda: _clip(picture, order))
        return await self._remembered((hashlib.sha256(picture).digest(), order), lambda: _clip(picture, order))

    async def _remembered(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        clip = await asyncio.to_thread(make)
        self._made[key] = clip
        while len(self._made) > CACHE_CLIPS_MAX:
            self._made.popitem(last=False)
        return clip


def _clip(picture: bytes, order: ClipOrder) -> bytes:
    with Image.open(io.BytesIO(picture)) as image:
        frames = camera_move(
            image.convert("RGB"), move=order.move, speed=order.speed, num_frames=order.num_frames, size=order.size
        )
        return encode(frames, fps=order.fps, container=order.container)


def fitted_size(picture: bytes, *, long_side: int, multiple: int) -> tuple[int, int]:
    """The picture's shape scaled to a long side in pixels, both sides rounded down to a multiple."""
    with Image.open(io.BytesIO(picture)) as image:
        scale = long_side / max(image.width, image.height)
        width, height = (max(multiple, int(side * scale) // multiple * multiple) for side in image.size)
        return width, height
