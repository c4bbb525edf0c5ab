"""The JSON the vendor answers with, in the spellings that the switches choose (WIRE 2.4, 2.5, 2.7)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from providers.modelslab.simulator.books import Job
from providers.modelslab.simulator.orders import RefusalError
from providers.modelslab.simulator.switches import ModelsLabSwitches

TIP = "Use the fetch endpoint to get the result."
FAILURES: Mapping[str, tuple[str, str]] = {
    "failed": ("failed", "Processing failed: out of memory"),
    "error": ("error", "Processing failed: out of memory"),
    "moderated": ("failed", "Processing failed: NSFW content detected"),
}


def refusal(error: RefusalError, switches: ModelsLabSwitches) -> Response:
    """An error: with its HTTP code, or as 200 with the status in the body."""
    message: object = error.message
    if error.about and switches.validation_message == "object":
        message = {error.about: [error.message]}
    body: dict[str, object] = {"status": "error", switches.message_field: message}
    if error.retry_after_s is not None:
        body["retry_after"] = error.retry_after_s
    return JSONResponse(body, status_code=error.status if switches.errors == "http" else 200)


def error_page(status: int, switches: ModelsLabSwitches) -> Response:
    """The vendor's own page for a scripted 429 or 500."""
    if status == 429:
        limit = f"Rate limit exceeded. Maximum {switches.queue_max} queued requests allowed."
        return refusal(RefusalError(429, limit, retry_after_s=switches.retry_after_s), switches)
    return refusal(RefusalError(status, "Internal server error. Please try again."), switches)


def unknown_id(switches: ModelsLabSwitches) -> Response:
    """The answer to a fetch of an id that never was or is forgotten."""
    if switches.unknown_id == "documented":
        return refusal(RefusalError(404, "Video not found"), switches)
    body = {"status": "failed", "id": "", switches.message_field: "Request not found", "output": "", "tip": TIP}
    return JSONResponse(body)


def processing(job: Job, switches: ModelsLabSwitches, base_url: str, *, now: float) -> dict[str, object]:
    """A job that is not done. Its `future_links` answer 404 until it is."""
    eta_s = max(0.0, job.done_at - now)
    path = "v1/enterprise/video" if job.order.enterprise else "v6/video"
    return {
        "status": "processing",
        "tip": TIP,
        "eta": math.ceil(eta_s) if switches.eta_form == "integer" else round(eta_s, 2),
        switches.message_field: "Try to fetch the request after the given estimated time",
        "fetch_result": f"{base_url}/api/{path}/fetch/{job.id}",
        "id": _identity(job, switches.id_form),
        "output": [] if switches.empty_output == "list" else "",
        "meta": _meta(job),
        "future_links": [_link(job, base_url, "video_generations")],
    }


def finished(
    job: Job, switches: ModelsLabSwitches, base_url: str, *, with_meta: bool, inline: str | None = None
) -> dict[str, object]:
    """A job that is done: delivered, or in one of the forms of failure."""
    identity = _identity(job, switches.id_form)
    if job.outcome != "success":
        status, message = FAILURES[job.outcome]
        return {"status": status, switches.message_field: message, "id": identity}
    body: dict[str, object] = {
        "status": "success",
        "id": identity,
        "output": [inline or _link(job, base_url, "video_generations")],
        "proxy_links": [] if inline else [_link(job, base_url, "proxy")],
    }
    if with_meta:
        body |= {"generationTime": round(job.done_at - job.started_at, 2), "meta": _meta(job)}
    return body


def webhook_body(job: Job, switches: ModelsLabSwitches, base_url: str) -> dict[str, object]:
    """What is posted to the webhook, unsigned."""
    body = finished(job, switches, base_url, with_meta=True)
    status = "success" if job.outcome == "success" else "failed"
    return body | {
        "status": status,
        "id": _identity(job, switches.webhook_id_form),
        "track_id": job.order.track_id,
    }


def _identity(job: Job, form: str) -> int | str:
    return job.id if form == "integer" else str(job.id)


def _meta(job: Job) -> dict[str, object]:
    return {**job.order.meta, "file_prefix": job.prefix, "seed": job.seed}


def _link(job: Job, base_url: str, folder: str) -> str:
    return f"{base_url}/{folder}/{job.prefix}.{job.extension}"
