"""The price book: formulas as data, in force from a date on, and nothing without a price."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.money.prices import Price, PriceBook, PriceBookError

AT = 1_790_812_800.0  # 2026-10-01T00:00:00Z
NAMES = ("num_frames", "fps", "num_inference_steps", "samples", "motion_bucket_id", "gpu_seconds")


def book(*dated: dict[str, Any], route: str = "vendor/model") -> PriceBook:
    """A price book of one route."""
    entries = [{"effective_from": "2026-01-01", **one} for one in dated]
    return PriceBook.load(yaml.safe_dump({"currency": "USD", "routes": {route: entries}}))


def term(per: str, usd: str, **more: Any) -> dict[str, Any]:
    """One figure of a formula."""
    return {"per": per, "usd": usd, "confidence": "published", "source": "price page", **more}


def cost(formula: dict[str, Any], **parameters: Any) -> int | None:
    """What a formula comes to."""
    price = book(formula).price("vendor/model", parameters, AT)
    return None if price is None else price.cost_micros


@pytest.mark.parametrize(
    ("terms", "parameters", "micros"),
    [
        ([term("call", "0.2")], {}, 200_000),
        ([term("frame", "0.01")], {"num_frames": 14}, 140_000),
        ([term("frame", "0.01", included=10)], {"num_frames": 14}, 40_000),
        ([term("frame", "0.01", included=20)], {"num_frames": 14}, 0),
        ([term("second", "0.05")], {"num_frames": 14, "fps": 7}, 100_000),
        ([term("second", "0.03")], {"num_frames": 25, "fps": 7}, 107_143),
        ([term("step", "0.001")], {"num_inference_steps": 25}, 25_000),
        ([term("sample", "0.00331")], {"samples": 4}, 13_240),
        ([term("step", "0.001", each="sample")], {"num_inference_steps": 20, "samples": 3}, 60_000),
        ([term("call", "0.1"), term("frame", "0.01")], {"num_frames": 5}, 150_000),
        ([term("call", "0.00000001")], {}, 1),
    ],
)
def test_a_formula_counts_its_quantities(terms: list[Any], parameters: dict[str, Any], micros: int) -> None:
    """Calls, frames, seconds of video, steps and samples, some of them included, rounded up to a micro."""
    assert cost({"terms": terms}, **parameters) == micros


def gpu() -> dict[str, Any]:
    """A formula by the GPU second with an estimate."""
    estimate = {"base_s": "3", "frame_s": "0.5", "step_s": "0.1", "frame_step_s": "0.01"}
    return {"terms": [term("gpu_second", "0.001", estimate=estimate)]}


def test_gpu_seconds_are_estimated_before_and_measured_after() -> None:
    """A local route has a price ahead of the render, and its true one with the seconds it took."""
    assert cost(gpu(), num_frames=10, num_inference_steps=20) == 12_000  # 3 + 5 + 2 + 2 seconds
    assert cost(gpu(), num_frames=10, num_inference_steps=20, gpu_seconds=7.5) == 7_500
    assert cost(gpu(), num_frames=10) is None


def test_a_price_follows_the_measured_pace_as_far_as_the_hold_goes() -> None:
    """Never above the worst case of the book, so that no admitted job is too dear for its hold."""
    frames = {"num_frames": 10, "num_inference_steps": 20}  # 12 s by the book
    local = book({**gpu(), "worst_factor": "2"})
    plain = local.price("vendor/model", frames, AT)
    assert plain is not None
    assert local.paced("vendor/model", frames, AT, None) == plain
    for seconds, cost_micros, worst_micros in ((4.0, 4_000, 24_000), (20.0, 20_000, 40_000), (60.0, 24_000, 120_000)):
        paced = local.paced("vendor/model", frames, AT, seconds)
        assert paced is not None
        assert (paced.cost_micros, paced.worst_micros) == (cost_micros, worst_micros)
        assert sum(line.amount_micros for line in paced.breakdown) == cost_micros
    assert local.paced("other/model", frames, AT, 4.0) is None


def test_only_a_price_by_the_gpu_second_is_measured() -> None:
    """With the seconds that the worker told; nonsense and other prices leave the book's figure."""
    local, vendor = book(gpu()), book({"terms": [term("call", "0.2")]})
    frames = {"num_frames": 10, "num_inference_steps": 20}
    assert local.measured_micros("vendor/model", frames, AT, 7.5) == 7_500
    for seconds in (None, -1.0, math.nan, math.inf, 1e300):
        assert local.measured_micros("vendor/model", frames, AT, seconds) is None
    assert vendor.measured_micros("vendor/model", frames, AT, 7.5) is None
    assert local.measured_micros("other/model", frames, AT, 7.5) is None


TIERS = {
    "parameter": "fps",
    "bands": [{"up_to": "10", "factor": "1"}, {"up_to": "30", "factor": "1.5"}, {"factor": "0.5"}],
    "confidence": "assumed",
    "source": "guess",
}


@pytest.mark.parametrize(("fps", "micros"), [(1, 1000), (10, 1000), (10.5, 1500), (30, 1500), (31, 500)])
def test_tiers_multiply_by_the_band_with_its_upper_edge(fps: float, micros: int) -> None:
    """A band ends with its `up_to`, and the last one is open."""
    assert cost({"terms": [term("call", "0.001")], "tiers": [TIERS]}, fps=fps) == micros


def test_a_price_explains_every_micro() -> None:
    """The lines add up to the cost, and the least sure figure says how sure the whole is."""
    price = book({"terms": [term("frame", "0.01")], "tiers": [TIERS], "worst_factor": "1.25"}).price(
        "vendor/model", {"num_frames": 3, "fps": 20}, AT
    )
    assert price is not None
    assert [(line.label, line.quantity, line.amount_micros) for line in price.breakdown] == [
        ("per frame", "3", 30_000),
        ("fps 20", "times 1.5", 15_000),
    ]
    assert (price.cost_micros, price.worst_micros) == (45_000, 56_250)
    assert (price.confidence, price.source) == ("assumed", "vendor/model@2026-01-01")


@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(st.integers(0, 1000), st.floats(), st.text(), st.booleans())))
def test_no_parameters_make_a_price_that_is_wrong_quietly(parameters: dict[str, Any]) -> None:
    """Whatever stands there: either no price, or an amount that its lines add up to and the hold covers."""
    formula = {"terms": [term("frame", "0.01"), term("second", "0.02")], "tiers": [TIERS], "worst_factor": "2"}
    price = book(formula).price("vendor/model", parameters, AT)
    if price is not None:
        assert 0 <= price.cost_micros <= price.worst_micros
        assert price.cost_micros == sum(line.amount_micros for line in price.breakdown)


@pytest.mark.parametrize("value", [None, "14", True, float("nan"), float("inf"), -1])
def test_a_quantity_that_is_not_a_number_has_no_price(value: object) -> None:
    """A missing or impossible quantity does not count as 0."""
    assert cost({"terms": [term("frame", "0.01")]}, num_frames=value) is None


def test_no_frames_a_second_have_no_price() -> None:
    """Nothing is divided by 0."""
    assert cost({"terms": [term("second", "0.01")]}, num_frames=14, fps=0) is None


def test_a_price_beyond_all_money_is_no_price() -> None:
    """A figure with too many zeros keeps the route from starting."""
    assert cost({"terms": [term("frame", "1000000000")]}, num_frames=14) is None


def test_the_price_of_the_time_holds() -> None:
    """A price counts from its date until the next one: what was quoted stays, what comes is not charged before."""
    dated = book(
        {"effective_from": "2026-10-01T00:00:00Z", "terms": [term("call", "0.3")]},
        {"effective_from": "2026-09-01", "terms": [term("call", "0.2")]},
    )

    def at(instant: float) -> Price | None:
        return dated.price("vendor/model", {}, instant)

    assert at(AT - 31 * 86_400) is None
    before, after = at(AT - 0.001), at(AT)
    assert before is not None
    assert after is not None
    assert (before.cost_micros, after.cost_micros) == (200_000, 300_000)
    assert dated.missing(["vendor/model", "vendor/other"], AT) == ["vendor/other"]
    assert dated.missing(["vendor/model"], 0.0) == ["vendor/model"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"terms": [term("call", "0.2")], "free": True}, "free"),
        ({"terms": []}, "free"),
        ({"terms": [term("hour", "0.2")]}, "per"),
        ({"terms": [term("call", 0.2)]}, "quoted"),
        ({"terms": [term("call", "-0.2")]}, "between 0"),
        ({"terms": [term("call", "NaN")]}, "between 0"),
        ({"terms": [{"per": "call", "usd": "0.2"}]}, "source"),
        ({"terms": [term("call", "0.2", confidence="sure")]}, "confidence"),
        ({"terms": [term("call", "0.2", estimate={})]}, "gpu_second"),
        ({"terms": [term("gpu_second", "0.2")]}, "estimate"),
        ({"terms": [term("call", "0.2")], "worst_factor": "0.9"}, "worst_factor"),
        ({"terms": [term("call", "0.2")], "discount": "1"}, "discount"),
        ({"terms": [term("call", "0.2")], "tiers": [{**TIERS, "bands": [{"up_to": "3", "factor": "1"}]}]}, "last"),
        ({"terms": [term("call", "0.2")], "tiers": [{**TIERS, "bands": TIERS["bands"][1::-1]}]}, "last"),
        ({"terms": [term("call", "0.2")], "effective_from": "soon"}, "effective_from"),
        ({"terms": [term("call", "0.2")], "effective_from": "2026-01-01T00:00:00"}, "zone"),
    ],
)
def test_a_wrong_price_book_says_where(change: dict[str, Any], where: str) -> None:
    """A mistake in the book is found when it is read, with the place."""
    with pytest.raises(PriceBookError, match=r"routes\.vendor/model|two prices") as caught:
        book(change)
    assert where in str(caught.value)


def test_bands_must_ascend() -> None:
    """Bands out of order are a mistake, not a puzzle."""
    bands = [{"up_to": "30", "factor": "1"}, {"up_to": "10", "factor": "2"}, {"factor": "3"}]
    with pytest.raises(PriceBookError, match="ascend"):
        book({"terms": [term("call", "1")], "tiers": [{**TIERS, "bands": bands}]})


def test_two_prices_from_the_same_instant_are_refused() -> None:
    """One instant has one price."""
    one = {"terms": [term("call", "0.2")]}
    with pytest.raises(PriceBookError, match="two prices"):
        book(one, one)


@pytest.mark.parametrize("text", ["", "routes: {}", "currency: EUR\nroutes: {}", "{", "currency: USD\nroutes: {a: []}"])
def test_what_is_no_price_book_is_refused(text: str) -> None:
    """Empty, foreign and broken books do not start a gateway."""
    with pytest.raises(PriceBookError):
        PriceBook.load(text)


def test_an_operators_file_replaces_whole_routes(tmp_path: Path) -> None:
    """One's own figures stand in for the published ones, route by route."""
    own = tmp_path / "prices.yaml"
    own.write_text(
        yaml.safe_dump(
            {
                "currency": "USD",
                "routes": {"preview/camera": [{"effective_from": "2026-01-01", "terms": [term("call", "0.01")]}]},
            }
        )
    )
    prices = PriceBook.seeded(own)
    price = prices.price("preview/camera", {}, AT)
    assert price is not None
    assert price.cost_micros == 10_000
    assert prices.missing(["segmind/svd"], AT) == []
    with pytest.raises(PriceBookError, match=r"nothing\.yaml"):
        PriceBook.load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("route", "micros"),
    [
        ("segmind/svd", 165_900),
        ("segmind/svd-sync", 165_900),
        ("segmind/motionctrl-svd", 89_300),
        ("segmind/motionctrl-svd-sync", 89_300),
        ("segmind/ssd-img2img", 6_620),
        ("modelslab/svd", 200_000),
        ("preview/camera", 0),
    ],
)
def test_the_seeded_figures_are_the_published_averages(route: str, micros: int) -> None:
    """The book that vidgate comes with says what the vendors' pages say (WIRE 1.8, 2.6)."""
    price = PriceBook.seeded().price(route, {"num_frames": 14, "fps": 7, "samples": 2}, AT)
    assert price is not None
    assert price.cost_micros == micros
    assert price.worst_micros >= micros
