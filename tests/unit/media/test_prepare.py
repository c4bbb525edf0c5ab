"""The picture as a route needs it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.media.prepare import ImagePlan, prepare
from tests.unit.media.support import clean, opened, textured

sides = st.integers(16, 220)


def test_nothing_to_do_gives_the_same_picture_back() -> None:
    """No plan, or one that is met already, costs no quality."""
    image = clean(textured(160, 90))
    for plan in (ImagePlan(), ImagePlan((16, 9)), ImagePlan(width=160, height=90), ImagePlan(width=160)):
        assert prepare(image, plan) is image


@pytest.mark.parametrize(("size", "expected"), [((100, 100), (100, 56)), ((200, 90), (160, 90)), ((90, 160), (90, 51))])
def test_the_crop_is_the_largest_of_its_shape_and_central(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """A crop keeps the middle and only as much is lost as the shape asks."""
    image = Image.new("RGB", size, "black")
    image.putpixel((size[0] // 2, size[1] // 2), (255, 255, 255))
    made = prepare(clean(image), ImagePlan((16, 9)))
    assert (made.width, made.height) == opened(made.data).size == expected
    bright = (
        [
            (x, y)
            for x in range(made.width)
            for y in range(made.height)
            if opened(made.data).convert("L").getpixel((x, y)) == 255  # type: ignore[operator]
        ]
        if size == (90, 160)
        else [(expected[0] // 2, expected[1] // 2)]
    )
    assert abs(bright[0][0] - expected[0] / 2) <= 1
    assert abs(bright[0][1] - expected[1] / 2) <= 1


@settings(deadline=None, max_examples=40)
@given(sides, sides, sides, sides)
def test_the_size_asked_for_is_the_size_made(width: int, height: int, wide: int, high: int) -> None:
    """Width and height together are met exactly, whatever the shape, and described truly."""
    made = prepare(clean(Image.new("RGB", (width, height), (10, 90, 200))), ImagePlan(width=wide, height=high))
    assert (made.width, made.height) == opened(made.data).size == (wide, high)


def test_covering_a_size_distorts_nothing() -> None:
    """A disc stays a disc: what does not fit is cut off on both sides alike."""
    image = Image.new("RGB", (200, 100), "black")
    disc = Image.radial_gradient("L").resize((60, 60)).point([255 if value < 120 else 0 for value in range(256)])
    image.paste((255, 255, 255), (70, 20), disc)
    seen = opened(prepare(clean(image), ImagePlan(width=80, height=80)).data).convert("L")
    left, top, right, bottom = seen.point([255 if value > 127 else 0 for value in range(256)]).getbbox()  # type: ignore[misc]
    assert abs((right - left) - (bottom - top)) <= 1
    assert abs((left + right) / 2 - 40) <= 1
    assert abs((top + bottom) / 2 - 40) <= 1


def test_one_side_alone_keeps_the_shape() -> None:
    """The other side follows."""
    image = clean(textured(160, 90))
    assert prepare(image, ImagePlan(width=80)).height == 45
    assert prepare(image, ImagePlan(height=45)).width == 80


def test_a_photograph_stays_one_and_a_drawing_stays_lossless() -> None:
    """JPEG comes out as JPEG, PNG as PNG, the same bytes every time, on a thread or not."""
    plan = ImagePlan(width=64, height=64)
    for lossless, media_type in ((True, "image/png"), (False, "image/jpeg")):
        image = clean(textured(), lossless=lossless)
        made = prepare(image, plan)
        assert made.media_type == media_type
        assert made == prepare(image, plan)
