"""Jobs as the gateway shows them, for the tests of the command line."""

from __future__ import annotations

from typing import Any

RANKED = {
    "route": "acme/svd",
    "price_micros": 182_490,
    "expected_cost_micros": 166_000,
    "p50_s": 30.0,
    "p95_s": 63.0,
    "probability_on_time": 0.97,
    "probability_success": 0.97,
    "score": 1.0,
    "reasons": ["$0.1659, p50 30 s"],
}


def job(status: str = "succeeded", **changes: Any) -> dict[str, Any]:
    """A job with one attempt, a receipt, a bill and a result."""
    shown: dict[str, Any] = {
        "id": "job_1",
        "media": "video",
        "status": status,
        "route": "acme/svd",
        "progress": {"stage": status, "fraction": None, "eta_s": None},
        "plan": {
            "decided_at": "2026-11-20T12:00:00.000+00:00",
            "objective": "default",
            "ranked": [RANKED],
            "refused": [
                {"route": "acme/camera", "reasons": ["this route has no seed"]},
                {"route": "acme/camera-sync", "reasons": ["this route has no seed"]},
                {"route": "other/svd", "reasons": ["breaker open for another 12 s", "no credit"]},
            ],
        },
        "receipt": [
            line("num_frames", 25, "25", "frames", "converted", "sent as text"),
            line("fps", None, 7, "fps", "defaulted"),
            line("enhance_prompt", True, True, "enhance", "passed"),
            line("output", None, None, None, "defaulted"),
        ],
        "attempts": [attempt()],
        "bill": {
            "status": "captured",
            "held_micros": 550_000,
            "price_micros": 182_490,
            "cost_micros": 165_900,
            "margin_micros": 16_590,
            "cost_source": "reported",
        },
        "result": {"files": [file()]},
        "error": None,
    }
    return shown | changes


def line(parameter: str, asked: Any, sent: Any, vendor_name: str | None, outcome: str, reason: str = "") -> Any:
    """A line of a receipt."""
    return {
        "parameter": parameter,
        "asked": asked,
        "sent": sent,
        "vendor_name": vendor_name,
        "outcome": outcome,
        "reason": reason,
    }


def attempt(**changes: Any) -> dict[str, Any]:
    """An attempt whose first submit was answered 502."""
    shown: dict[str, Any] = {
        "id": "att_1",
        "number": 1,
        "route": "acme/svd",
        "state": "succeeded",
        "prepared_at": "2026-11-20T12:00:00.000+00:00",
        "submits": 2,
        "events": [
            {"at": "2026-11-20T12:00:00.000+00:00", "what": "submit", "detail": "first submit"},
            {"at": "2026-11-20T12:00:00.200+00:00", "what": "in_doubt", "detail": "HTTP 502: [maybe]"},
            {"at": "2026-11-20T12:01:05.500+00:00", "what": "delivered", "detail": None},
        ],
        "failure": None,
        "cost_micros": 165_900,
        "cost_source": "reported",
        "seed": 42,
    }
    return shown | changes


def file(**changes: Any) -> dict[str, Any]:
    """A delivered clip."""
    shown: dict[str, Any] = {
        "sha256": "0" * 64,
        "url": "/jobs/job_1/content",
        "media_type": "video/mp4",
        "size_bytes": 486_500,
        "width": 1024,
        "height": 576,
        "num_frames": 25,
        "fps": 12.0,
        "duration_s": 2.0833,
        "deviations": [],
    }
    return shown | changes
