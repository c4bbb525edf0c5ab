"""The figures of a worker for Prometheus, under the names that the chart and the dashboards know."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from providers.local_gpu.worker.renders import Render

CONTENT_TYPE = CONTENT_TYPE_LATEST
RENDER_BUCKETS_S = (0.5, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)
STEP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 4.8, 9.6, 30)


class Figures:
    """Everything that is counted of one worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._renders = Counter(
            "vidgate_gpu_renders", "Renders, by how they ended.", ["model", "state"], registry=registry
        )
        self._render_s = Histogram(
            "vidgate_gpu_render_seconds",
            "Seconds of the card that a render took.",
            ["model"],
            buckets=RENDER_BUCKETS_S,
            registry=registry,
        )
        self._step_s = Histogram(
            "vidgate_gpu_step_seconds",
            "Seconds that a step of a render took on average.",
            ["model"],
            buckets=STEP_BUCKETS_S,
            registry=registry,
        )
        self._compile_s = Counter(
            "vidgate_gpu_compile_seconds",
            "Seconds that renders waited for the network to be compiled for their shape; no part of their own.",
            ["model"],
            registry=registry,
        )
        self._busy_s = Counter("vidgate_gpu_busy_seconds", "Seconds that cards worked.", registry=registry)
        self._refused = Counter("vidgate_gpu_refused", "Orders refused because the queue was full.", registry=registry)
        self._restarted = Counter(
            "vidgate_gpu_restarted", "Renders begun again because their card died.", registry=registry
        )
        self._memory = Gauge(
            "vidgate_gpu_memory_peak_bytes", "The most memory that a render has held so far.", registry=registry
        )
        self._memory_bytes = 0
        self.queue_depth = Gauge("vidgate_gpu_queue_depth", "Orders that wait for a card.", registry=registry)
        self.queue_max = Gauge("vidgate_gpu_queue_max", "Orders that may wait for a card.", registry=registry)
        self.running = Gauge("vidgate_gpu_running", "Renders that a card works on.", registry=registry)
        self.warm_up_s = Gauge(
            "vidgate_gpu_warm_up_seconds", "Seconds that the card rendered for nobody at its start.", registry=registry
        )
        self.ready = Gauge("vidgate_gpu_ready", "1 when an order would be taken.", registry=registry)

    def ended(self, render: Render, gpu_s: float) -> None:
        """A render has ended, however."""
        self._renders.labels(render.order.model, render.state).inc()
        self._busy_s.inc(gpu_s)
        if render.state == "succeeded":
            self._render_s.labels(render.order.model).observe(gpu_s)

    def stepped(self, model: str, seconds: float) -> None:
        """The steps of a finished render took so long each."""
        self._step_s.labels(model).observe(seconds)

    def compiled(self, model: str, seconds: float) -> None:
        """For a render that has ended the network was compiled for so long."""
        self._compile_s.labels(model).inc(seconds)

    def refused(self) -> None:
        """An order found the queue full."""
        self._refused.inc()

    def restarted(self) -> None:
        """A render is begun again."""
        self._restarted.inc()

    def held(self, memory_bytes: int) -> None:
        """A render held so much memory at its peak."""
        self._memory_bytes = max(self._memory_bytes, memory_bytes)
        self._memory.set(self._memory_bytes)

    def exposition(self) -> bytes:
        """The figures in Prometheus's text format."""
        return generate_latest(self.registry)
