"""What the first bytes of a picture say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.media.headers import PictureHeader, is_cut_short, name_refused, read_header
from tests.unit.media.support import gif_header, jpeg_header, saved, textured, webp_header

KINDS = ("png", "jpeg", "webp", "gif")


@given(st.sampled_from(KINDS), st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_the_size_read_is_the_size_written(kind: str, width: int, height: int, plain: bool) -> None:
    """Format and size of a real file are read as its writer meant them."""
    image = Image.new("RGB", (width, height), (9, 200, 30))
    options = {"lossless": not plain} if kind == "webp" else {"progressive": not plain} if kind == "jpeg" else {}
    assert read_header(saved(image, kind, **options)) == PictureHeader(kind, width, height)  # type: ignore[arg-type]


def test_webp_with_transparency_or_animation_states_its_canvas() -> None:
    """The extended form of WebP has its own place for the size."""
    still = saved(Image.new("RGBA", (33, 21), (1, 2, 3, 80)), "webp")
    moving = saved(textured(48, 32), "webp", save_all=True, append_images=[textured(48, 32, 2)])
    assert still[12:16] == moving[12:16] == b"VP8X"
    assert read_header(still) == PictureHeader("webp", 33, 21)
    assert read_header(moving) == PictureHeader("webp", 48, 32)


def test_jpeg_metadata_before_the_frame_header_is_stepped_over() -> None:
    """A thumbnail inside EXIF is not mistaken for the picture, and fill bytes are allowed."""
    thumbnail = saved(textured(16, 16), "jpeg")
    exif = Image.Exif()
    exif[0x010E] = "x" * 500
    data = saved(textured(120, 80), "jpeg", exif=exif, comment=thumbnail)
    assert read_header(data) == PictureHeader("jpeg", 120, 80)
    assert read_header(b"\xff\xd8\xff\xff" + data[3:]) == PictureHeader("jpeg", 120, 80)


@pytest.mark.parametrize("make", [jpeg_header, gif_header, webp_header])
def test_a_header_alone_is_enough(make: object) -> None:
    """The size is known before any picture data is."""
    assert callable(make)
    header = read_header(make(1234, 567))
    assert header is not None
    assert (header.width, header.height) == (1234, 567)


@given(
    st.binary(max_size=64), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF....WEBP", b"GIF89a"])
)
def test_any_bytes_give_an_answer(tail: bytes, head: bytes) -> None:
    """No bytes make the reader fail, and no size is negative."""
    header = read_header(head + tail)
    assert header is None or (header.width >= 0 and header.height >= 0)
    name_refused(head + tail)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_not_called_cut_short(kind: str) -> None:
    """The mark of the end is found in whole files, missed in cut ones, and bytes after it do no harm."""
    data = saved(textured(), kind)
    assert not is_cut_short(data, kind)  # type: ignore[arg-type]
    assert is_cut_short(data[: len(data) * 2 // 3], kind)  # type: ignore[arg-type]
    assert not is_cut_short(data + bytes(100), kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"BM" + bytes(60), "a BMP picture"),
        (b"II*\x00" + bytes(8), "a TIFF picture"),
        (b"\x00\x00\x00\x18ftypheic", "a HEIC picture"),
        (b"\x00\x00\x00\x18ftypmif1", "a HEIC picture"),
        (b"\x00\x00\x00\x18ftypavif", "an AVIF picture"),
        (b"\x00\x00\x00\x18ftypisom", "a video"),
        (b"%PDF-1.7", "a PDF document"),
        (b"hello", None),
    ],
)
def test_kinds_that_are_not_taken_are_named(data: bytes, name: str | None) -> None:
    """A refusal can say what the file is."""
    assert name_refused(data) == name
    assert read_header(data) is None


def test_a_gif_that_happens_to_stop_at_the_trailers_byte_is_cut_short() -> None:
    """The byte that ends a GIF may stand anywhere within it; only the chain of blocks tells."""
    data = saved(textured(160, 90), "gif", save_all=True, append_images=[textured(160, 90, 2)])
    ends = [index for index in range(13, len(data)) if data[index] == 0x3B]
    assert len(ends) > 10
    assert [index for index in ends if not is_cut_short(data[: index + 1], "gif")] == [len(data) - 1]
    assert is_cut_short(b"GIF89a", "gif")
    assert is_cut_short(data[:-1] + b"\x99\x3b", "gif")
