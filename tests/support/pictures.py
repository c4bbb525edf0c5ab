"""Small real media: a picture with structure, and clips that decode."""

from __future__ import annotations

import base64
import io
from functools import lru_cache

from PIL import Image

from providers.rendering import encode

SIZE = (64, 48)


@lru_cache
def picture(kind: str = "PNG", size: tuple[int, int] = SIZE) -> bytes:
    """A real picture."""
    out = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(out, kind)
    return out.getvalue()


def picture_base64() -> str:
    """The picture as base64."""
    return base64.b64encode(picture()).decode("ascii")


@lru_cache
def clip(num_frames: int = 14, fps: int = 7) -> bytes:
    """A real MP4 with this many different frames."""
    still = Image.radial_gradient("L").resize(SIZE).convert("RGB")
    return encode((still.rotate(3 * number) for number in range(num_frames)), fps=fps)
