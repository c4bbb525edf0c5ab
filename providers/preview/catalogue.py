"""The preview's one route as data."""

from __future__ import annotations

from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route, SizeRule
from providers.vocabulary import CAMERA_MOTIONS

PROVIDER = "preview"
MODEL = "camera-move"
SIDE_PX_MAX = 1024
# H.264 in 4:2:0 halves the colour's resolution, so both sides are even.
SIDE_PX_MULTIPLE = 2

CAPABILITIES: tuple[Capability, ...] = (
    Capability("camera_motion", "camera_motion", allowed=CAMERA_MOTIONS, required=True, source="WIRE 3.3"),
    Capability("camera_speed", "camera_speed", minimum=0, maximum=10, wire_type="number", source="WIRE 3.3"),
    Capability("num_frames", "num_frames", minimum=1, maximum=25, wire_type="integer"),
    Capability("fps", "fps", minimum=1, maximum=60, wire_type="integer"),
    Capability("seed", by="model", note="nothing in a preview is random: every seed gives the same clip"),
    Capability(
        "resize",
        "resize",
        allowed=("keep_aspect", "crop_16_9"),
        note="the picture fills the frame and is cut at the centre where the shapes differ",
    ),
    Capability("width", "width", minimum=64, maximum=SIDE_PX_MAX, wire_type="integer"),
    Capability("height", "height", minimum=64, maximum=SIDE_PX_MAX, wire_type="integer"),
    *DELIVERED_BY_GATEWAY,
)

CATALOGUE: tuple[Route, ...] = (
    Route(
        name=f"{PROVIDER}/camera",
        provider=PROVIDER,
        media="video",
        model=MODEL,
        capabilities=CAPABILITIES,
        image_forms=("bytes",),
        mode="local",
        latency_nominal_s=1.0,
        resumable=False,
        ambiguous_billing="free",
        summary="Camera move over the still, drawn on the CPU without any model; free, and labelled a preview.",
        concurrency_max=2,
        size=SizeRule(SIDE_PX_MAX, SIDE_PX_MAX, SIDE_PX_MULTIPLE),
        preview=True,
        image_name="image",
    ),
)
