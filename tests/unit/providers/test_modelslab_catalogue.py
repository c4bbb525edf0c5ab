"""The capability table against the vendor's page, and the settings of an account."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.fit import fit
from providers.contract import ProviderSettings
from providers.modelslab import PLUGIN
from providers.modelslab.catalogue import CATALOGUE, SVD, routes_for
from providers.modelslab.settings import CHARGED_AT_SUBMIT, Settings
from providers.modelslab.simulator.orders import CHOICES, NUMBERS
from providers.vocabulary import BY_NAME

KEY = "mlk-5f2b9c-secret"

# Every parameter of the page (S3) and who sends it: the table, or the adapter as a constant.
PAGE = {
    "key": "adapter",
    "model_id": "adapter",
    "prompt": "table",
    "negative_prompt": "table",
    "enhance_prompt": "table",
    "init_image": "adapter",
    "height": "table",
    "width": "table",
    "num_frames": "table",
    "num_inference_steps": "table",
    "min_guidance_scale": "table",
    "max_guidance_scale": "table",
    "motion_bucket_id": "table",
    "noise_aug_strength": "table",
    "fps": "table",
    "output_type": "adapter",
    "latent_interpolation_method": "table",
    "clip_skip": "table",
    "instant_response": "adapter",
    "temp": "adapter",
    "webhook": "adapter",
    "track_id": "adapter",
}


def test_the_table_carries_every_parameter_of_the_page_and_no_other():
    """A parameter of the vendor's page that no row sends is one the caller cannot reach."""
    wires = {row.wire for row in SVD.capabilities if row.wire is not None}
    assert wires == {name for name, sender in PAGE.items() if sender == "table"}
    assert all(row.parameter in BY_NAME for row in SVD.capabilities)


def test_what_a_caller_leaves_out_is_sent_explicitly():
    """Vendor defaults differ by ten times, so that the usual values travel on every call."""
    wire = fit(SVD, {}, mode="exact", image_size=(1024, 576)).wire
    assert wire == {
        "motion_bucket_id": 127,
        "num_frames": 14,
        "noise_aug_strength": 0.02,
        "fps": 7,
        "width": 512,
        "height": 288,
        "num_inference_steps": 20,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 3.0,
        "enhance_prompt": "no",
        "latent_interpolation_method": "lerp",
    }


@pytest.mark.parametrize(
    "written",
    [
        {"fps": 17},
        {"num_frames": 26},
        {"num_inference_steps": 51},
        {"min_guidance_scale": 0.5},
        {"max_guidance_scale": 8.5},
        {"width": 1024, "height": 576},
        {"width": 500, "height": 500},
        {"seed": 7},
        {"camera_motion": "cw"},
        {"camera_speed": 2},
        {"decode_chunk_size": 2},
    ],
)
def test_what_the_vendor_cannot_honour_is_refused_or_moved(written):
    """Exact refuses with a reason; nearest moves or drops and says so."""
    exact = fit(SVD, written, mode="exact", image_size=(1024, 576))
    assert exact.refusals
    near = fit(SVD, written, mode="nearest", image_size=(1024, 576))
    assert not near.refusals
    changed = {line.parameter: line.outcome for line in near.receipt}
    assert {changed[name] for name in written} <= {"moved", "dropped"}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "fps": st.integers(1, 16),
            "num_frames": st.integers(1, 25),
            "motion_bucket_id": st.integers(1, 255),
            "noise_aug_strength": st.floats(0, 1),
            "num_inference_steps": st.integers(1, 50),
            "min_guidance_scale": st.floats(1, 8),
            "max_guidance_scale": st.floats(1, 8),
            "clip_skip": st.integers(1, 2),
            "prompt": st.text(min_size=1, max_size=20),
            "negative_prompt": st.text(min_size=1, max_size=20),
            "enhance_prompt": st.booleans(),
            "latent_interpolation_method": st.sampled_from(["lerp", "slerp"]),
            "resize": st.sampled_from(["keep_aspect", "crop_16_9"]),
            "seed": st.just(-1),
        },
    ),
    st.tuples(st.integers(64, 4000), st.integers(64, 4000)),
)
def test_whatever_fits_is_inside_the_page_s_ranges(written, image_size):
    """Nothing the table lets through would be refused by the simulated vendor's own rules."""
    assume(written.get("min_guidance_scale", 1) <= written.get("max_guidance_scale", 8))
    fitted = fit(SVD, written, mode="exact", image_size=image_size)
    assert not fitted.refusals
    for name, value in fitted.wire.items():
        if name in CHOICES:
            assert value in CHOICES[name]
        elif name in NUMBERS:
            row = NUMBERS[name]
            assert row.minimum is None or value >= row.minimum
            assert row.maximum is None or value <= row.maximum
    assert fitted.wire["width"] % 8 == fitted.wire["height"] % 8 == 0


def test_the_public_route_takes_links_only_and_the_enterprise_one_bytes_too():
    """The dedicated server documents base64 and a guidance from 0; the public API neither."""
    (public,) = routes_for(Settings(api_key=KEY))
    (enterprise,) = routes_for(Settings(api_key=KEY, enterprise=True))
    assert public.image_forms == ("url",)
    assert enterprise.image_forms == ("url", "base64")
    assert (public.capability("min_guidance_scale").minimum, enterprise.capability("min_guidance_scale").minimum) == (
        1,
        0,
    )
    assert public.ambiguous_billing == enterprise.ambiguous_billing == "may_bill"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 5), ({"queue_max": 15}, 15), ({"queue_max": 15, "concurrency_max": 3}, 3), ({"concurrency_max": 9}, 5)],
)
def test_the_queue_of_the_plan_bounds_the_concurrency(changes, expected):
    """A configured cap narrows the plan's queue and never widens it."""
    assert routes_for(Settings(api_key=KEY, **changes))[0].concurrency_max == expected


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"api_key": ""},
        {"api_key": "short"},
        {"api_key": KEY, "base_url": "modelslab.com/api"},
        {"api_key": KEY, "base_url": "ftp://x/"},
        {"api_key": KEY, "queue_max": 0},
        {"api_key": KEY, "quue_max": 5},
        {"api_key": KEY, "base_url": "https://x/api?key=1"},
    ],
)
def test_a_wrong_section_of_the_configuration_is_refused(section):
    """Unknown names, missing keys and addresses that are none stop the start."""
    with pytest.raises(ValidationError):
        Settings.model_validate(section)


def test_an_unknown_route_is_refused_with_the_known_ones():
    """The error names what there is."""
    with pytest.raises(ValueError, match="modelslab/svd"):
        routes_for(Settings(api_key=KEY, routes=("modelslab/nothing",)))


def test_the_key_is_not_shown_by_the_settings():
    """A settings object may be logged whole."""
    assert KEY not in repr(Settings(api_key=KEY)) + str(Settings(api_key=KEY).model_dump())


def test_the_charge_moment_is_unknown_until_somebody_states_it():
    """U14 is one named constant, and the account's settings start from it."""
    assert CHARGED_AT_SUBMIT is None
    assert Settings(api_key=KEY).charged_at_submit is None


def test_the_plugin_is_complete():
    """The registry finds a settings class, a catalogue, a builder and a simulator."""
    assert issubclass(PLUGIN.settings, ProviderSettings)
    assert PLUGIN.catalogue == CATALOGUE
    section = PLUGIN.simulator_settings("http://127.0.0.1:9/")
    assert PLUGIN.settings.model_validate(section).base_url == "http://127.0.0.1:9/api"
