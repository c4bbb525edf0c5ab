"""Liveness and readiness: is the process up, and can it take work now."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.service import Service
from gateway.store.database import StoreError


async def healthz(_request: Request, _service: Service) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(_request: Request, service: Service) -> Response:
    """Whether new work can be taken: the store answers and nobody has asked the process to stop.

    Without its bus a replica is `degraded` and works on: limits are its own, and others hear of things a little later.
    """
    checks: dict[str, object] = {
        "store": "ok",
        "draining": service.dispatcher.draining,
        "routes": len(service.parts.fleet.routes),
        "bus": "degraded" if service.parts.bus.degraded else "ok",
    }
    if service.reloader is not None:
        checks["configuration"] = asdict(service.reloader.state)
    try:
        await service.parts.store.ping()
    except StoreError:
        checks["store"] = "unavailable"
    ready = checks["store"] == "ok" and not service.dispatcher.draining
    status = "not_ready" if not ready else "degraded" if service.parts.bus.degraded else "ready"
    return JSONResponse({"status": status, "checks": checks}, 200 if ready else 503)
