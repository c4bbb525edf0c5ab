"""`GET /metrics` for Prometheus: OpenMetrics with exemplars where it is accepted, the older text elsewhere."""

from __future__ import annotations

import hmac

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from gateway.problems import Unauthorized
from gateway.service import Service


async def metrics(request: Request, service: Service) -> Response:
    """Every metric of this process. A store that does not answer leaves its gauges as they were; the rest is told.

    Raises Unauthorized where the configuration asks for a token and the scraper has another one.
    """
    token = service.parts.settings.telemetry.metrics_token
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token is not None and not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise Unauthorized(
            "give the scraper's token: Authorization: Bearer ...", headers={"WWW-Authenticate": "Bearer"}
        )
    service.overload.tell()
    await service.snapshot.renew()
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(service.parts.meter.metrics.registry), headers={"content-type": content_type})
