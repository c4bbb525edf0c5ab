"""Reading a request's fields: aliases, spellings, types and ranges, and errors that say what would do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.normalise import REQUEST_FIELDS, read_parameters
from gateway.problems import AliasConflict, InvalidParameter, Problem, UnknownField, problem_response
from providers.vocabulary import (
    BY_NAME,
    CAMERA_MOTIONS,
    IMAGE_ALIASES,
    PARAMETERS,
    SEED_MAX,
    TEXT_LENGTH_MAX,
    Media,
    Parameter,
    Scalar,
    parameters_for,
)
from tests.unit.policies.tables import BUILTIN, values_of, written_for

VIDEO = [route for route in BUILTIN if route.media == "video"]
BOTH_MEDIA: tuple[Media, ...] = ("video", "image")
MEDIA = st.sampled_from(BOTH_MEDIA)
NAMES = sorted({name for parameter in PARAMETERS for name in (parameter.name, *parameter.aliases)})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def read(fields: dict[str, Any], media: Media = "video") -> dict[str, Scalar]:
    """Read fields as the endpoint does, with the built-in video routes for hints."""
    return read_parameters(fields, media, VIDEO)


def read_or_refuse(fields: dict[str, Any], media: Media) -> dict[str, Scalar] | Problem:
    """What the fields mean, or the problem that they raise; nothing else may come out."""
    try:
        return read(fields, media)
    except (UnknownField, AliasConflict, InvalidParameter) as problem:
        return problem


def refusal(fields: dict[str, Any]) -> InvalidParameter:
    """The InvalidParameter that these fields raise."""
    with pytest.raises(InvalidParameter) as caught:
        read(fields)
    return caught.value


@given(MEDIA.flatmap(lambda media: st.tuples(st.just(media), written_for(media))))
def test_canonical_values_are_read_as_they_are(order: tuple[Media, dict[str, Scalar]]) -> None:
    """Whoever writes canonical names and values is understood word for word."""
    media, written = order
    assert read(dict(written), media) == written


@given(MEDIA, st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_normalising_twice_changes_nothing(media: Media, fields: dict[str, Any]) -> None:
    """What was read is canonical: reading it again gives the same values of the same types."""
    once = read_or_refuse(fields, media)
    if isinstance(once, Problem):
        return
    twice = read(dict(once), media)
    assert twice == once
    assert [type(value) for value in twice.values()] == [type(value) for value in once.values()]


@st.composite
def disguised(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """Video fields in other clothes, and what they mean: aliases, numbers as text, words in other spellings."""
    meant = draw(written_for("video"))
    fields: dict[str, Any] = {}
    for name, value in meant.items():
        parameter = BY_NAME[name]
        ways: list[Any] = [value]
        if parameter.kind == "choice":
            word = str(value)
            ways += [word.upper(), word.replace("_", " ").title(), word.replace("_", "-"), f" {word} "]
            ways += [spelling for spelling, canonical in parameter.spellings.items() if canonical == value]
        elif parameter.kind != "text":
            ways += [str(value), f" {value} "]
        if parameter.kind in {"integer", "number"} and float(value).is_integer():
            ways.append(float(value))
        fields[draw(st.sampled_from([name, *free_aliases(parameter, meant)]))] = draw(st.sampled_from(ways))
    return fields, meant


def free_aliases(parameter: Parameter, meant: dict[str, Scalar]) -> list[str]:
    """The aliases of a parameter that no other written parameter could be using."""
    shared = {"motion_bucket_id", "camera_motion"} <= set(meant)
    return [alias for alias in parameter.aliases if not (shared and alias == "motion")]


@given(disguised())
def test_every_alias_and_spelling_means_its_canonical_value(order: tuple[dict[str, Any], dict[str, Scalar]]) -> None:
    """Aliases, numbers written as text and words in any usual spelling are read as one canonical form."""
    fields, meant = order
    assert read(fields) == meant


@given(MEDIA, st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=30), JSON, max_size=4))
def test_any_json_is_read_or_refused_with_a_problem_that_can_be_sent(media: Media, fields: dict[str, Any]) -> None:
    """Whatever a caller sends, the answer is values inside the vocabulary or a problem document."""
    written = read_or_refuse(fields, media)
    if isinstance(written, Problem):
        assert problem_response(written).body
        return
    for name, value in written.items():
        parameter = BY_NAME[name]
        assert media in parameter.media
        if parameter.choices:
            assert value in parameter.choices
        if parameter.minimum is not None and parameter.maximum is not None:
            assert parameter.minimum <= float(value) <= parameter.maximum


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"motion": 90}, {"motion_bucket_id": 90}),
        ({"motion": "90"}, {"motion_bucket_id": 90}),
        ({"motion": "Zoom In"}, {"camera_motion": "zoom_in"}),
        ({"motion": "clockwise"}, {"camera_motion": "cw"}),
        ({"frames": "25"}, {"num_frames": 25}),
        ({"frames": 25}, {"num_frames": 25}),
        ({"cond_aug": "0.10"}, {"noise_aug_strength": 0.1}),
        ({"decoding_t": 4.0}, {"decode_chunk_size": 4}),
        ({"maintain_aspect_ratio": True}, {"resize": "keep_aspect"}),
        ({"maintain_aspect_ratio": "false"}, {"resize": "crop_16_9"}),
        ({"resize_method": "crop_to_16_9"}, {"resize": "crop_16_9"}),
        ({"base64": True}, {"output": "inline"}),
        ({"output_type": "MP4"}, {"output_format": "mp4"}),
        ({"enhance_prompt": "Yes"}, {"enhance_prompt": True}),
        ({"seed": None, "fps": 7}, {"fps": 7}),
        ({"prompt": "", "negative_prompt": "  ", "fps": 7}, {"fps": 7}),
        ({"prompt": " a hill "}, {"prompt": " a hill "}),
        ({"frames": "25", "num_frames": 25.0}, {"num_frames": 25}),
    ],
    ids=str,
)
def test_the_vendors_own_names_are_understood(fields: dict[str, Any], meant: dict[str, Scalar]) -> None:
    """A caller who comes from a vendor's page keeps that page's names and spellings."""
    assert read(fields) == meant


def test_every_word_of_the_camera_is_reachable_through_motion() -> None:
    """`motion` as a word names any of the eight moves."""
    assert {read({"motion": move})["camera_motion"] for move in CAMERA_MOTIONS} == set(CAMERA_MOTIONS)


def test_two_names_with_different_values_are_a_conflict() -> None:
    """Neither value wins: the caller is told both names and both values."""
    with pytest.raises(AliasConflict) as caught:
        read({"frames": 14, "num_frames": 25})
    assert caught.value.extensions == {"parameter": "num_frames", "fields": ["frames", "num_frames"]}
    assert "14" in caught.value.detail
    assert "25" in caught.value.detail


@pytest.mark.parametrize(
    ("field", "nearest"),
    [("framse", "frames"), ("num_frame", "num_frames"), ("Motion", "motion"), ("imagee", "image"), ("zzzz", None)],
)
def test_an_unknown_field_is_refused_naming_the_nearest(field: str, nearest: str | None) -> None:
    """A typing mistake is told with the name that was probably meant, and nothing is guessed."""
    with pytest.raises(UnknownField) as caught:
        read({field: 1})
    known = {*NAMES, *REQUEST_FIELDS, *IMAGE_ALIASES}
    assert caught.value.extensions["field"] == field
    assert caught.value.extensions["nearest"] in known
    assert nearest is None or caught.value.extensions["nearest"] == nearest


def test_a_field_of_the_other_medium_is_unknown() -> None:
    """A parameter that exists only for pictures is no parameter of a video."""
    with pytest.raises(UnknownField):
        read({"strength": 0.5})


@pytest.mark.parametrize("field", ["\ud800", "x" * 1_000_000, ""])
def test_a_hostile_field_name_is_refused_in_few_words(field: str) -> None:
    """A name that is huge or no Unicode text is echoed shortened and printable."""
    with pytest.raises(UnknownField) as caught:
        read({field: 1})
    assert len(problem_response(caught.value).body) < 1_000


@pytest.mark.parametrize(
    "fields",
    [
        {"frames": True},
        {"frames": "1_4"},
        {"frames": "１４"},
        {"frames": 14.5},
        {"frames": []},
        {"frames": "9" * 5_000},
        {"cond_aug": "nan"},
        {"cond_aug": "1_0"},
        {"cond_aug": 10**400},
        {"cond_aug": {"a": 1}},
        {"motion": "nan"},
        {"motion": ["cw"]},
        {"motion": "x" * 1_000_000},
        {"prompt": 5},
        {"prompt": "x" * (TEXT_LENGTH_MAX + 1)},
        {"prompt": "half \ud83d of a pair"},
        {"enhance_prompt": "perhaps"},
        {"output": "carrier pigeon"},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_an_impossible_value_is_refused_with_its_field(fields: dict[str, Any]) -> None:
    """Wrong types, other scripts' digits, NaN, huge numbers and unsendable text are problems, not crashes."""
    problem = refusal(fields)
    assert problem.extensions["errors"][0]["field"] == next(iter(fields))
    assert len(problem_response(problem).body) < 4_000


@given(st.sampled_from([p for p in parameters_for("video") if p.minimum is not None]), st.data())
def test_trap_39_a_value_outside_the_range_is_refused_with_the_range(parameter: Parameter, data: st.DataObject) -> None:
    """Out of range says from where to where, and what each route would take."""
    assert parameter.minimum is not None
    assert parameter.maximum is not None
    too_low = st.integers(max_value=int(parameter.minimum) - 1)
    too_high = st.integers(min_value=int(parameter.maximum) + 1)
    problem = refusal({parameter.name: data.draw(too_low | too_high)})
    [error] = problem.extensions["errors"]
    assert f"must be {int(parameter.minimum)} to {int(parameter.maximum)}" in error["detail"]
    taking = {route.name for route in VIDEO if route.capability(parameter.name) is not None}
    assert set(error["accepted"]) == taking


def test_the_bound_of_a_seed_is_written_out() -> None:
    """Sixteen digits are shown as sixteen digits."""
    assert f"must be -1 to {SEED_MAX}, not" in refusal({"seed": SEED_MAX + 1}).detail


def test_all_faults_are_told_at_once() -> None:
    """A caller mends every value in one round."""
    problem = refusal({"frames": 99, "fps": 0, "motion": "sideways"})
    assert [error["parameter"] for error in problem.extensions["errors"]] == ["num_frames", "fps", "camera_motion"]


def test_a_misspelt_word_is_told_the_nearest() -> None:
    """A move that does not exist is answered with the list and the one that is nearest."""
    assert "did you mean 'zoom_in'?" in refusal({"motion": "zom_in"}).detail


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"width": 512}, InvalidParameter),
        ({"height": 512}, InvalidParameter),
        ({"width": 512, "height": 512, "resize": "keep_aspect"}, AliasConflict),
    ],
    ids=str,
)
def test_a_size_is_whole_or_not_at_all(fields: dict[str, Any], kind: type[Problem]) -> None:
    """Width and height go together, and never beside resize."""
    with pytest.raises(kind):
        read(fields)


@given(st.sampled_from(PARAMETERS), st.data())
def test_every_value_of_the_vocabulary_can_be_written(parameter: Parameter, data: st.DataObject) -> None:
    """No range or word of the vocabulary is out of reach of its own reader."""
    value = data.draw(values_of(parameter))
    partner = {"width": {"height": 64}, "height": {"width": 64}}.get(parameter.name, {})
    media: Media = "video" if "video" in parameter.media else "image"
    assert read({parameter.name: value, **partner}, media)[parameter.name] == value
