"""The metrics of one process in a registry of their own, made from the catalogue, with labels that cannot grow.

Several gateways in one process (tests, `vidgate dev`) count apart. A label's value is taken as it is until a metric has
`SERIES_MAX` series; whatever is new after that is counted under `other`. A gauge of the store that has no labels is not
told before it was read: its 0 would be taken for a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from gateway.clock import stopwatch_s
from gateway.telemetry.catalogue import BY_NAME, METRICS, Fold, Metric
from gateway.telemetry.tracing import recorded_here

SERIES_MAX = 2000
OTHER = "other"
NONE = "none"
FOLDS: Mapping[Fold, Callable[[Iterable[float]], float]] = {"sum": sum, "min": min}


class Metrics:
    """Counts, times and gauges by the names of the catalogue. A name or a label that it does not have is a KeyError."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._families = {metric.name: _family(metric, self.registry) for metric in METRICS}
        self._unread = {metric.name for metric in METRICS if _waits_for_its_reading(metric)}
        self._series: dict[str, set[tuple[str, ...]]] = {metric.name: set() for metric in METRICS}

    def begin(self, label: str, values: Iterable[str]) -> None:
        """Let the counters that have this one label begin at 0, so that a rate sees the first of what they count."""
        for metric in METRICS:
            if metric.kind == "counter" and metric.labels == (label,):
                for value in values:
                    self.count(metric.name, 0, **{label: value})

    def count(self, name: str, by: float = 1, *, trace_id: str | None = None, **labels: str) -> None:
        """Add to a counter; the exemplar is this trace, or the one at work where it is recorded."""
        child = self._child(name, labels)
        assert isinstance(child, Counter)
        child.inc(by, exemplar=_exemplar(trace_id))

    def observe(self, name: str, value: float, *, trace_id: str | None = None, **labels: str) -> None:
        """Put a value into a histogram; with an exemplar as in `count`."""
        child = self._child(name, labels)
        assert isinstance(child, Histogram)
        child.observe(value, exemplar=_exemplar(trace_id))

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        child = self._child(name, labels)
        assert isinstance(child, Gauge)
        child.set(value)
        if name in self._unread:
            self._unread.remove(name)
            self.registry.register(self._families[name])

    def replace(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set a gauge to just these series, by their label values in the order of the catalogue; others are gone.

        Of too many the first are told as they are, and the rest together as `other`.
        """
        family = self._families[name]
        assert isinstance(family, Gauge)
        names = BY_NAME[name].labels
        if names:
            family.clear()
            self._series[name].clear()
        for labels, value in _folded(BY_NAME[name], values).items():
            self.set(name, value, **dict(zip(names, labels, strict=True)))

    @contextmanager
    def timed(self, name: str, **labels: str) -> Iterator[None]:
        """Observe how long the block takes, however it ends."""
        began_s = stopwatch_s()
        try:
            yield
        finally:
            self.observe(name, stopwatch_s() - began_s, **labels)

    def _child(self, name: str, labels: Mapping[str, str]) -> Counter | Gauge | Histogram:
        names = BY_NAME[name].labels
        if len(labels) != len(names):
            raise KeyError(f"{name} has the labels {names}, not {tuple(labels)}")
        if not names:
            return self._families[name]
        values = tuple(labels[label] for label in names)
        series = self._series[name]
        if values not in series:
            if len(series) >= SERIES_MAX:
                values = (OTHER,) * len(names)
            series.add(values)
        return self._families[name].labels(*values)


def _waits_for_its_reading(metric: Metric) -> bool:
    return metric.origin == "store" and not metric.labels


def _family(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.text, metric.labels, buckets=metric.buckets, registry=registry)
    if metric.kind == "counter":
        return Counter(metric.name, metric.text, metric.labels, registry=registry)
    return Gauge(metric.name, metric.text, metric.labels, registry=None if _waits_for_its_reading(metric) else registry)


def _folded(metric: Metric, values: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    told = dict(islice(values.items(), SERIES_MAX))
    rest = list(islice(values.values(), SERIES_MAX, None))
    if rest:
        told[(OTHER,) * len(metric.labels)] = FOLDS[metric.fold](rest)
    return told


def _exemplar(trace_id: str | None) -> dict[str, str] | None:
    trace_id = trace_id or recorded_here()
    return {"trace_id": trace_id} if trace_id is not None else None
