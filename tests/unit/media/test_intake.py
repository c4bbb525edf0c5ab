"""Pictures from outside are made safe or refused with a reason."""

from __future__ import annotations

import base64
import hashlib
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from gateway.media import intake as intake_module
from gateway.media.intake import CleanImage, ImageLimits, decode_inline, read_image
from gateway.problems import ContentTooLarge, InvalidImage
from tests.unit.media.support import (
    gif_header,
    jpeg_header,
    opened,
    png_of,
    refusal,
    saved,
    textured,
    webp_header,
)

HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\x00\x00\x00WEBPVP8 ", b"GIF89a@\x00@\x00")
REASONS = {"not_an_image", "unsupported_format", "truncated", "damaged", "too_many_pixels", "too_small", "empty"}
KINDS = ("png", "jpeg", "webp", "gif")


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("png", "image/png"), ("gif", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/jpeg")],
)
def test_each_taken_format_becomes_a_clean_file(kind: str, media_type: str) -> None:
    """The result is a PNG or a JPEG of the same size that is described truly, and looks the same."""
    image = read_image(saved(textured(), kind))
    assert (image.media_type, image.width, image.height) == (media_type, 160, 90)
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()
    picture = opened(image.data)
    assert (picture.get_format_mimetype(), picture.size, picture.mode) == (media_type, (160, 90), "RGB")
    assert _difference(picture, textured()) < (16 if kind == "gif" else 6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_give_the_same_result(kind: str) -> None:
    """Cleaning is deterministic, so that a repeated picture is the same artifact."""
    data = saved(textured(), kind)
    assert read_image(data) == read_image(data)


def test_metadata_stays_behind() -> None:
    """EXIF with a place, comments, text chunks and bytes after the end do not reach a vendor."""
    exif = Image.Exif()
    exif[0x010F] = "SECRET-camera"
    exif.get_ifd(0x8825)[1] = "SECRET-north"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SECRET-words")
    for data in (
        saved(textured(), "jpeg", exif=exif, comment=b"SECRET-comment") + b"SECRET<script>tail</script>",
        saved(textured(), "png", exif=exif, pnginfo=text) + b"PK\x03\x04SECRET zip",
        saved(textured(), "webp", exif=exif, xmp=b"<x>SECRET</x>"),
    ):
        assert b"SECRET" in data
        image = read_image(data)
        assert b"SECRET" not in image.data
        picture = opened(image.data)
        assert not picture.getexif()
        assert not {"exif", "icc_profile", "comment", "Comment", "xmp"} & set(picture.info)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_brought_upright(orientation: int) -> None:
    """Whatever way the camera was held, the picture comes out as the photographer saw it."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = textured()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(saved(upright if undo is None else upright.transpose(undo), "jpeg", quality=95, exif=exif))
    assert (image.width, image.height) == upright.size
    assert _difference(opened(image.data), upright) < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # a warning, as a server has it, and not this suite's error
def test_broken_metadata_does_not_cost_the_picture() -> None:
    """EXIF that cannot be read is dropped like any other."""
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\xff\xff\xff"
    assert read_image(saved(textured(), "jpeg", exif=exif)).width == 160
    assert read_image(saved(textured(), "jpeg", icc_profile=b"not a profile")).width == 160


def test_transparency_is_laid_on_white() -> None:
    """Vendors show transparent pixels in any colour they like; here they are white, and half of one is mixed."""
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 16, 32))
    image.putpixel((31, 31), (0, 0, 0, 128))
    seen = opened(read_image(saved(image, "png")).data)
    assert (seen.getpixel((2, 2)), seen.getpixel((20, 2))) == ((200, 0, 0), (255, 255, 255))
    assert seen.getpixel((31, 31)) == (127, 127, 127)
    palette = opened(read_image(saved(image.quantize(8), "png")).data)
    assert palette.getpixel((20, 2)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_tones() -> None:
    """Deep grey is scaled to eight bits, not clipped to white."""
    image = Image.new("I;16", (32, 32), 0x8080)
    image.putpixel((0, 0), 0xFFFF)
    seen = opened(read_image(saved(image, "png")).data)
    assert (seen.getpixel((9, 9)), seen.getpixel((0, 0))) == ((128, 128, 128), (255, 255, 255))


def test_print_colours_become_screen_colours() -> None:
    """A CMYK photograph is turned to RGB."""
    seen = opened(read_image(saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "jpeg", quality=95)).data)
    red, green, blue = seen.getpixel((5, 5))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 15


def test_a_colour_profile_is_applied_before_it_is_dropped() -> None:
    """The numbers change, so that the colours stay."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = Image.new("RGB", (32, 32), (200, 40, 90))
    same = opened(read_image(saved(plain, "png", icc_profile=lab)).data)
    assert max(abs(a - b) for a, b in zip(same.getpixel((3, 3)), (200, 40, 90), strict=True)) <= 1  # type: ignore[arg-type]
    linear = bytearray(lab)
    for tag in (b"rTRC", b"gTRC", b"bTRC"):
        entry = linear.index(tag)
        offset = int.from_bytes(linear[entry + 4 : entry + 8], "big")
        linear[offset : offset + 12] = b"curv" + bytes(8)  # a curve of no points is the straight line
    brighter = opened(read_image(saved(plain, "png", icc_profile=bytes(linear))).data)
    assert brighter.getpixel((3, 3))[1] > 90  # type: ignore[index]


def test_of_an_animation_the_first_picture_counts() -> None:
    """GIF, WebP and PNG animations are taken as the still that they begin with."""
    first, second = textured(64, 48, 1), textured(64, 48, 2)
    for kind in ("gif", "webp", "png"):
        data = saved(first, kind, save_all=True, append_images=[second], duration=100)
        seen = opened(read_image(data).data)
        assert getattr(seen, "n_frames", 1) == 1
        assert _difference(seen, first) < 16


def test_large_lossless_pictures_are_written_as_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound a PNG would be too heavy for vendors."""
    monkeypatch.setattr(intake_module, "LOSSLESS_PIXELS_MAX", 100)
    assert read_image(saved(textured(), "png")).media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not_an_image"),
        (b"<html><body>404</body></html>", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"BM" + bytes(60), "unsupported_format"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "unsupported_format"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff", "truncated"),
        (saved(Image.new("RGB", (8, 40)), "png"), "too_small"),
    ],
)
def test_each_refusal_has_its_reason(data: bytes, reason: str) -> None:
    """The extension `reason` tells a program what the sentence tells a person."""
    assert refusal(data) == reason


def test_the_name_of_an_unsupported_format_is_said() -> None:
    """The caller learns what was sent and what to send instead."""
    with pytest.raises(InvalidImage, match=r"a HEIC picture; send PNG, JPEG, WebP or GIF\."):
        read_image(b"\x00\x00\x00\x18ftypheic" + bytes(40))


@pytest.mark.parametrize("make", [png_of, jpeg_header, gif_header, lambda w, h: webp_header(min(w, 16384), h)])
def test_a_huge_header_is_refused_before_any_decoding(
    make: Callable[[int, int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 x 20,000 pixels would take over a gigabyte: not one of them is decoded, no decoder is even opened."""
    data = make(20_000, 20_000)

    def unreachable(*_: object, **__: object) -> None:
        raise AssertionError("the decoder was opened")

    monkeypatch.setattr(Image, "open", unreachable)
    tracemalloc.start()
    assert refusal(data) == "too_many_pixels"
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100_000


def test_a_gif_whose_first_picture_outgrows_its_screen_is_refused() -> None:
    """The screen of a GIF may be small while the picture on it is a bomb."""
    data = bytearray(saved(textured(64, 48), "gif"))
    position = data.index(b"\x2c\x00\x00\x00\x00")
    data[position + 5 : position + 9] = b"\xff\xff\xff\x03"
    assert refusal(bytes(data)) == "too_many_pixels"


def test_limits_are_the_callers_to_set() -> None:
    """Pixels, sides and bytes have each their bound, and what is just inside is taken."""
    data = saved(textured(), "png")
    assert refusal(data, ImageLimits(pixels_max=160 * 90 - 1)) == "too_many_pixels"
    assert refusal(data, ImageLimits(side_px_max=159)) == "too_many_pixels"
    assert refusal(data, ImageLimits(side_px_min=91)) == "too_small"
    assert refusal(data, ImageLimits(bytes_max=len(data) - 1)) == "content-too-large"
    exact = ImageLimits(bytes_max=len(data), pixels_max=160 * 90, side_px_max=160, side_px_min=90)
    assert read_image(data, exact).width == 160


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(part=st.floats(0.0, 0.93))
def test_a_picture_cut_anywhere_is_refused(kind: str, part: float) -> None:
    """A broken upload is never taken for a picture with a grey lower half."""
    data = saved(textured(), kind)
    cut = data[: int(len(data) * part)]
    assert refusal(cut) in {"truncated", "empty", "not_an_image"}


def test_a_whole_but_damaged_picture_is_called_damaged() -> None:
    """Bytes that were changed are told apart from bytes that are missing."""
    data = bytearray(saved(textured(), "png"))
    data[60:90] = bytes(30)
    assert refusal(bytes(data)) == "damaged"


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_arbitrary_bytes_are_taken_or_refused_and_nothing_else(head: bytes, tail: bytes) -> None:
    """Whatever is sent, the answer is a picture or a problem of the caller's."""
    for data in (tail, head + tail):
        try:
            answer: object = read_image(data)
        except InvalidImage as problem:
            answer = problem.extensions["reason"]
        assert isinstance(answer, CleanImage) or answer in REASONS


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(KINDS), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12))
def test_flipped_bytes_are_taken_or_refused_and_nothing_else(kind: str, flips: list[tuple[int, int]]) -> None:
    """Damage within a real file reaches deep into the decoders; they never surprise the caller."""
    data = bytearray(saved(textured(48, 32), kind))
    for position, value in flips:
        data[position % len(data)] = value
    try:
        answer: object = read_image(bytes(data))
    except InvalidImage as problem:
        answer = problem.extensions["reason"]
    assert isinstance(answer, CleanImage) or answer in REASONS


@given(st.binary(min_size=1, max_size=200), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_inline_bytes_come_back_as_they_were(
    data: bytes, url_alphabet: bool, padded: bool, wrapped: bool, uri: bool
) -> None:
    """Both alphabets, with or without padding, on one line or many, bare or in a data URI."""
    text = (base64.urlsafe_b64encode if url_alphabet else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    text = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + "\n" if wrapped else text
    assert decode_inline(("data:image/png;name=a;base64," if uri else "") + text) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("data:image/png;base64,", "empty"),
        ("data:image/svg+xml,%3Csvg/%3E", "not_base64"),
        ("data:image/png;base64,####", "not_base64"),
        ("not base64 at all!", "not_base64"),
        ("Zm9vY", "not_base64"),
        ("Zm=9v", "not_base64"),
        ("grüße", "not_base64"),
    ],
)
def test_text_that_is_not_base64_is_refused(text: str, reason: str) -> None:
    """Nothing is skipped or guessed at."""
    with pytest.raises(InvalidImage) as caught:
        decode_inline(text)
    assert caught.value.extensions["reason"] == reason


@given(st.text(max_size=80))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    """No text makes the reader fail otherwise."""
    with suppress(InvalidImage):
        assert isinstance(decode_inline(text), bytes)


def test_inline_bytes_over_the_limit_are_too_large() -> None:
    """The bound holds for the bytes, exactly, and far longer text is not even decoded."""
    limits = ImageLimits(bytes_max=300)
    assert len(decode_inline(base64.b64encode(bytes(300)).decode(), limits)) == 300
    for size in (301, 100_000):
        with pytest.raises(ContentTooLarge):
            decode_inline(base64.b64encode(bytes(size)).decode(), limits)


def _difference(first: Image.Image, second: Image.Image) -> float:
    """The mean distance of two pictures' values, 0-255."""
    one, other = first.convert("RGB").tobytes(), second.convert("RGB").tobytes()
    assert len(one) == len(other)
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)
