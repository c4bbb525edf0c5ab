"""Pictures and clips opened in processes of their own: what the rest of the gateway asks for, in its own words.

A worker is not believed: the size of what it made is read from the bytes, the hash is counted here, what it says of a
clip is checked to be of the right kind, and a refusal goes on only in words that are known.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import astuple, dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.media.allowance import for_file, for_own
from gateway.media.decoding import BadMedia
from gateway.media.headers import pixel_bytes_min, read_header
from gateway.media.intake import DEFAULT_LIMITS, CleanImage, ImageLimits, decode_inline, judge
from gateway.media.prepare import ImagePlan
from gateway.media.verify import MediaInfo
from gateway.media.workers import Broken, Busy, Job, NotStarted, Refused, Reply, TooCostly, WorkerError, Workers
from gateway.problems import InvalidImage, Unavailable

BUSY_RETRY_S = 2
# A JPEG of noise in the best quality has three bytes a pixel.
PICTURE_BYTES_PER_PIXEL = 4
PICTURE_BYTES_MIN = 1024 * 1024
CONVERTED_BYTES_MAX = 256 * 1024 * 1024
_INFO = TypeAdapter(
    tuple[str, str, int, int, int, float | None, float, int], config=ConfigDict(strict=True, allow_inf_nan=False)
)
# Sides are 32 bits wide in every header that is read.
_Pixels = Annotated[int, Field(ge=0, lt=2**32)]


class _Members(BaseModel):
    """What a problem may say of a picture beside its sentence."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Literal["damaged", "truncated", "too_many_pixels", "too_small"]
    width: _Pixels = 0
    height: _Pixels = 0
    pixels_max: _Pixels = 0


_SENTENCE = re.compile(r"[ -~]{1,300}")


@dataclass(frozen=True, slots=True)
class Decoders:
    """Opens files in workers."""

    workers: Workers

    async def take_in(self, source: bytes | str, limits: ImageLimits = DEFAULT_LIMITS) -> CleanImage:
        """Read a picture: raw bytes, or text that holds base64 or a data URI; see `read_image`.

        Raises InvalidImage, whose `reason` may be `too_costly` and `decoder_failed` too, ContentTooLarge and
        Unavailable.
        """
        data, pixels = await asyncio.to_thread(_judged, source, limits)
        allowance = for_file(len(data), self.workers.memory_bytes_max, pixels=pixels)
        if pixels * pixel_bytes_min(data) > allowance.memory_bytes:
            raise _too_costly("its pixels take more memory than a file of its size may")  # and would cost a worker
        job = Job("take_in", data, astuple(limits), allowance, _picture_bytes_max(pixels))
        try:
            return await asyncio.to_thread(_picture, await self.workers.do(job, may_refuse=True))
        except Refused as refusal:
            raise _refused(refusal) from refusal
        except TooCostly as error:
            raise _too_costly(str(error)) from error
        except Broken as error:
            raise _decoder_failed() from error
        except (Busy, NotStarted) as error:
            raise _out(error) from error

    async def prepare(self, image: CleanImage, plan: ImagePlan) -> CleanImage:
        """Crop and scale a clean picture; the same picture and plan always give the same bytes. Raises Unavailable."""
        made = max(image.width * image.height, (plan.width or 0) * (plan.height or 0))
        allowance = for_own(len(image.data), self.workers.memory_bytes_max, pixels=image.width * image.height + made)
        given = (image.media_type, image.width, image.height, image.sha256)
        job = Job("prepare", image.data, (given, astuple(plan)), allowance, _picture_bytes_max(made))
        try:
            return await asyncio.to_thread(_picture, await self.workers.do(job))
        except WorkerError as error:
            raise Unavailable(f"the picture could not be prepared: {error}") from error

    async def inspect(self, data: bytes) -> MediaInfo:
        """Recognise a file and decode every frame of it. Raises BadMedia, and NotStarted, which is not the file's."""
        header = read_header(data)
        pixels = header.width * header.height if header is not None else None
        job = Job("inspect", data, (), for_file(len(data), self.workers.memory_bytes_max, pixels=pixels))
        reply = await self._opened(job)
        try:
            info = MediaInfo(*_INFO.validate_python(tuple(reply.fields)))  # type: ignore[arg-type]
        except ValidationError as error:
            raise BadMedia("the decoder told nonsense of it") from error
        return info

    async def convert(self, data: bytes, info: MediaInfo, output_format: str) -> bytes:
        """The file as `mp4`, `gif` or `webp`. Raises as `inspect` does."""
        pixels = 4 * info.width * info.height  # frames on their way through two codecs
        allowance = for_own(len(data), self.workers.memory_bytes_max, pixels=pixels)
        job = Job("convert", data, (list(astuple(info)), output_format), allowance, CONVERTED_BYTES_MAX)
        return (await self._opened(job)).made

    async def _opened(self, job: Job) -> Reply:
        try:
            return await self.workers.do(job)
        except (Refused, TooCostly) as error:
            plain = _SENTENCE.fullmatch(str(error))
            raise BadMedia(str(error) if plain else "the decoder told nonsense of it") from error
        except Broken as error:
            raise BadMedia(f"it breaks the decoder: {error}") from error


def _judged(source: bytes | str, limits: ImageLimits) -> tuple[bytes, int]:
    """The bytes of a picture that its header allows to be opened, and its pixels. Raises as `read_image` does."""
    data = decode_inline(source, limits) if isinstance(source, str) else source
    header = judge(data, limits)
    return data, header.width * header.height


def _picture_bytes_max(pixels: int) -> int:
    return max(PICTURE_BYTES_MIN, PICTURE_BYTES_PER_PIXEL * pixels)


def _picture(reply: Reply) -> CleanImage:
    """The picture that a worker made, described by its own bytes. Raises Broken."""
    header = read_header(reply.made)
    if header is None or header.format not in {"png", "jpeg"} or not header.width or not header.height:
        raise Broken("the worker made no picture")
    sha256 = hashlib.sha256(reply.made).hexdigest()
    return CleanImage(reply.made, f"image/{header.format}", header.width, header.height, sha256)


def _refused(refusal: Refused) -> InvalidImage:
    """The problem of a picture that a worker refuses; anything but the known words is a decoder that failed."""
    if not _SENTENCE.fullmatch(str(refusal)):
        return _decoder_failed()
    try:
        members = _Members.model_validate(refusal.members)
    except ValidationError:
        return _decoder_failed()
    return InvalidImage(str(refusal), **members.model_dump(exclude_unset=True))


def _too_costly(why: str) -> InvalidImage:
    detail = f"The picture cannot be opened: {why}. Send one with fewer pixels, or saved anew."
    return InvalidImage(detail, reason="too_costly")


def _decoder_failed() -> InvalidImage:
    detail = "The picture cannot be opened: it breaks the decoder. Save it anew."
    return InvalidImage(detail, reason="decoder_failed")


def _out(error: WorkerError) -> Unavailable:
    return Unavailable(f"Pictures cannot be opened now: {error}.", headers={"Retry-After": str(BUSY_RETRY_S)})
