"""What a worker takes and what it refuses, before any pipeline sees it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from providers.local_gpu.worker.orders import MODELS, Field, OrderError, ordered, read_asked
from providers.vocabulary import BY_NAME
from tests.support.gpu_worker import MODELS as SERVED
from tests.support.gpu_worker import order_body
from tests.support.pictures import picture

RANGES = [
    pytest.param(model, name, field, id=f"{model} {name}")
    for model, table in MODELS.items()
    for name, field in table.fields.items()
    if field.kind in {"integer", "number"}
]


def refused(body: bytes) -> OrderError:
    """The refusal of a body."""
    with pytest.raises(OrderError) as caught:
        read_asked(body, (*SERVED, "svd-xt"))
    return caught.value


def needed(model: str) -> dict[str, Any]:
    """What an order of this model cannot do without."""
    return {"prompt": "a dog"} if model == "ssd-1b" else {}


@pytest.mark.parametrize(("model", "name", "field"), RANGES)
def test_a_number_outside_its_range_is_refused_by_name(model: str, name: str, field: Field) -> None:
    """One past either end, what is no number, and no finite one: the refusal names the field and shows the value."""
    for value in (field.minimum - 1, field.maximum + 1, "7", True, [], float("nan"), float("inf")):
        error = refused(order_body(model, **{**needed(model), name: value}))
        assert error.field == name
        assert name in str(error)
    if field.kind == "integer":
        assert refused(order_body(model, **{**needed(model), name: field.minimum + 0.5})).field == name


@pytest.mark.parametrize("model", MODELS)
def test_what_is_not_given_has_a_value_all_the_same(model: str) -> None:
    """Every parameter of the table is in the order that reaches the pipeline, the size included."""
    asked = read_asked(order_body(model, **needed(model)), (model,))
    assert asked.parameters.keys() == MODELS[model].fields.keys()
    assert asked.parameters.get("num_frames", 1) == MODELS[model].frames


@pytest.mark.parametrize("model", MODELS)
def test_the_table_agrees_with_the_one_vocabulary(model: str) -> None:
    """What the gateway promises for a parameter is within what the worker takes."""
    for name, field in MODELS[model].fields.items():
        canonical = BY_NAME[name]
        if field.kind in {"integer", "number"} and name not in {"width", "height"}:
            assert canonical.minimum is not None
            assert canonical.maximum is not None
            assert field.minimum <= canonical.minimum, name
            assert field.maximum >= canonical.maximum, name


def test_fields_that_do_not_go_together_are_refused() -> None:
    """Guidance that falls, one side without the other, a side that is cut into no blocks, too many pixels, no step."""
    assert refused(order_body(min_guidance_scale=3, max_guidance_scale=2)).field == "min_guidance_scale"
    assert refused(order_body(width=512)).field == "height"
    assert refused(order_body(height=512)).field == "width"
    assert refused(order_body(width=508, height=512)).field == "width"
    assert refused(order_body(width=2048, height=2048)).field == "width"
    assert refused(order_body("ssd-1b", prompt="a", strength=0.01, num_inference_steps=25)).field == "strength"


def test_text_and_words_are_checked() -> None:
    """A prompt that is missing, empty, too long or no text, and a container nobody writes."""
    assert refused(order_body("ssd-1b")).field == "prompt"
    for prompt in ("", "x" * 2001, 7):
        assert refused(order_body("ssd-1b", prompt=prompt)).field == "prompt"
    assert refused(order_body(output_format="avi")).field == "output_format"
    assert refused(order_body(output_format="jpg")).field == "output_format"


def test_unknown_names_are_refused() -> None:
    """A camera move, a field beside the three, and a model that is not loaded: nothing is dropped in silence."""
    assert refused(order_body(camera_motion="pan_up")).field == "camera_motion"
    assert refused(order_body("svd-3")).field == "model"
    extra = json.loads(order_body()) | {"priority": 1}
    assert refused(json.dumps(extra).encode()).field == "priority"
    with pytest.raises(OrderError, match="svd"):
        read_asked(order_body("svd-xt"), ("svd",))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_order_is_refused(body: bytes) -> None:
    """Whatever it is, it is an OrderError."""
    assert refused(body).field == "body"


def test_a_picture_must_open() -> None:
    """No picture, no base64, half a picture, a kind that is not taken, and one that is too large."""
    values = json.loads(order_body())
    for image in (None, 7, "", "!!!", "AAAA"):
        assert refused(json.dumps({**values, "image": image}).encode()).field == "image"
    assert refused(order_body(image=picture()[:-40])).field == "image"
    assert refused(order_body(image=picture("GIF"))).field == "image"
    out = io.BytesIO()
    Image.new("1", (10_000, 7_000)).save(out, "PNG")
    assert "too many" in str(refused(order_body(image=out.getvalue())))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda s: st.lists(s, max_size=3)))
def test_no_value_of_a_parameter_does_anything_but_be_refused(value: Any) -> None:
    """Whatever JSON stands in the place of a number, the reader answers with a value or an OrderError."""
    for name in ("fps", "seed", "width", "output_format", "noise_aug_strength"):
        body = json.loads(order_body())
        body["parameters"] = {name: value, **({"height": 64} if name == "width" else {})}
        field: str | None = None
        try:
            read_asked(json.dumps(body).encode(), SERVED)
        except OrderError as error:
            field = error.field
        assert field in {name, None}


def test_the_size_follows_the_picture_when_none_is_asked_for() -> None:
    """The picture's shape, in whole blocks, at about the model's own number of pixels."""
    for shape, expected in (((1600, 900), (1024, 576)), ((900, 1600), (576, 1024)), ((500, 500), (768, 768))):
        asked = read_asked(order_body(image=picture("JPEG", shape)), SERVED)
        assert (asked.parameters["width"], asked.parameters["height"]) == expected
    long = read_asked(order_body(image=picture("PNG", (4000, 10))), SERVED).parameters
    assert (long["width"], long["height"]) == (1536, 384)


def test_the_digest_is_of_what_was_asked() -> None:
    """The same order has the same digest, another value or another picture has another."""
    same = read_asked(order_body(fps=7), SERVED).digest
    assert read_asked(order_body(fps=7), SERVED).digest == same
    assert read_asked(order_body(fps=8), SERVED).digest != same
    assert read_asked(order_body(fps=7, image=picture("JPEG")), SERVED).digest != same


def test_a_seed_is_drawn_only_where_it_was_left_open() -> None:
    """-1 asks for one; any other is kept."""
    assert ordered("a", read_asked(order_body(), SERVED), 42).parameters["seed"] == 42
    assert ordered("a", read_asked(order_body(seed=7), SERVED), 42).parameters["seed"] == 7


def test_the_steps_of_a_picture_are_those_that_run() -> None:
    """A strength leaves out the first steps, as the pipeline does."""
    asked = read_asked(order_body("ssd-1b", prompt="a", strength=0.5, num_inference_steps=25), SERVED)
    assert ordered("a", asked, 1).steps == 12
    assert ordered("a", read_asked(order_body(num_inference_steps=9), SERVED), 1).steps == 9
