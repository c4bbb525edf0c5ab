"""Pictures in and out of a pipeline, at sizes that the network's blocks do not divide too."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

JPEG_QUALITY = 95


def padded_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The smallest size in whole blocks that holds this one."""
    width, height = (-(-side // multiple) * multiple for side in size)
    return width, height


def fitted(picture: Image.Image, size: tuple[int, int], multiple: int) -> Image.Image:
    """The picture at this size, cropped at its middle to that shape, on a canvas of whole blocks.

    What the canvas has beyond it continues its edges: the frames are cropped to the size again (`cropped`), so that a
    clip has exactly the size that was asked for, and nothing of the picture is lost.
    """
    picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    width, height = padded_size(size, multiple)
    if (width, height) == size:
        return picture
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    right, below = width - left - size[0], height - top - size[1]
    wide = Image.new("RGB", (width, size[1]))
    wide.paste(picture, (left, 0))
    for edge, span, at in ((left, left, 0), (left + size[0] - 1, right, left + size[0])):
        if span:
            wide.paste(wide.crop((edge, 0, edge + 1, size[1])).resize((span, size[1])), (at, 0))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(wide, (0, top))
    for edge, span, at in ((0, top, 0), (size[1] - 1, below, top + size[1])):
        if span:
            canvas.paste(wide.crop((0, edge, width, edge + 1)).resize((width, span)), (0, at))
    return canvas


def cropped(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a frame that was rendered on a canvas of whole blocks."""
    left, top = (frame.width - size[0]) // 2, (frame.height - size[1]) // 2
    return frame if frame.size == size else frame.crop((left, top, left + size[0], top + size[1]))


def picture_bytes(frame: Image.Image, kind: str) -> bytes:
    """A picture as `jpg` or `png`."""
    out = io.BytesIO()
    if kind == "png":
        frame.save(out, "PNG")
    else:
        frame.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()
