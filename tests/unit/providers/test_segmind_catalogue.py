"""The catalogue is consistent with itself, with the vocabulary and with the vendor's own table in the simulator."""

from __future__ import annotations

from random import Random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.fit import fit
from providers.contract import Tools
from providers.segmind import PLUGIN
from providers.segmind.adapter import SegmindWithUploads
from providers.segmind.catalogue import CATALOGUE, ENDPOINTS
from providers.segmind.simulator.models import MODELS
from providers.vocabulary import BY_NAME, parameters_for

NEEDED = {"svd": {}, "motionctrl-svd": {"camera_motion": "cw"}, "ssd-img2img": {"prompt": "a fox"}}
ROUTES = pytest.mark.parametrize("name", sorted(ENDPOINTS))


def test_the_catalogue_offers_the_three_models_on_both_versions() -> None:
    """Six routes, with the vendor's published mean times."""
    assert {route.name: route.latency_nominal_s for route in CATALOGUE} == {
        "segmind/svd": 29.63,
        "segmind/svd-sync": 29.63,
        "segmind/motionctrl-svd": 62.74,
        "segmind/motionctrl-svd-sync": 62.74,
        "segmind/ssd-img2img": 4.0,
        "segmind/ssd-img2img-async": 4.0,
    }


@ROUTES
def test_every_row_is_a_known_parameter_of_the_routes_media_with_a_source(name: str) -> None:
    """A row names a canonical parameter, once, and where the fact is from."""
    route = ENDPOINTS[name].route
    rows = [row.parameter for row in route.capabilities]
    assert len(rows) == len(set(rows))
    for row in route.capabilities:
        assert row.parameter in BY_NAME
        assert route.media in BY_NAME[row.parameter].media
        assert row.source or row.by == "gateway"
        assert (row.wire is None) == (row.by != "vendor")


@ROUTES
def test_every_field_sent_is_one_of_the_vendors_and_none_is_left_to_its_default(name: str) -> None:
    """The fitted parameters, the constants and the picture are the vendor's whole table (an empty text apart)."""
    endpoint = ENDPOINTS[name]
    fitted = fit(endpoint.route, NEEDED[endpoint.model.slug], mode="exact", image_size=(64, 48))
    sent = set(fitted.wire) | set(endpoint.model.constants) | {endpoint.route.image_name}
    assert sent | {"negative_prompt"} == set(MODELS[endpoint.model.slug]) | {"negative_prompt"}


@ROUTES
def test_ranges_and_spellings_are_the_vendors_own(name: str) -> None:
    """The catalogue was written for the gateway and the simulator's table from the pages: they agree."""
    endpoint = ENDPOINTS[name]
    for row in endpoint.route.capabilities:
        if row.wire is None:
            continue
        field = MODELS[endpoint.model.slug][row.wire]
        assert set(row.spelling.values()) <= set(field.choices) or not field.choices
        assert {str(value) for value in row.allowed} <= {str(choice) for choice in field.choices}
        if row.minimum is not None and row.wire != "decoding_t":
            assert (row.minimum, row.maximum) == (field.minimum, field.maximum), row.wire


@given(data=st.data(), name=st.sampled_from(sorted(ENDPOINTS)))
def test_whatever_fits_is_within_the_vendors_ranges(data: st.DataObject, name: str) -> None:
    """For any written numbers: either the route refuses with a reason or every value sent is one the vendor takes."""
    endpoint = ENDPOINTS[name]
    written = dict(NEEDED[endpoint.model.slug])
    for parameter in parameters_for(endpoint.route.media):
        if parameter.kind in {"integer", "number"} and parameter.minimum is not None and data.draw(st.booleans()):
            if parameter.kind == "integer":
                written[parameter.name] = data.draw(st.integers(int(parameter.minimum), int(parameter.maximum or 0)))
            else:
                written[parameter.name] = data.draw(st.floats(parameter.minimum, parameter.maximum))
    if "width" in written or "height" in written:
        written |= {"width": 512, "height": 512}
    fitted = fit(endpoint.route, written, mode="exact", image_size=(64, 48))
    if fitted.refusals:
        return
    for field_name, value in fitted.wire.items():
        field = MODELS[endpoint.model.slug][field_name]
        if field.choices:
            assert value in field.choices
        elif isinstance(value, int | float) and field.minimum is not None and field.maximum is not None:
            assert field.minimum <= value <= max(field.maximum, 64 if field_name == "decoding_t" else field.maximum)


def test_settings_refuse_what_would_not_work() -> None:
    """No key, an unknown key of the section, an address that is none, a route that does not exist."""
    for wrong in (
        {},
        {"api_key": " "},
        {"api_key": "ключ"},
        {"api_key": "k", "base_url": "api.segmind.com"},
        {"api_key": "k", "colour": "red"},
    ):
        with pytest.raises(ValidationError):
            PLUGIN.settings.model_validate(wrong)
    section = PLUGIN.settings.model_validate({"api_key": "k", "routes": ["segmind/nope"]})
    tools = Tools(httpx.AsyncClient(), Clockless(), Random(1))
    with pytest.raises(ValueError, match="segmind/svd"):
        PLUGIN.build(section, tools)


@pytest.mark.parametrize("ending", ["/v1", "/v2", "/v1/"])
def test_an_address_with_a_version_is_refused_with_what_mends_it(ending: str) -> None:
    """The vendor's own client has /v1 in its address; here every call would answer 404."""
    with pytest.raises(ValidationError, match="drop the /v1 or /v2 at its end"):
        PLUGIN.settings.model_validate({"api_key": "k", "base_url": f"https://api.segmind.com{ending}"})


def test_settings_choose_routes_and_uploads_and_hide_the_key() -> None:
    """The configured routes only, uploads only where asked for, and no key in a printed configuration."""
    section = PLUGIN.settings.model_validate(
        {"api_key": "SG_secret", "routes": ["segmind/svd"], "upload": True, "base_url": "https://api.segmind.com/"}
    )
    built = PLUGIN.build(section, Tools(httpx.AsyncClient(), Clockless(), Random(1)))
    assert [route.name for route in built.routes] == ["segmind/svd"]
    assert isinstance(built, SegmindWithUploads)
    assert "SG_secret" not in repr(section)
    assert not isinstance(
        PLUGIN.build(
            PLUGIN.settings.model_validate({"api_key": "k"}), Tools(httpx.AsyncClient(), Clockless(), Random(1))
        ),
        SegmindWithUploads,
    )


class Clockless:
    """A clock that must not be needed."""

    def now(self) -> float:
        raise AssertionError("asked for the time")

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("slept")
