"""An MP4 whose index is moved to the front is the same film, byte for byte in its pictures."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import pytest
from PIL import Image

from providers.mp4 import index_first
from providers.rendering import camera_move


def film(target: io.BytesIO | str, **options: str) -> bytes:
    """Twelve frames of H.264 as the encoder leaves them, or with FFmpeg's own way of moving the index."""
    still = Image.linear_gradient("L").convert("RGB")
    with av.open(target, "w", format="mp4", options=options) as output:
        stream = output.add_stream("libx264", rate=7, options={"bf": "0"})
        stream.width, stream.height, stream.thread_count = 128, 64, 1
        for image in camera_move(still, move="cw", speed=1, num_frames=12, size=(128, 64)):
            output.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        output.mux(stream.encode(None))
    return target.getvalue() if isinstance(target, io.BytesIO) else Path(target).read_bytes()


def test_the_index_is_moved_as_ffmpeg_moves_it(tmp_path: Path) -> None:
    """Byte for byte what `+faststart` makes, which needs a real file."""
    made = film(io.BytesIO())
    assert made.index(b"moov") > made.index(b"mdat")
    assert index_first(made) == film(str(tmp_path / "film.mp4"), movflags="+faststart")


def test_every_frame_is_found_where_the_index_says() -> None:
    """The offsets were moved along: all frames decode, to the same pixels."""
    made = film(io.BytesIO())
    before, after = _pixels(made), _pixels(index_first(made))
    assert len(after) == 12
    assert after == before


def test_an_index_that_is_in_front_stays() -> None:
    """Moving twice is moving once."""
    once = index_first(film(io.BytesIO()))
    assert index_first(once) is once


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x08ftyp", struct.pack(">I4s", 4, b"ftyp"), b"GIF89a" + bytes(40)])
def test_what_is_no_film_is_refused(data: bytes) -> None:
    """It is for what an encoder has just made."""
    with pytest.raises(ValueError, match=r"no MP4|a box of"):
        index_first(data)


def _pixels(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r", format="mov") as source:
        return [frame.to_ndarray().tobytes() for frame in source.decode(source.streams.video[0])]
