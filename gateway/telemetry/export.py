"""From the settings to where spans leave the process, or to the sentence that says what keeps them from it."""

from __future__ import annotations

from importlib.util import find_spec

from gateway.settings import TelemetrySection
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Outlet

PACKAGE = "opentelemetry.exporter.otlp.proto.http"
NO_PACKAGES = "needs OpenTelemetry's packages, which are not installed: pip install 'vidgate[otel]'"


class TracingError(RuntimeError):
    """Spans cannot be sent as configured."""


def export_fault(endpoint: str | None) -> str | None:
    """What keeps spans from being sent, as the rest of a sentence about the setting; None when nothing does."""
    return None if endpoint is None or _is_installed() else NO_PACKAGES


def open_outlet(settings: TelemetrySection, metrics: Metrics, origin: str) -> Outlet | None:
    """Where spans go; None without an endpoint. Raises TracingError without the packages."""
    fault = export_fault(settings.otlp_endpoint)
    if fault is not None:
        raise TracingError(f"telemetry.otlp_endpoint {fault}")
    if settings.otlp_endpoint is None:
        return None
    from gateway.telemetry.otlp import OtlpOutlet  # noqa: PLC0415 - the packages are loaded only when used

    return OtlpOutlet(settings, metrics, origin)


def _is_installed() -> bool:
    try:
        return find_spec(PACKAGE) is not None
    except ModuleNotFoundError:  # not even the packages that it lies in
        return False
