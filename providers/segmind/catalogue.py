"""Segmind's routes as data: what each endpoint takes, how it is called and what the vendor publishes about it.

Sources: the vendor's pages S0 (`/v1/svd`), S1 (`/v1/motionctrl-svd`), S2 (`/v2/svd`), S4 (`/v1/ssd-img2img`), and the
collected facts in WIRE 1.8 and 1.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from providers.capability import DELIVERED_BY_GATEWAY, Capability, ImageForm, Route
from providers.contract import Json
from providers.vocabulary import Media

PROVIDER = "segmind"
RECORD_TTL_S = 3_600.0  # S2: results are retained for one hour

SVD: tuple[Capability, ...] = (
    Capability(
        "motion_bucket_id", "motion", minimum=1, maximum=180, wire_type="integer", affects_price=True, source="S0 S2"
    ),
    Capability(
        "num_frames",
        "frames",
        allowed=(14, 25),
        wire_type="string",
        note="sent as text, as the vendor's own sample does",
        source="S2",
    ),
    Capability("fps", "fps", minimum=1, maximum=60, wire_type="integer", affects_price=True, source="S0 S2"),
    Capability("noise_aug_strength", "cond_aug", minimum=0, maximum=1, wire_type="number", source="S0 S2"),
    Capability("seed", "seed", wire_type="integer", source="S0 S2"),
    Capability(
        "resize",
        "resize_method",
        spelling={"keep_aspect": "maintain_aspect_ratio", "crop_16_9": "crop_to_16_9"},
        source="S2",
    ),
    *DELIVERED_BY_GATEWAY,
)

MOTIONCTRL: tuple[Capability, ...] = (
    Capability(
        "camera_motion",
        "motion",
        spelling={
            "pan_up": "Pan Up",
            "pan_down": "Pan Down",
            "pan_left": "Pan Left",
            "pan_right": "Pan Right",
            "zoom_in": "Zoom In",
            "zoom_out": "Zoom Out",
            "cw": "CW",
            "acw": "ACW",
        },
        required=True,
        source="S1",
    ),
    Capability("camera_speed", "motion_speed", minimum=0, maximum=10, wire_type="number", source="S1"),
    Capability("motion_bucket_id", "motion_bucket_id", minimum=127, maximum=255, wire_type="integer", source="S1"),
    Capability("num_frames", allowed=(14,), by="model", note="the model makes 14 frames", source="WIRE 3.3 and 4"),
    Capability("fps", "fps", minimum=5, maximum=30, wire_type="integer", source="S1"),
    Capability("noise_aug_strength", "cond_aug", minimum=0, maximum=1, wire_type="number", source="S1"),
    Capability(
        "seed",
        "seed",
        wire_type="integer",
        note="vidgate draws a seed for -1: the vendor would repeat one fixed seed; its page gives no range",
        source="S1",
    ),
    Capability(
        "resize",
        by="gateway",
        note="vidgate crops the picture; the vendor is told to keep its shape",
        source="S1",
    ),
    Capability("decode_chunk_size", "decoding_t", minimum=1, default=1, wire_type="integer", source="S1 WIRE 3.3"),
    *DELIVERED_BY_GATEWAY,
)

SSD: tuple[Capability, ...] = (
    Capability("prompt", "prompt", required=True, source="S4"),
    Capability("negative_prompt", "negative_prompt", source="S4"),
    Capability("samples", "samples", minimum=1, maximum=4, wire_type="integer", affects_price=True, source="S4"),
    Capability("scheduler", "scheduler", spelling={"dpm2_karras": "DPM2 Karras", "euler_a": "Euler a"}, source="S4"),
    Capability(
        "num_inference_steps",
        "num_inference_steps",
        minimum=20,
        maximum=100,
        default=25,
        wire_type="integer",
        affects_price=True,
        source="S4",
    ),
    Capability("guidance_scale", "guidance_scale", minimum=1, maximum=25, wire_type="number", source="S4"),
    Capability(
        "strength",
        "strength",
        minimum=0,
        maximum=0.99,
        wire_type="number",
        note="the vendor's printed default of 7.5 is outside its own range",
        source="S4",
    ),
    Capability("seed", "seed", wire_type="integer", source="S4"),
    *(row for row in DELIVERED_BY_GATEWAY if row.parameter == "output"),
)


Version = Literal["v1", "v2"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model and what its two endpoints share; `latency_nominal_s` is the vendor's published mean (WIRE 1.8)."""

    slug: str
    media: Media
    summary: str
    latency_nominal_s: float
    capabilities: tuple[Capability, ...]
    image_name: str
    constants: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model behind one API version: `v1` answers with the result, `v2` with a request id to ask about."""

    route: Route
    model: Model
    version: Version


# `base64` is always written: one page gives its default as true, another as false (S0, S2).
SVD_MODEL = Model(
    slug="svd",
    media="video",
    summary="Stable Video Diffusion",
    latency_nominal_s=29.63,
    capabilities=SVD,
    image_name="image",
    constants={"base64": False},
)
MOTIONCTRL_MODEL = Model(
    slug="motionctrl-svd",
    media="video",
    summary="Stable Video Diffusion with eight camera moves",
    latency_nominal_s=62.74,
    capabilities=MOTIONCTRL,
    image_name="input_image",
    constants={"base64": False, "maintain_aspect_ratio": True},
)
SSD_MODEL = Model(
    slug="ssd-img2img",
    media="image",
    summary="SSD-1B, picture and prompt to picture",
    latency_nominal_s=4.0,
    capabilities=SSD,
    image_name="image",
    constants={"base64": False},
)


def _endpoint(name: str, model: Model, version: Version, image_forms: tuple[ImageForm, ...]) -> Endpoint:
    asynchronous = version == "v2"
    route = Route(
        name=f"{PROVIDER}/{name}",
        provider=PROVIDER,
        media=model.media,
        model=model.slug,
        capabilities=model.capabilities,
        image_forms=image_forms,
        mode="async" if asynchronous else "sync",
        latency_nominal_s=model.latency_nominal_s,
        resumable=asynchronous,
        ambiguous_billing="success_only",  # WIRE 1.3: only HTTP 200 is billed
        summary=f"{model.summary}, {'submitted and polled' if asynchronous else 'answered in one call'} ({version})",
        record_ttl_s=RECORD_TTL_S if asynchronous else None,
        image_name=model.image_name,
    )
    return Endpoint(route, model, version)


# Base64 without prefix is documented for the old v1 pages (S0, S4), a link for the newer ones (S1, S2). That v2 and
# MotionCtrl take base64 too is unproven (U11): a link goes first there, and `upload: true` makes one of any picture.
ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.route.name: endpoint
    for endpoint in (
        _endpoint("svd", SVD_MODEL, "v2", ("url", "base64")),
        _endpoint("svd-sync", SVD_MODEL, "v1", ("base64", "url")),
        _endpoint("motionctrl-svd", MOTIONCTRL_MODEL, "v2", ("url", "base64")),
        _endpoint("motionctrl-svd-sync", MOTIONCTRL_MODEL, "v1", ("url", "base64")),
        _endpoint("ssd-img2img", SSD_MODEL, "v1", ("base64", "url")),
        _endpoint("ssd-img2img-async", SSD_MODEL, "v2", ("base64", "url")),
    )
}
CATALOGUE: tuple[Route, ...] = tuple(endpoint.route for endpoint in ENDPOINTS.values())
