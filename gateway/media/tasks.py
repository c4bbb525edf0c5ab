"""What a decoding process can be asked to do: one table, plain data in and out."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from PIL import Image, PngImagePlugin

from gateway.media.convert import converted
from gateway.media.decoding import BadMedia
from gateway.media.intake import CleanImage, ImageLimits, read_image
from gateway.media.prepare import ImagePlan, prepare
from gateway.media.verify import MediaInfo, inspect_media
from gateway.problems import InvalidImage
from providers.rendering import CONTAINERS, encode

Arguments = Sequence[Any]
Made = tuple[list[Any], bytes]


class Refused(Exception):
    """The file cannot be used: the sentence, and the members of its problem."""

    def __init__(self, detail: str, members: Mapping[str, Any]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = dict(members)


def _take_in(data: bytes, arguments: Arguments) -> Made:
    try:
        return _shown(read_image(data, ImageLimits(*arguments)))
    except InvalidImage as problem:
        raise Refused(problem.detail, problem.extensions) from problem


def _prepare(data: bytes, arguments: Arguments) -> Made:
    (media_type, width, height, sha256), (crop, *size) = arguments
    plan = ImagePlan(tuple(crop) if crop else None, *size)
    return _shown(prepare(CleanImage(data, media_type, width, height, sha256), plan))


def _inspect(data: bytes, _arguments: Arguments) -> Made:
    try:
        return list(astuple(inspect_media(data))), b""
    except BadMedia as error:
        raise Refused(str(error), {}) from error


def _convert(data: bytes, arguments: Arguments) -> Made:
    info, output_format = arguments
    try:
        return [], converted(data, MediaInfo(*info), output_format)
    except BadMedia as error:
        raise Refused(str(error), {}) from error


def _shown(image: CleanImage) -> Made:
    return [image.media_type, image.width, image.height], image.data


TASKS: Mapping[str, Callable[[bytes, Arguments], Made]] = {
    "take_in": _take_in,
    "prepare": _prepare,
    "inspect": _inspect,
    "convert": _convert,
}


def prepare_for_jobs() -> None:
    """Load everything that a job may need, by doing one of each kind: afterwards no file can be opened."""
    picture = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Title", "a", zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        target = io.BytesIO()
        more = {"PNG": {"pnginfo": text}}.get(kind, {}) | ({} if kind == "GIF" else {"exif": exif})
        picture.save(target, kind, **more)
        prepare(read_image(target.getvalue()), ImagePlan((16, 9), 16, 16))
        inspect_media(target.getvalue())
    for container in CONTAINERS:
        clip = encode([picture, picture], fps=7, container=container)
        converted(clip, inspect_media(clip), "gif")
