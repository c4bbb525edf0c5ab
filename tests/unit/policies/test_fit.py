"""Fitting a request to a route: who may serve it, what is sent, and a receipt that hides nothing."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.fit import (
    SAME_FORM,
    Fit,
    FitMode,
    Picture,
    allows,
    decode,
    describe,
    encode,
    fit,
    nearest,
    picture,
    picture_line,
)
from providers.capability import Capability, Route, SizeRule
from providers.vocabulary import BY_NAME, ORDERED_PAIRS, Scalar
from tests.unit.policies.tables import (
    BUILTIN,
    SIZES,
    fitting_orders,
    invented_routes,
    naive_takes,
    orders,
    values_of,
    written_for,
)

Order = tuple[Route, dict[str, Scalar], tuple[int, int]]
MODES = st.sampled_from(["exact", "nearest"])
SIZED = {"width", "height"}
BY_ROUTE = {route.name: route for route in BUILTIN}


def run(order: Order, mode: FitMode) -> Fit:
    """Fit an order in one mode."""
    route, written, image_size = order
    return fit(route, written, mode=mode, image_size=image_size)


def naive_size_is_possible(route: Route, written: dict[str, Scalar]) -> bool:
    """Whether a written size is one that the route makes, written a second time."""
    rule = route.size
    if rule is None or "width" not in written:
        return True
    width, height = int(written["width"]), int(written["height"])
    return width <= rule.width_max and height <= rule.height_max and not width % rule.multiple + height % rule.multiple


def naive_exact(route: Route, written: dict[str, Scalar]) -> bool:
    """Whether a route can honour a request exactly, read from its rows by the simplest rule."""
    honoured = all(naive_takes(route.capability(name), value) for name, value in written.items())
    given_all = all(row.parameter in written for row in route.capabilities if row.required)
    return honoured and given_all and naive_size_is_possible(route, written) and naive_order(route, written)


def naive_order(route: Route, written: dict[str, Scalar]) -> bool:
    """Whether a lower bound can stay below its upper one: what is not written gives way where its row lets it."""
    for low, high in ORDERED_PAIRS:
        rows = route.capability(low), route.capability(high)
        if None in rows:
            continue
        usual = [row.default if row is not None else None for row in rows]
        pair = [written.get(low, usual[0]), written.get(high, usual[1])]
        backward = None not in pair and float(pair[0] or 0) > float(pair[1] or 0)
        stuck = all(name in written for name in (low, high)) or not all(
            naive_takes(row, value)
            for row, name, value in zip(rows, (low, high), reversed(pair), strict=True)
            if name not in written and value is not None
        )
        if backward and stuck:
            return False
    return True


def naive_nearest(route: Route, written: dict[str, Scalar]) -> bool:
    """Whether a route can serve a request when values may move: only what must be told can be missing."""
    for row in route.capabilities:
        if row.required and row.parameter not in written:
            return False
        movable = BY_NAME[row.parameter].kind in {"integer", "number"}
        if row.required and not movable and not naive_takes(row, written[row.parameter]):
            return False
    return True


@given(orders())
def test_exactly_the_routes_whose_table_allows_the_request_are_eligible(order: Order) -> None:
    """In exact mode a route is refused if and only if some written value is outside its table."""
    assert (not run(order, "exact").refusals) == naive_exact(order[0], order[1])


@given(fitting_orders())
def test_a_request_made_from_a_route_s_own_table_is_eligible(order: Order) -> None:
    """What the rows promise is taken: every combination of allowed values fits exactly, unless a pair is backward."""
    assert (run(order, "exact").refusals == ()) == naive_order(order[0], order[1])


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ({"min_guidance_scale": 5}, (5.0, 5.0)),
        ({"max_guidance_scale": 1}, (1.0, 1.0)),
        ({"max_guidance_scale": 8}, (1.0, 8.0)),
    ],
    ids=str,
)
def test_a_default_gives_way_to_what_the_caller_wrote(written: dict[str, Scalar], sent: tuple[float, float]) -> None:
    """One bound alone is never refused because of the other one's usual value."""
    fitted = fit(BY_ROUTE["modelslab/svd"], written, mode="exact", image_size=(512, 512))
    assert fitted.refusals == ()
    assert (fitted.wire["min_guidance_scale"], fitted.wire["max_guidance_scale"]) == sent


def test_trap_39_bounds_written_backwards_are_refused_in_both_modes() -> None:
    """A contradiction of the caller's own is not guessed away."""
    written: dict[str, Scalar] = {"min_guidance_scale": 5, "max_guidance_scale": 2}
    for mode in ("exact", "nearest"):
        refused = fit(BY_ROUTE["modelslab/svd"], written, mode=mode, image_size=(512, 512))
        assert refused.refusals == ("min_guidance_scale 5 is above max_guidance_scale 2",)


@given(orders())
def test_nearest_refuses_only_what_cannot_be_left_out(order: Order) -> None:
    """In nearest mode values move or drop; refused is only a required word that cannot be sent, or a backward pair."""
    fitted = run(order, "nearest")
    backward = any(float(fitted.values.get(a, 0)) > float(fitted.values.get(b, 99)) for a, b in ORDERED_PAIRS)
    assert (not fitted.refusals) == (naive_nearest(order[0], order[1]) and not backward)


@given(st.data(), st.sampled_from(["video", "image"]))
def test_every_built_in_route_agrees_with_the_naive_reading_of_its_rows(data: st.DataObject, media: str) -> None:
    """One request over the whole fleet is eligible on just the routes that the naive reader picks."""
    written = data.draw(written_for("video" if media == "video" else "image"))
    here = [route for route in BUILTIN if route.media == media]
    eligible = {r.name for r in here if not fit(r, written, mode="exact", image_size=(1024, 576)).refusals}
    assert eligible == {route.name for route in here if naive_exact(route, written)}


@given(orders() | fitting_orders(), MODES)
def test_the_receipt_accounts_for_every_parameter_and_every_field_once(order: Order, mode: FitMode) -> None:
    """Each written parameter has one line, each field of the vendor one line that shows just what it carries."""
    route, written, _ = order
    fitted = run(order, mode)
    if fitted.refusals:
        return
    lines = Counter(line.parameter for line in fitted.receipt)
    assert set(lines.values()) <= {1}
    assert set(written) <= set(lines)
    fields = [line for line in fitted.receipt if line.vendor_name is not None]
    assert {line.vendor_name: line.sent for line in fields} == dict(fitted.wire)
    assert len(fields) == len(fitted.wire)
    assert all(line.sent is None for line in fitted.receipt if line.vendor_name is None)
    assert {line.parameter: line.asked for line in fitted.receipt if line.asked is not None} == written
    unwritten = [line for line in fitted.receipt if line.asked is None]
    assert all(line.outcome == "defaulted" for line in unwritten)
    assert all(line.outcome != "defaulted" for line in fitted.receipt if line.asked is not None)
    assert route.name == fitted.route


@given(fitting_orders())
def test_what_the_vendor_is_sent_reads_back_as_what_was_asked(order: Order) -> None:
    """In exact mode every written value survives the vendor's own spelling, and JSON, and the way back."""
    route, written, _ = order
    fitted = run(order, "exact")
    arrived = json.loads(json.dumps(dict(fitted.wire)))
    assert arrived == fitted.wire
    for line in fitted.receipt:
        row = route.capability(line.parameter)
        assert row is not None
        if line.vendor_name is not None:
            assert decode(row, arrived[line.vendor_name]) == fitted.values[line.parameter]
        if line.asked is not None:
            assert fitted.values[line.parameter] == written[line.parameter]


@given(orders())
def test_a_vendor_default_is_never_relied_on(order: Order) -> None:
    """A canonical default that the row takes is sent or done, whether or not the caller thought of it."""
    route, written, _ = order
    fitted = run(order, "exact")
    for row in route.capabilities:
        usual = row.default if row.default is not None else BY_NAME[row.parameter].default
        skipped = row.parameter == "resize" and "width" in written
        skipped = skipped or any(row.parameter in pair for pair in ORDERED_PAIRS)
        if usual is not None and row.parameter not in written and not skipped and naive_takes(row, usual):
            assert fitted.values[row.parameter] == usual


@given(fitting_orders())
def test_nothing_moves_where_nothing_must(order: Order) -> None:
    """What fits exactly is sent the same way in nearest mode."""
    assert run(order, "nearest") == run(order, "exact")


@given(orders())
def test_a_moved_request_fits_exactly_the_next_time(order: Order) -> None:
    """The values that nearest settles on are all inside the table: asking for them again moves nothing."""
    route, _, image_size = order
    moved = run(order, "nearest")
    if moved.refusals:
        return
    again = {name: value for name, value in moved.values.items() if name != "resize" or "width" not in moved.values}
    settled = fit(route, again, mode="exact", image_size=image_size)
    assert settled.refusals == ()
    assert {name: settled.values[name] for name in again} == again


@given(invented_routes() | st.sampled_from(BUILTIN), st.data())
def test_a_moved_value_is_the_closest_one_that_the_route_takes(route: Route, data: st.DataObject) -> None:
    """No allowed value lies nearer to the asked one than the one that was sent."""
    numeric = [row for row in route.capabilities if BY_NAME[row.parameter].kind in {"integer", "number"}]
    movable = [row for row in numeric if row.parameter not in SIZED | {"seed"}]
    if not movable:
        return
    row = data.draw(st.sampled_from(movable))
    asked = data.draw(values_of(BY_NAME[row.parameter]))
    moved = nearest(row, asked)
    assert moved is not None
    assert naive_takes(row, moved)
    others = [row.minimum, row.maximum, *row.allowed, *data.draw(st.lists(values_of(BY_NAME[row.parameter])))]
    distances = [abs(float(other) - float(asked)) for other in others if other is not None and naive_takes(row, other)]
    assert abs(float(moved) - float(asked)) <= min(distances, default=float("inf"))


@given(SIZES, SIZES, st.sampled_from([1, 2, 8, 16]), MODES)
def test_a_derived_size_lies_in_the_box_and_keeps_the_shape(
    asked: tuple[int, int], image: tuple[int, int], multiple: int, mode: FitMode
) -> None:
    """A size that vidgate chooses is a legal one of the route, and of the asked shape as far as rounding lets it."""
    route = _sized_route(SizeRule(1000, 500, multiple))
    written: dict[str, Scalar] = {"width": asked[0], "height": asked[1]} if mode == "nearest" else {}
    fitted = fit(route, written, mode=mode, image_size=image)
    assert fitted.refusals == ()
    width, height = int(fitted.values["width"]), int(fitted.values["height"])
    assert 64 <= width <= 1000
    assert 64 <= height <= 500
    assert width % multiple == height % multiple == 0
    shape = asked if mode == "nearest" else image
    scale = min(1000 / shape[0], 500 / shape[1], *([1.0] if mode == "nearest" else []))
    if min(shape[0] * scale, shape[1] * scale) >= 64 + multiple:
        assert abs(width - shape[0] * scale) <= multiple
        assert abs(height - shape[1] * scale) <= multiple


def _sized_route(rule: SizeRule) -> Route:
    table = (Capability("width", "width"), Capability("height", "height"))
    return Route("a/b", "a", "video", "b", table, ("url",), "sync", 1.0, False, "free", "", size=rule)


def test_a_size_is_refused_with_the_limits_it_broke() -> None:
    """The refusal of a size names the box and the steps."""
    written: dict[str, Scalar] = {"width": 520, "height": 300}
    refused = fit(BY_ROUTE["modelslab/svd"], written, mode="exact", image_size=(1024, 576))
    assert "size 520x300 is not possible here: at most 512x512, in multiples of 8" in refused.refusals


def test_a_refusal_says_what_the_route_would_take() -> None:
    """Every refusal carries the range, the set or the parameter that is missing."""
    refused = fit(
        BY_ROUTE["segmind/svd"],
        {"motion_bucket_id": 200, "num_frames": 16, "camera_motion": "cw"},
        mode="exact",
        image_size=(8, 8),
    )
    assert refused.refusals == (
        "motion_bucket_id 200 is not possible here: 1 to 180",
        "this route has no camera_motion",
        "num_frames 16 is not possible here: only 14 or 25",
    )
    needs = fit(BY_ROUTE["segmind/motionctrl-svd"], {}, mode="exact", image_size=(8, 8))
    assert needs.refusals[0].startswith("this route needs camera_motion: one of pan_up, pan_down")


def test_the_receipt_tells_renamed_converted_moved_and_dropped_apart() -> None:
    """Each outcome is said where it happened, with the vendor's name and the vendor's value."""
    written: dict[str, Scalar] = {
        "motion_bucket_id": 200,
        "num_frames": 25,
        "noise_aug_strength": 0.5,
        "prompt": "a hill",
        "seed": 7,
    }
    fitted = fit(BY_ROUTE["segmind/svd"], written, mode="nearest", image_size=(1024, 576))
    told = {line.parameter: (line.outcome, line.vendor_name, line.sent) for line in fitted.receipt}
    assert told["motion_bucket_id"] == ("moved", "motion", 180)
    assert told["num_frames"] == ("converted", "frames", "25")
    assert told["noise_aug_strength"] == ("renamed", "cond_aug", 0.5)
    assert told["prompt"] == ("dropped", None, None)
    assert told["seed"] == ("passed", "seed", 7)
    assert told["fps"] == ("defaulted", "fps", 7)


def test_a_dropped_word_leaves_the_usual_one_in_its_place() -> None:
    """A vendor's own default is not relied on even for a value that had to be dropped."""
    row = Capability("latent_interpolation_method", "lerping", allowed=("lerp",), default="lerp")
    route = Route("a/b", "a", "video", "b", (row,), ("url",), "sync", 1.0, False, "free", "")
    fitted = fit(route, {"latent_interpolation_method": "slerp"}, mode="nearest", image_size=(64, 64))
    assert fitted.wire == {"lerping": "lerp"}
    assert [(line.asked, line.sent, line.outcome) for line in fitted.receipt] == [("slerp", "lerp", "dropped")]


def test_a_required_word_that_the_route_lacks_is_refused_even_in_nearest_mode() -> None:
    """There is no nearest camera move, and a vendor that must be told one is not sent none."""
    row = Capability("camera_motion", "move", spelling={"cw": "CW"}, required=True)
    route = Route("a/b", "a", "video", "b", (row,), ("url",), "sync", 1.0, False, "free", "")
    refused = fit(route, {"camera_motion": "pan_up"}, mode="nearest", image_size=(64, 64))
    assert refused.refusals == ("camera_motion 'pan_up' is not possible here: one of cw",)


@pytest.mark.parametrize(
    ("row", "phrase"),
    [
        (Capability("prompt", "prompt"), "any text"),
        (Capability("motion_bucket_id", "motion"), "any value"),
        (Capability("fps", "fps", minimum=5, maximum=30), "5 to 30"),
        (Capability("num_frames", "frames", allowed=(14, 25)), "only 14 or 25"),
    ],
)
def test_what_a_row_takes_is_said_in_its_own_kind(row: Capability, phrase: str) -> None:
    """A caller who is refused for a missing prompt reads that text is wanted, not any value."""
    assert describe(row) == phrase


@pytest.mark.parametrize("route", BUILTIN, ids=lambda route: route.name)
def test_every_built_in_table_is_sound(route: Route) -> None:
    """Rows name known parameters of the right kind once, fields never collide, and defaults are allowed."""
    names = [row.parameter for row in route.capabilities]
    fields = [row.wire for row in route.capabilities if row.wire is not None]
    assert len(set(names)) == len(names)
    assert len(set(fields)) == len(fields)
    for row in route.capabilities:
        parameter = BY_NAME[row.parameter]
        assert route.media in parameter.media
        assert describe(row)
        assert row.default is None or allows(row, row.default)
        assert all(value in parameter.choices for value in row.spelling)
        assert not (row.required and parameter.default is not None)
        assert (row.wire is not None) == (row.by == "vendor")


@given(st.sampled_from(BUILTIN), st.data())
def test_the_vendor_spelling_of_every_value_is_reversible(route: Route, data: st.DataObject) -> None:
    """`decode` undoes `encode` for every value that a built-in row takes."""
    row = data.draw(st.sampled_from([row for row in route.capabilities if row.wire is not None]))
    value = data.draw(st.sampled_from(row.allowed) if row.allowed else values_of(BY_NAME[row.parameter]))
    assert decode(row, json.loads(json.dumps(encode(row, value)))) == value


def test_the_picture_is_cropped_only_where_vidgate_does_it() -> None:
    """A route whose vendor crops gets the picture as it is; one whose vendor cannot gets a cropped one."""
    wide: dict[str, Scalar] = {"resize": "crop_16_9"}
    expected = {
        "segmind/svd": Picture(None, None),
        "segmind/motionctrl-svd": Picture((16, 9), None),
        "modelslab/svd": Picture((16, 9), (512, 288)),
    }
    for name, wanted in expected.items():
        route = BY_ROUTE[name]
        values = fit(route, wide, mode="nearest", image_size=(900, 900)).values
        assert picture(route, values) == wanted


@given(orders(), MODES, st.sampled_from(sorted(SAME_FORM)), st.sampled_from(sorted(SAME_FORM.values())))
def test_the_receipt_tells_what_became_of_the_picture(order: Order, mode: FitMode, given_as: str, form: str) -> None:
    """Form, crop and size are all told, and a picture that stayed as it was given is not said to be converted."""
    route, _, image_size = order
    values = run(order, mode).values
    line = picture_line(route, values, given=given_as, form=form, image_size=image_size)
    wanted = picture(route, values)
    assert (line.parameter, line.asked, line.sent, line.vendor_name) == ("image", given_as, form, route.image_name)
    touched = wanted.crop is not None or (wanted.size is not None and wanted.size != image_size)
    same_form = {"file": "bytes", "base64": "base64", "data_uri": "data_uri", "link": "url"}[given_as] == form
    assert (line.outcome == "converted") == (touched or not same_form)
    assert line.outcome in {"converted", "passed" if route.image_name == "image" else "renamed"}
    assert ("cropped to 16:9" in line.reason) == (wanted.crop is not None)
    assert ("brought to" in line.reason) == (wanted.size is not None and wanted.size != image_size)
