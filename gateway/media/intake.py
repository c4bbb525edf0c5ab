"""Pictures from outside, made safe: nothing goes on to a vendor but clean pixels in a file of vidgate's own making.

Taken are PNG, JPEG, WebP and GIF, told apart by their first bytes alone; of an animation the first picture counts. The
size in the header is judged before any decoder runs, the picture is decoded whole, turned upright, brought to sRGB,
laid on white where it is transparent, and written anew, so that metadata and anything appended stay behind.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageCms

from gateway.media.headers import PictureHeader, is_cut_short, name_refused, read_header
from gateway.problems import ContentTooLarge, InvalidImage

# What Pillow's readers are known to raise for files that were made to break them; warnings are there for programs that
# turn them into errors.
DECODE_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    EOFError,
    RuntimeError,
    Warning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    ImageCms.PyCMSError,
)
TAKEN = "PNG, JPEG, WebP or GIF"
LOSSLESS_PIXELS_MAX = 4_000_000  # above it PNG takes seconds and tens of megabytes, and vendors refuse it
JPEG_QUALITY = 95
ORIENTATION_TAG = 0x0112
# What brings a picture upright that EXIF says was taken so (EXIF 2.3, tag 274).
_UPRIGHT: Mapping[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DATA_URI = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may be: bytes as sent, and pixels in all and per side as its header states them."""

    bytes_max: int = 20 * 1024 * 1024
    pixels_max: int = 40_000_000
    side_px_max: int = 16_384
    side_px_min: int = 16


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True)
class CleanImage:
    """An upright sRGB picture without metadata: PNG or JPEG bytes, its size in pixels and the SHA-256 of the bytes."""

    data: bytes
    media_type: str
    width: int
    height: int
    sha256: str


def read_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> CleanImage:
    """Judge, decode and clean one picture. The same bytes always give the same result.

    Hostile bytes are read in a process of their own: see gateway/media/decoders.py.

    Raises InvalidImage, whose extension `reason` is one of `empty`, `not_an_image`, `unsupported_format`, `truncated`,
    `damaged`, `too_many_pixels` and `too_small`; ContentTooLarge; and MemoryError where the file asks for more than
    there is.
    """
    header = judge(data, limits)
    try:
        with Image.open(io.BytesIO(data), formats=[header.format.upper()]) as picture:
            # A GIF's first picture may be larger than the screen that its header states.
            _judge_size(picture.width, picture.height, limits)
            picture.load()
            clean = _cleaned(picture)
    except DECODE_ERRORS as error:
        raise _undecodable(data, header) from error
    return encode_clean(clean, lossless=header.format in {"png", "gif"})


def encode_clean(picture: Image.Image, *, lossless: bool) -> CleanImage:
    """Write an RGB picture as PNG where it is `lossless` and small enough, else as JPEG of quality 95, full colour."""
    as_png = lossless and picture.width * picture.height <= LOSSLESS_PIXELS_MAX
    target = io.BytesIO()
    if as_png:
        picture.save(target, "PNG", compress_level=4)
    else:
        picture.save(target, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    data = target.getvalue()
    media_type = "image/png" if as_png else "image/jpeg"
    return CleanImage(data, media_type, picture.width, picture.height, hashlib.sha256(data).hexdigest())


def decode_inline(text: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Decode base64 or a base64 data URI. The media type of the URI is not believed.

    Both alphabets are taken, padding may be missing, and line breaks are allowed; anything else is refused.
    Raises InvalidImage (`reason` `not_base64` or `empty`) and ContentTooLarge.
    """
    # Four characters carry three bytes; line breaks and the URI's head add a little.
    if len(text) > limits.bytes_max * 3 // 2 + 300:
        raise _too_large(limits)
    body = text.strip()
    head = _DATA_URI.match(body)
    if head is None and body[:5].lower() == "data:":
        raise InvalidImage(
            "The data URI is not base64; write it as data:image/png;base64, and the bytes.", reason="not_base64"
        )
    body = "".join(body[head.end() if head else 0 :].split()).translate(_URL_SAFE).rstrip("=")
    if not body:
        raise _empty()
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImage(
            "The picture is neither an https address nor base64; send base64, a data URI, an https URL or a file.",
            reason="not_base64",
        ) from error
    if len(data) > limits.bytes_max:
        raise _too_large(limits)
    return data


def judge(data: bytes, limits: ImageLimits) -> PictureHeader:
    """What a picture's header says, where it may be opened. Raises InvalidImage and ContentTooLarge."""
    if not data:
        raise _empty()
    if len(data) > limits.bytes_max:
        raise _too_large(limits)
    header = read_header(data)
    if header is None:
        known = name_refused(data)
        if known:
            raise InvalidImage(f"This is {known}; send {TAKEN}.", reason="unsupported_format")
        raise InvalidImage(f"This is not a picture that vidgate knows; send {TAKEN}.", reason="not_an_image")
    if not header.width or not header.height:
        raise _undecodable(data, header)
    _judge_size(header.width, header.height, limits)
    return header


def _judge_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.pixels_max or max(width, height) > limits.side_px_max:
        raise InvalidImage(
            f"The picture has {width} x {height} pixels; at most {limits.pixels_max} in all and {limits.side_px_max} "
            "on a side are taken. Send a smaller one.",
            reason="too_many_pixels",
            width=width,
            height=height,
            pixels_max=limits.pixels_max,
        )
    if min(width, height) < limits.side_px_min:
        raise InvalidImage(
            f"The picture has {width} x {height} pixels; each side needs {limits.side_px_min} at least.",
            reason="too_small",
            width=width,
            height=height,
        )


def _cleaned(picture: Image.Image) -> Image.Image:
    """The first picture as upright, opaque sRGB without metadata."""
    turn = _UPRIGHT.get(_orientation(picture))
    opaque = _on_white(_in_srgb(_in_eight_bits(picture)))
    clean = opaque if turn is None else opaque.transpose(turn)
    clean.info = {}  # where Pillow keeps the metadata that it would write again
    return clean


def _orientation(picture: Image.Image) -> object:
    try:
        return picture.getexif().get(ORIENTATION_TAG)
    except DECODE_ERRORS:
        return None  # broken metadata says nothing about the pixels


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    # Pillow's own conversion of 16-bit grey clips everything above 255.
    if picture.mode.startswith("I"):
        return picture.convert("F").point(lambda value: value / 257 + 0).convert("L")
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return picture


def _in_srgb(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in {"RGB", "RGBA", "CMYK"}:
        return picture
    mode = "RGBA" if picture.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except DECODE_ERRORS:
        return picture  # an unreadable profile: the numbers are taken for sRGB, as browsers do
    return picture if converted is None else converted


def _on_white(picture: Image.Image) -> Image.Image:
    """An opaque picture: the one that was given, where it is that already, for a copy costs four bytes a pixel."""
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    seen = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    opaque = Image.new("RGB", seen.size, "white")
    opaque.paste(seen, mask=seen)
    return opaque


def _undecodable(data: bytes, header: PictureHeader) -> InvalidImage:
    name = header.format.upper()
    if is_cut_short(data, header.format):
        return InvalidImage(f"The {name} picture ends too early; send the whole file.", reason="truncated")
    return InvalidImage(f"The {name} picture is damaged and cannot be decoded; save it anew.", reason="damaged")


def _empty() -> InvalidImage:
    return InvalidImage("The picture is empty; send the bytes of a picture.", reason="empty")


def _too_large(limits: ImageLimits) -> ContentTooLarge:
    return ContentTooLarge(
        f"The picture is larger than {limits.bytes_max} bytes; send a smaller file.", bytes_max=limits.bytes_max
    )
