"""What ModelsLab's image-to-video can do, as data (S3, WIRE 2.3): one route, in its public and its enterprise form."""

from __future__ import annotations

from dataclasses import replace

from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route, SizeRule
from providers.contract import chosen_routes
from providers.modelslab.settings import Settings

MODEL = "svd"
# No mean is published for this model; this is the generation time of the vendor's own example reply (S3).
LATENCY_NOMINAL_S = 8.49

CAPABILITIES = (
    Capability("motion_bucket_id", "motion_bucket_id", source="S3: integer, default 127, no range given"),
    Capability("num_frames", "num_frames", minimum=1, maximum=25, source="S3: max 25, default 16"),
    Capability(
        "noise_aug_strength",
        "noise_aug_strength",
        minimum=0,
        maximum=1,
        source="S3: 0-1, no default; enterprise default 0.5",
    ),
    Capability("fps", "fps", minimum=1, maximum=16, source="S3: max 16"),
    Capability(
        "seed",
        allowed=(-1,),
        by="model",
        note="the vendor draws the seed and only reports it",
        source="WIRE 2.3: not an input, echoed in meta.seed",
    ),
    Capability("resize", by="gateway", note="vidgate crops the picture before it is sent"),
    Capability("width", "width", maximum=512, note="at most 512 pixels, in steps of 8", source="S3: max 512"),
    Capability("height", "height", maximum=512, note="at most 512 pixels, in steps of 8", source="S3: max 512"),
    Capability(
        "num_inference_steps", "num_inference_steps", minimum=1, maximum=50, default=20, source="S3: max 50, default 20"
    ),
    Capability(
        "min_guidance_scale",
        "min_guidance_scale",
        minimum=1,
        maximum=8,
        wire_type="number",
        default=1.0,
        source="S3: 1-8, default 1.0; enterprise default 0",
    ),
    Capability(
        "max_guidance_scale",
        "max_guidance_scale",
        minimum=1,
        maximum=8,
        wire_type="number",
        default=3.0,
        source="S3: 1-8, default 3.0; enterprise default 8",
    ),
    Capability("prompt", "prompt", note="taken, though the model itself reads no text", source="S3"),
    Capability("negative_prompt", "negative_prompt", note="taken, though the model itself reads no text", source="S3"),
    Capability(
        "enhance_prompt",
        "enhance_prompt",
        wire_type="yes_no",
        default=False,
        note="off unless asked for",
        source="S3: yes/no; enterprise default yes",
    ),
    Capability(
        "latent_interpolation_method",
        "latent_interpolation_method",
        allowed=("lerp", "slerp"),
        default="lerp",
        source="S3: default lerp",
    ),
    Capability("clip_skip", "clip_skip", maximum=2, source="S3: default null, max 2"),
    *DELIVERED_BY_GATEWAY,
)

SVD = Route(
    name="modelslab/svd",
    provider="modelslab",
    media="video",
    model=MODEL,
    capabilities=CAPABILITIES,
    image_forms=("url",),
    mode="async",
    latency_nominal_s=LATENCY_NOMINAL_S,
    resumable=True,
    ambiguous_billing="may_bill",
    summary="Stable Video Diffusion at ModelsLab: up to 25 frames of at most 512x512.",
    concurrency_max=5,
    size=SizeRule(512, 512, 8),
    image_name="init_image",
)

CATALOGUE = (SVD,)


def routes_for(settings: Settings) -> tuple[Route, ...]:
    """The routes of one account. Raises ValueError for a configured route name that does not exist."""
    queue_max = min(settings.queue_max, settings.concurrency_max or settings.queue_max)
    return tuple(
        replace(
            _enterprise(route) if settings.enterprise else route,
            concurrency_max=queue_max,
            requests_per_minute=settings.requests_per_minute,
        )
        for route in chosen_routes(settings, CATALOGUE)
    )


def _enterprise(route: Route) -> Route:
    """The dedicated server takes base64 as well, and a guidance that starts at 0 (WIRE 2.3)."""
    rows = tuple(
        replace(row, minimum=0) if row.parameter == "min_guidance_scale" else row for row in route.capabilities
    )
    return replace(route, capabilities=rows, image_forms=("url", "base64"))
