"""A clip in another container keeps its frames and its rate."""

from __future__ import annotations

import pytest
from PIL import Image

from gateway.media.convert import converted
from gateway.media.decoding import picture_frames
from gateway.media.verify import BadMedia, deviations, inspect_media
from providers.rendering import CONTAINERS, encode
from tests.unit.media.support import clip, saved, textured


@pytest.mark.parametrize("target", CONTAINERS)
@pytest.mark.parametrize("source", CONTAINERS)
@pytest.mark.parametrize("fps", [1, 7, 24, 50])
def test_frames_and_rate_survive(source: str, target: str, fps: int) -> None:
    """Every container becomes every other with as many frames, as fast and as large."""
    data = clip(source, fps=fps)
    made = inspect_media(converted(data, inspect_media(data), target))
    assert made.container == target
    assert deviations(made, num_frames=5, fps=fps, size=(160, 90)) == ()


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_right_already_is_left_alone(container: str) -> None:
    """No quality is lost for nothing."""
    data = clip(container)
    assert converted(data, inspect_media(data), container) is data


def test_the_pictures_themselves_survive() -> None:
    """Order and colours of the frames are those of the source."""
    colours = [(220, 30, 30), (30, 200, 40), (40, 60, 220), (240, 240, 240)]
    source = encode((Image.new("RGB", (64, 64), colour) for colour in colours), fps=4, container="mp4")
    made = converted(source, inspect_media(source), "gif")
    seen = [picture.convert("RGB").getpixel((30, 30)) for picture, _ in picture_frames(made, "gif")]
    for found, meant in zip(seen, colours, strict=True):
        assert max(abs(a - b) for a, b in zip(found, meant, strict=True)) < 12  # type: ignore[arg-type]


def test_transparent_animations_are_laid_on_white() -> None:
    """Video has no transparency."""
    frames = [Image.new("RGBA", (64, 64), (0, 0, 0, 0)) for _ in range(3)]
    for index, frame in enumerate(frames):
        frame.paste((200, 0, 0, 255), (0, 0, 20 + index, 20))
    source = saved(frames[0], "webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    made = converted(source, inspect_media(source), "gif")
    picture, shown_s = next(picture_frames(made, "gif"))
    assert picture.convert("RGB").getpixel((50, 50)) == (255, 255, 255)
    assert shown_s == pytest.approx(0.1)


def test_a_rate_between_whole_numbers_is_kept() -> None:
    """Broadcast rates are no whole numbers and stay as they are."""
    source = encode([textured()] * 6, fps=30000 / 1001, container="mp4")
    info = inspect_media(source)
    assert info.fps == pytest.approx(29.97, abs=0.001)
    quicktime = source[:8] + b"qt  " + source[12:]
    again = inspect_media(converted(quicktime, inspect_media(quicktime), "mp4"))
    assert (again.container, again.num_frames) == ("mp4", 6)
    assert again.fps == pytest.approx(29.97, abs=0.001)


def test_a_slide_show_is_not_hurried() -> None:
    """Less than one frame a second is a rate like any other."""
    source = encode([textured()] * 3, fps=0.5, container="gif")
    assert inspect_media(source).fps == 0.5
    assert inspect_media(converted(source, inspect_media(source), "mp4")).duration_s == pytest.approx(6)


def test_a_still_becomes_a_clip_of_one_frame() -> None:
    """Nothing is invented: one frame in, one frame out."""
    data = saved(textured(), "jpeg")
    assert inspect_media(converted(data, inspect_media(data), "mp4")).num_frames == 1


def test_a_file_that_does_not_decode_is_bad_here_too() -> None:
    """Conversion never writes half a clip."""
    info = inspect_media(clip())
    with pytest.raises(BadMedia):
        converted(clip()[:-50], info, "gif")
    with pytest.raises(ValueError, match="avi"):
        converted(clip(), info, "avi")
