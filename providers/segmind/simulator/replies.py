"""The simulated vendor's replies: their bodies and headers, as WIRE 1.3 to 1.7 has them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.responses import HTMLResponse, JSONResponse, Response

from providers.contract import Json
from providers.segmind.simulator.output import OutputFile
from providers.segmind.simulator.switches import SegmindSwitches
from providers.segmind.simulator.vendor import Run, Vendor


def error(status: int, text: str) -> Response:
    """The gateway's error envelope."""
    return JSONResponse({"error": text}, status_code=status)


def denied(status: int, text: str, symbol: str, switches: SegmindSwitches) -> Response:
    """A refusal of the caller, in the gateway's envelope or in that of the page on authentication."""
    if switches.auth_envelope == "gateway":
        return error(status, text)
    return JSONResponse({"error": symbol, "error_description": text, "status_code": status}, status_code=status)


def wrong_verb() -> Response:
    """The one page that is HTML (trap 11)."""
    return HTMLResponse("<!doctype html><title>405 Method Not Allowed</title><h1>Method Not Allowed</h1>", 405)


def gateway_timeout() -> Response:
    """The gateway gave up waiting."""
    return HTMLResponse("<html><head><title>504 Gateway Time-out</title></head></html>", 504)


def rate_limited(reset_at: float, switches: SegmindSwitches) -> Response:
    """Too many requests: a reset time in a header, never Retry-After (trap 17)."""
    when = datetime.fromtimestamp(reset_at, UTC)
    written = {
        "iso": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "unix_s": str(int(reset_at)),
        "unix_ms": str(int(reset_at * 1_000)),
        "http_date": format_datetime(when, usegmt=True),
    }
    reply = denied(429, "Rate limit exceeded", "rate_limit_exceeded", switches)
    reply.headers["x-rate-limit-reset-at-utc"] = written[switches.rate_reset_format]
    return reply


def usd(amount_micros: int) -> float:
    """Micro-USD as the vendor's credits."""
    return amount_micros / 1_000_000


def submitted(run: Run, host: str) -> Response:
    """A v2 submit: links to this host, as the caller addressed it."""
    return JSONResponse({"request_id": run.request_id, "status": "QUEUED", **_links(run, host)})


def _links(run: Run, host: str) -> dict[str, Json]:
    name = run.request_id
    return {
        "poll_url": f"{host}/v1/requests/{name}",
        "status_url": f"{host}/v2/requests/{name}/status",
        "response_url": f"{host}/v2/requests/{name}",
    }


def failed(run: Run, status: int = 422) -> Response:
    """A failed run: timings, and no cost since nothing is charged."""
    body = {"status": "FAILED", "error": run.error, "request_id": run.request_id, "metrics": _timings(run)}
    return JSONResponse(body, status_code=status)


def progress(run: Run, now: float, host: str) -> Response:
    """A v2 status: never the output."""
    state = run.state(now)
    if state == "FAILED":
        return failed(run)
    if state == "COMPLETED":
        return JSONResponse({"status": state, "request_id": run.request_id, "metrics": _timings(run)})
    links = {key: link for key, link in _links(run, host).items() if key != "poll_url"}
    return JSONResponse({"status": state, "request_id": run.request_id, **links, "metrics": {}})


def _timings(run: Run) -> dict[str, Json]:
    return {
        "inference_time": round(run.done_at - run.starts_at, 3),
        "queue_time": round(run.starts_at - run.created_at, 3),
        "total_time": round(run.done_at - run.created_at, 3),
    }


def completed(vendor: Vendor, run: Run, files: tuple[OutputFile, ...], host: str) -> Response:
    """A v2 result: `output` is always text, `seed` and `file_size` too (WIRE 1.5)."""
    switches = vendor.switches
    media: list[Json] = [_media(file, name, host) for file, name in zip(files, run.file_names(), strict=True)]
    body: dict[str, Json] = {
        "status": "COMPLETED",
        "request_id": run.request_id,
        "output": f"{host}/generations/{run.file_names()[0]}",
        "error": None,
        "metrics": _timings(run),
    }
    if run.body.get("base64") and switches.v2_base64_inline:
        body["output"] = base64.b64encode(files[0].data).decode("ascii")
    elif run.container == "jpg":
        body["images"] = media
    elif switches.v2_video_object:
        body["video"] = media[0]
    if switches.v2_seed:
        body["seed"] = str(run.seed)
    if switches.v2_cost:
        costs: dict[str, Json] = {
            "cost": usd(run.price_micros),
            "remaining_credits": usd(sum(vendor.balance_micros())),
        }
        body["metrics"] = {**costs, **_timings(run)}
    return JSONResponse(body)


def _media(file: OutputFile, name: str, host: str) -> dict[str, Json]:
    return {
        "url": f"{host}/generations/{name}",
        "content_type": file.media_type,
        "file_name": name,
        "file_size": str(len(file.data)),
    }


def rendered(vendor: Vendor, run: Run, files: tuple[OutputFile, ...], host: str) -> Response:
    """A v1 reply: the bytes, or JSON around them, and the accounting in headers (WIRE 1.3)."""
    switches = vendor.switches
    headers = {
        "x-request-id": run.request_id,
        "x-cost": f"{usd(run.price_micros):.6f}",
        "x-remaining-credits": f"{usd(sum(vendor.balance_micros())):.6f}",
        "x-generation-time": f"{run.done_at - run.starts_at:.3f}",
        "x-seed-value": str(run.seed),
    }
    if switches.v1_reply == "json_empty":
        return JSONResponse({"output": ""}, headers=headers)
    several = switches.v1_samples_reply if len(files) > 1 else None
    if run.body.get("base64") or switches.v1_reply == "json_base64" or several == "base64":
        encoded = [base64.b64encode(file.data).decode("ascii") for file in files]
        inline: Json = encoded[0] if len(encoded) == 1 else list(encoded)
        return JSONResponse({switches.v1_base64_key: inline}, headers=headers)
    if several == "links" or switches.v1_reply == "json_url":
        links: list[Json] = [f"{host}/generations/{name}" for name in run.file_names()]
        return JSONResponse({"output": links if len(links) > 1 else links[0]}, headers=headers)
    media_type = files[0].media_type if run.container == "jpg" else switches.v1_content_type
    return Response(files[0].data, media_type=media_type, headers=headers)


def history_rows(run: Run, now: float, host: str) -> list[dict[str, Json]]:
    """A run in the request history: a row for each of its files, alike but for the link (WIRE 1.7).

    Pictures given as data are not stored.
    """
    state = run.state(now)
    done = state in {"COMPLETED", "FAILED"}
    stored = {
        name: value
        for name, value in run.sent.items()
        if name not in {"image", "input_image"} or str(value).startswith("http")
    }
    row: dict[str, Json] = {
        "request_id": run.request_id,
        "model_name": run.slug,
        "model_status": state if done else "PENDING",
        "model_created": datetime.fromtimestamp(run.created_at, UTC).isoformat(),
        "credits_deduction": usd(run.price_micros) if state == "COMPLETED" and run.billed else 0,
        "request_body": stored,
        "generation_url": None,
        "latency_ms": int((run.done_at - run.created_at) * 1_000) if done else None,
        "error": run.error if state == "FAILED" else None,
    }
    if state != "COMPLETED":
        return [row]
    return [{**row, "generation_url": f"{host}/generations/{name}"} for name in run.file_names()]


def history_page(rows: list[dict[str, Json]], page: int, per_page: int, switches: SegmindSwitches) -> Response:
    """One page of the request history."""
    start = (page - 1) * per_page
    listed: dict[str, Json] = {switches.history_list_field: [*rows[start : start + per_page]]}
    return JSONResponse({**listed, "total": len(rows), "page": page, "per_page": per_page})
