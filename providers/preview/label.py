"""The mark that no preview goes without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from PIL import Image, ImageDraw, ImageFont

TEXT = "preview"


def labelled(frames: Iterable[Image.Image]) -> Iterator[Image.Image]:
    """Set the word `preview` on a small dark pill in the lower right corner of every frame."""
    label: Image.Image | None = None
    for frame in frames:
        label = label or draw_label(min(frame.size))
        marked = frame.copy()
        margin = max(2, label.height // 2)
        corner = (frame.width - label.width - margin, frame.height - label.height - margin)
        marked.paste(label, (max(0, corner[0]), max(0, corner[1])), label)
        yield marked


def draw_label(side_px: int) -> Image.Image:
    """The label as RGBA for a frame with this shorter side in pixels; drawn large and scaled for smooth edges."""
    letter_px = max(7, round(side_px / 36))
    times = 4
    font = ImageFont.load_default(letter_px * times)
    left, top, right, bottom = font.getbbox(TEXT)
    width, height = right - left + 1.3 * letter_px * times, 1.7 * letter_px * times
    large = Image.new("RGBA", (round(width), round(height)), (16, 18, 22, 0))
    pen = ImageDraw.Draw(large)
    pen.rounded_rectangle((0, 0, large.width - 1, large.height - 1), large.height / 2, fill=(16, 18, 22, 120))
    text_at = ((large.width - right - left) / 2, (large.height - bottom - top) / 2)
    pen.text(text_at, TEXT, font=font, fill=(255, 255, 255, 225))
    return large.resize((large.width // times, large.height // times), Image.Resampling.LANCZOS)
