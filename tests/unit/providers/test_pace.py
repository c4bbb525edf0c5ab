"""How long a render takes by what others took: exactly where its shape was measured, in proportion where it was not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.pace import Measured, Shape, expected, mean_render_s, render_s, shape_of, steps_of

SHAPES = st.builds(
    Shape, st.integers(1, 25), st.integers(8, 256).map(lambda side: 4096 * side), st.sampled_from([1, 2])
)
PACES = st.lists(st.builds(Measured, st.floats(1e-3, 60), st.floats(0, 60), SHAPES), min_size=1, max_size=8)
LARGE = {"num_frames": 25, "width": 1024, "height": 576, "num_inference_steps": 25, "max_guidance_scale": 3.0}
SMALL = {"num_frames": 14, "width": 512, "height": 320, "num_inference_steps": 25, "max_guidance_scale": 3.0}


def values(shape: Shape, steps: int = 10) -> dict[str, float]:
    """Parameters of that shape."""
    side = {"width": shape.pixels // 64, "height": 64}
    return {"num_frames": shape.frames, **side, "max_guidance_scale": shape.passes, "num_inference_steps": steps}


@given(SHAPES, st.integers(1, 100))
def test_parameters_have_the_shape_that_they_ask_for(shape: Shape, steps: int) -> None:
    """Frames, pixels, and two passes of the network where there is guidance."""
    assert shape_of(values(shape, steps)) == shape
    assert steps_of(values(shape, steps)) == steps


@pytest.mark.parametrize(
    ("given_values", "shape", "steps"),
    [
        ({"width": 64, "height": 64, "num_inference_steps": 20}, Shape(1, 4096, 2), 20),
        ({"width": 64, "height": 64, "guidance_scale": 1.0}, Shape(1, 4096, 1), None),
        ({"width": 64, "height": 64, "guidance_scale": 7.5, "strength": 0.75, "num_inference_steps": 50},
         Shape(1, 4096, 2), 37),
        ({"strength": 0.3, "num_inference_steps": 50}, None, 15),
        ({"width": 64, "num_inference_steps": True}, None, None),
        ({"width": "64", "height": 0, "num_inference_steps": -1}, None, None),
    ],
)  # fmt: skip
def test_what_is_not_said_is_not_made_up(
    given_values: dict[str, object], shape: Shape | None, steps: int | None
) -> None:
    """A picture is one frame; without a size there is no shape; a strength leaves its share of the steps."""
    assert (shape_of(given_values), steps_of(given_values)) == (shape, steps)


@given(PACES, SHAPES, st.integers(1, 100))
def test_a_shape_that_was_measured_takes_what_it_took(pace: list[Measured], shape: Shape, steps: int) -> None:
    """Whatever else was measured, and however fast."""
    own = Measured(0.25, 1.5, shape)
    others = [one for one in pace if one.shape != shape]
    assert render_s([*others, own], values(shape, steps)) == pytest.approx(1.5 + 0.25 * steps)


@given(PACES, SHAPES)
def test_a_new_shape_takes_what_the_nearest_one_takes_by_work(pace: list[Measured], shape: Shape) -> None:
    """One of the measured ones, in proportion: never less for more frames, and twice for both guidance passes."""
    told = expected(pace, shape)
    assert told is not None
    assert told.shape == shape
    scaled = [
        (one.step_s * shape.work / one.shape.work, one.fixed_s * shape.frame_pixels / one.shape.frame_pixels)
        for one in pace
        if one.shape is not None
    ]
    assert any(told.step_s == pytest.approx(step) and told.fixed_s == pytest.approx(fixed) for step, fixed in scaled)


@given(st.floats(1e-3, 60), st.floats(0, 60), SHAPES, SHAPES)
def test_one_measurement_scales_there_and_back(step_s: float, fixed_s: float, first: Shape, second: Shape) -> None:
    """Linear in the work, and nothing else: what is told of a second shape tells the first one again."""
    told = expected([Measured(step_s, fixed_s, first)], second)
    assert told is not None
    back = expected([told], first)
    assert back is not None
    assert (back.step_s, back.fixed_s) == (pytest.approx(step_s), pytest.approx(fixed_s))
    assert told.step_s * first.work == pytest.approx(step_s * second.work)


def test_a_frame_of_the_same_size_is_the_nearer_one() -> None:
    """Of 14 frames at 1024x576 those of 25 at that size tell more than 14 of half the size: attention is not linear."""
    same_size = Measured(2.5, 5.0, Shape(25, 1024 * 576, 2))
    half = Measured(0.1, 1.0, Shape(14, 512 * 576, 2))
    told = expected([half, same_size], Shape(14, 1024 * 576, 2))
    assert told is not None
    assert (told.step_s, told.fixed_s) == (pytest.approx(1.4), pytest.approx(2.8))


def test_a_small_clip_and_a_large_one_are_told_apart() -> None:
    """From one measurement of each, and from one of the large one alone."""
    large, small = Measured(0.4, 4.0, Shape(25, 1024 * 576, 2)), Measured(0.05, 0.7, Shape(14, 512 * 320, 2))
    assert render_s([large, small], LARGE) == pytest.approx(14.0)
    assert render_s([large, small], SMALL) == pytest.approx(0.7 + 25 * 0.05)
    share = (14 * 512 * 320) / (25 * 1024 * 576)
    assert render_s([large], SMALL) == pytest.approx(14.0 * share)
    assert render_s([large], {**LARGE, "max_guidance_scale": 1.0}) == pytest.approx(4.0 + 25 * 0.2)


def test_what_has_no_shape_is_true_of_any() -> None:
    """An older worker tells one pace for all; of a render without a size what was measured last is told."""
    anything, small = Measured(0.5, 2.0), Measured(0.1, 1.0, Shape(4, 4096, 2))
    assert render_s([anything], SMALL) == render_s([anything], LARGE) == 14.5
    assert render_s([small, anything], {"num_inference_steps": 10}) == 2.0
    assert expected([anything, small], Shape(4, 4096, 2)) == small
    assert render_s([], SMALL) is None
    assert render_s([anything], {"width": 64, "height": 64}) is None


def test_several_machines_are_their_mean() -> None:
    """Of those that have measured anything."""
    paces = ((Measured(0.5, 2.0),), (), (Measured(1.5, 2.0),))
    assert mean_render_s(paces, SMALL) == 27.0
    assert mean_render_s(((),), SMALL) is None
