"""The routes of the team's own GPUs as data: the arguments of the diffusers pipelines, with the ranges that are safe.

Source: diffusers 0.42.1, `pipeline_stable_video_diffusion.py` and `pipeline_stable_diffusion_xl_img2img.py` (WIRE 3.1
and 3.2). The pipelines check almost nothing: what is out of these ranges never reaches them.
"""

from __future__ import annotations

from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route, SizeRule
from providers.vocabulary import Media

PROVIDER = "local"
SIDE_PX_MAX = 1024
# Latents are an eighth of the picture and the UNet halves them three times; a size in between breaks its skips.
SIDE_PX_MULTIPLE = 64
RECORD_TTL_S = 3_600.0  # a worker's own default, `--keep-s`

NO_MOTIONCTRL = "diffusers has no MotionCtrl"
NO_PROMPT = "Stable Video Diffusion is conditioned on the picture alone"
NO_SCHEDULER = "the worker keeps the sampler that the model came with"

SVD: tuple[Capability, ...] = (
    Capability("motion_bucket_id", "motion_bucket_id", minimum=1, maximum=255, wire_type="integer", source="WIRE 3.1"),
    Capability(
        "num_frames",
        "num_frames",
        minimum=1,
        maximum=25,
        wire_type="integer",
        affects_price=True,
        note="trained on 14 frames (svd) or 25 (svd-xt); other numbers are rendered as asked",
        source="WIRE 3.1",
    ),
    Capability("noise_aug_strength", "noise_aug_strength", minimum=0, maximum=1, wire_type="number", source="WIRE 3.1"),
    Capability(
        "fps",
        "fps",
        minimum=1,
        maximum=60,
        wire_type="integer",
        note="the model is conditioned on fps - 1, the file plays at fps",
        source="WIRE 3.1",
    ),
    Capability("seed", "seed", wire_type="integer", source="WIRE 3.1"),
    Capability(
        "resize",
        by="gateway",
        note="vidgate crops the picture and brings it to the size that is rendered",
        source="WIRE 3.1",
    ),
    Capability(
        "width",
        "width",
        minimum=64,
        maximum=SIDE_PX_MAX,
        wire_type="integer",
        affects_price=True,
        note="multiples of 64; trained at 1024x576",
        source="WIRE 3.1",
    ),
    Capability(
        "height",
        "height",
        minimum=64,
        maximum=SIDE_PX_MAX,
        wire_type="integer",
        affects_price=True,
        note="multiples of 64; trained at 1024x576",
        source="WIRE 3.1",
    ),
    Capability(
        "num_inference_steps",
        "num_inference_steps",
        minimum=1,
        maximum=100,
        default=25,
        wire_type="integer",
        affects_price=True,
        source="WIRE 3.1",
    ),
    Capability(
        "min_guidance_scale",
        "min_guidance_scale",
        minimum=0,
        maximum=20,
        default=1.0,
        wire_type="number",
        note="guidance rises over the frames",
        source="WIRE 3.1",
    ),
    Capability(
        "max_guidance_scale",
        "max_guidance_scale",
        minimum=0,
        maximum=20,
        default=3.0,
        wire_type="number",
        note="1 or less renders without guidance, in half the time",
        source="WIRE 3.1",
    ),
    Capability(
        "decode_chunk_size",
        "decode_chunk_size",
        minimum=1,
        maximum=25,
        default=8,
        wire_type="integer",
        note="a worker that runs out of memory decodes fewer at a time",
        source="WIRE 3.1",
    ),
    *DELIVERED_BY_GATEWAY,
)

SSD: tuple[Capability, ...] = (
    Capability("prompt", "prompt", required=True, source="WIRE 3.2"),
    Capability("negative_prompt", "negative_prompt", source="WIRE 3.2"),
    Capability("samples", allowed=(1,), by="model", note="one picture a render", source="WIRE 3.2"),
    Capability(
        "num_inference_steps",
        "num_inference_steps",
        minimum=1,
        maximum=100,
        default=50,
        wire_type="integer",
        affects_price=True,
        note="steps times strength are really run",
        source="WIRE 3.2",
    ),
    Capability("guidance_scale", "guidance_scale", minimum=1, maximum=25, wire_type="number", source="WIRE 3.2"),
    Capability("strength", "strength", minimum=0, maximum=0.99, wire_type="number", source="WIRE 3.2"),
    Capability("seed", "seed", wire_type="integer", source="WIRE 3.2"),
    *(row for row in DELIVERED_BY_GATEWAY if row.parameter == "output"),
)


def _route(slug: str, model: str, media: Media, latency_nominal_s: float, summary: str) -> Route:
    is_video = media == "video"
    return Route(
        name=f"{PROVIDER}/{slug}",
        provider=PROVIDER,
        media=media,
        model=model,
        capabilities=SVD if is_video else SSD,
        image_forms=("bytes",),
        mode="local",
        latency_nominal_s=latency_nominal_s,
        resumable=True,
        ambiguous_billing="free",  # the worker knows an attempt by our own id: a repeated submit is the same render
        summary=summary,
        record_ttl_s=RECORD_TTL_S,
        size=SizeRule(SIDE_PX_MAX, SIDE_PX_MAX, SIDE_PX_MULTIPLE) if is_video else None,
        lacks={
            "camera_motion": NO_MOTIONCTRL,
            "camera_speed": NO_MOTIONCTRL,
            "prompt": NO_PROMPT,
            "negative_prompt": NO_PROMPT,
        }
        if is_video
        else {"scheduler": NO_SCHEDULER},
    )


CATALOGUE: tuple[Route, ...] = (
    _route("svd", "svd", "video", 19.0, "Stable Video Diffusion on the team's own GPUs"),
    _route(
        "svd-xt", "svd-xt", "video", 19.0, "Stable Video Diffusion XT, trained on 25 frames, on the team's own GPUs"
    ),
    _route("ssd-img2img", "ssd-1b", "image", 4.0, "SSD-1B, picture and prompt to picture, on the team's own GPUs"),
)
