"""What the vendor can do, as data. Eligibility, receipts, the API's schema and the docs all come from this table."""

from __future__ import annotations

from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route

PROVIDER = "clipworks"

CAPABILITIES = (
    Capability("camera_motion", "zoom", spelling={"zoom_in": "IN", "zoom_out": "OUT"}, required=True),
    Capability("num_frames", "frames", minimum=2, maximum=25, wire_type="string", note="sent as text"),
    Capability("fps", "rate", minimum=5, maximum=30, wire_type="integer"),
    Capability("seed", by="model", note="nothing in a zoom is random"),
    Capability("resize", by="gateway", note="vidgate crops the picture before it is sent"),
    *DELIVERED_BY_GATEWAY,
)

CATALOGUE = (
    Route(
        name=f"{PROVIDER}/zoom",
        provider=PROVIDER,
        media="video",
        model="zoom-1",
        capabilities=CAPABILITIES,
        image_forms=("base64",),
        mode="async",
        latency_nominal_s=1.0,
        resumable=True,
        ambiguous_billing="success_only",
        summary="Zooms into a still or out of it.",
        concurrency_max=4,
    ),
)
