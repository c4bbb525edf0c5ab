"""The picture as a route needs it: cropped to a shape and scaled to a size, by vidgate itself."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from gateway.media.intake import CleanImage, encode_clean


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What to do with a picture before it is sent.

    `crop_aspect` is width to height, cut at the centre. `width` and `height` are in pixels; with both, the picture
    covers the size and what sticks out is cut; with one, the other follows from the shape.
    """

    crop_aspect: tuple[int, int] | None = None
    width: int | None = None
    height: int | None = None


def prepare(image: CleanImage, plan: ImagePlan) -> CleanImage:
    """Crop and scale a clean picture; it is returned as it is when there is nothing to do."""
    shape = (image.width, image.height)
    cropped = _largest(shape, plan.crop_aspect) if plan.crop_aspect else shape
    size = _size(cropped, plan)
    if size == shape:
        return image
    part = _largest(cropped, size)
    left, top = (shape[0] - part[0]) / 2, (shape[1] - part[1]) / 2
    with Image.open(io.BytesIO(image.data)) as picture:
        if part == size:
            made = picture.crop((round(left), round(top), round(left) + size[0], round(top) + size[1]))
        else:
            made = picture.resize(size, Image.Resampling.LANCZOS, (left, top, left + part[0], top + part[1]))
    return encode_clean(made, lossless=image.media_type == "image/png")


def _largest(inside: tuple[int, int], aspect: tuple[int, int]) -> tuple[int, int]:
    """The largest box of this shape that fits inside, in whole pixels."""
    width, height = inside
    return (
        min(width, max(1, round(height * aspect[0] / aspect[1]))),
        min(height, max(1, round(width * aspect[1] / aspect[0]))),
    )


def _size(shape: tuple[int, int], plan: ImagePlan) -> tuple[int, int]:
    width, height = shape
    if plan.width and plan.height:
        return plan.width, plan.height
    if plan.width:
        return plan.width, max(1, round(height * plan.width / width))
    if plan.height:
        return max(1, round(width * plan.height / height)), plan.height
    return shape
