"""Spans: what was done, where in its trace, from when to when, told once it is over.

Whatever runs stands at a *place*: a request, a job that is driven, an event that is sent. The place is set where that
work enters (`Tracing.at`) and is the same for the logs, which take its facts, and for `span`, which any leaf may call.
A span is a plain record until it leaves the process (export.py); nothing is kept open while a job waits, so that spans
cost no memory and are not lost with a process that dies in between.

With nobody to tell, or outside the recorded share, `span` does nothing. Attributes are ids, configured names, numbers
and enumerations; never what somebody wrote: no prompt, key, address or vendor's word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal, Protocol

from gateway.clock import Clock
from gateway.telemetry.trace_context import Trace, is_in_share, span_id_of, trace_id_of

Kind = Literal["internal", "server", "client"]
Attribute = str | int | float | bool
# How the facts of a place are called as attributes of spans; in the logs they have their short names.
FACTS = {
    "job": "vidgate.job.id",
    "team": "vidgate.team.id",
    "route": "vidgate.route",
    "attempt": "vidgate.attempt.id",
    "event_id": "vidgate.event.id",
    "webhook": "vidgate.webhook.id",
}


@dataclass(frozen=True, slots=True)
class Span:
    """One span, over. Times are unix seconds; `error` is its kind in a word, None when all went well."""

    name: str
    kind: Kind
    trace: Trace
    parent_id: str | None
    began_at: float
    ended_at: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    error: str | None = None
    events: tuple[tuple[float, str], ...] = ()


class Outlet(Protocol):
    """Where spans leave the process."""

    def put(self, span: Span) -> None:
        """Take a span; never waits."""

    async def close(self) -> None:
        """Send what is left, for a moment."""


class Place(Protocol):
    """Where work stands: the span under which it goes on, and what its logs and spans say of it."""

    @property
    def trace(self) -> Trace | None:
        """The parent of what begins now; None for work of a time before there were traces."""

    def facts(self) -> Mapping[str, str]:
        """Names from FACTS with their values."""


@dataclass(slots=True)
class TraceContext:
    """A place that does not move: a request that is answered, an event that is sent.

    `is_wanted` says that whoever made the request asks for its trace to be recorded, and is not known yet.
    """

    trace: Trace | None
    known: dict[str, str] = field(default_factory=dict)
    is_wanted: bool = False

    def facts(self) -> Mapping[str, str]:
        """What is known of it so far."""
        return self.known


class Tracing:
    """The spans of one process. `origin` is its name among the others; without an outlet nothing is recorded."""

    def __init__(self, clock: Clock, origin: str, *, ratio: float = 1.0, outlet: Outlet | None = None) -> None:
        self._clock = clock
        self._origin = origin
        self._ratio = ratio
        self._outlet = outlet
        self._numbers = count(1)
        # The vendors' models by route, for the attributes of attempts.
        self.models: dict[str, str] = {}

    def enter(self, caller: Trace | None) -> Trace:
        """The span of a request: in its caller's trace where it comes with one, else the first of a new one.

        A stranger cannot have it recorded: until the caller is known (`trust_here`) the share decides, by an id of ours
        that nobody can choose.
        """
        number = next(self._numbers)
        own_id, span_id = trace_id_of(self._origin, number), span_id_of(f"{self._origin}/{number}")
        sampled = self._outlet is not None and is_in_share(own_id, self._ratio)
        if caller is not None:
            return Trace(caller.trace_id, span_id, sampled and caller.sampled)
        return Trace(own_id, span_id, sampled)

    def new_span(self, parent: Trace) -> Trace:
        """A span under another one."""
        return parent.at(span_id_of(f"{self._origin}/{next(self._numbers)}"))

    def records(self, trace: Trace | None) -> bool:
        """Whether spans of this trace are told."""
        return self._outlet is not None and trace is not None and trace.sampled

    def tell(self, span: Span) -> None:
        """Hand on a span, when its trace is recorded."""
        if self._outlet is not None and span.trace.sampled:
            self._outlet.put(span)

    async def close(self) -> None:
        """Send what is left, for a moment."""
        if self._outlet is not None:
            await self._outlet.close()

    def now(self) -> float:
        """The time of spans: the service's own, as of the rows."""
        return self._clock.now()

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """Let what runs in the block stand at this place."""
        token = _here.set((self, place))
        try:
            yield
        finally:
            _here.reset(token)


_here: ContextVar[tuple[Tracing, Place] | None] = ContextVar("here", default=None)


class _Unrecorded:
    """A span that nobody is told of."""

    trace: Trace | None = None

    def __enter__(self) -> _Unrecorded:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def note(self, _attributes: Mapping[str, Attribute]) -> None:
        """Nothing is noted."""

    def fail(self, _kind: str) -> None:
        """Nothing is noted."""


class _UnderWay:
    """A span that goes on."""

    __slots__ = ("_attributes", "_began_at", "_error", "_kind", "_name", "_parent", "_tracing", "trace")

    def __init__(self, tracing: Tracing, name: str, kind: Kind, place: Place, parent: Trace) -> None:
        self._tracing = tracing
        self._name = name
        self._kind: Kind = kind
        self._parent = parent
        self._attributes: dict[str, Attribute] = named(place.facts())
        self._error: str | None = None
        self._began_at = tracing.now()
        self.trace: Trace | None = tracing.new_span(parent)

    def __enter__(self) -> _UnderWay:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: object) -> None:
        assert self.trace is not None
        failed = self._error or (kind.__name__ if kind is not None else None)
        ended_at, parent_id = self._tracing.now(), self._parent.span_id
        self._tracing.tell(
            Span(self._name, self._kind, self.trace, parent_id, self._began_at, ended_at, self._attributes, failed)
        )

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes."""
        self._attributes.update(attributes)

    def fail(self, kind: str) -> None:
        """Say that it failed, and of what kind the failure is."""
        self._error = kind


NOTHING = _Unrecorded()


def span(name: str, kind: Kind = "internal") -> _UnderWay | _Unrecorded:
    """A span of what the block does, under the place where it runs."""
    here = _here.get()
    if here is None:
        return NOTHING
    tracing, place = here
    parent = place.trace if tracing.records(place.trace) else None
    return _UnderWay(tracing, name, kind, place, parent) if parent is not None else NOTHING


def traceparent_here() -> str | None:
    """The span under which the running code works, recorded or not, as a `traceparent`."""
    here = _here.get()
    trace = here[1].trace if here is not None else None
    return str(trace) if trace is not None else None


def recorded_here() -> str | None:
    """The id of the trace at work when it is recorded: what an exemplar may point to."""
    here = _here.get()
    if here is None:
        return None
    tracing, place = here
    trace = place.trace
    return trace.trace_id if trace is not None and tracing.records(trace) else None


def learn_here(**facts: str) -> None:
    """Add what has become known of the request at hand, for its logs and its spans."""
    here = _here.get()
    if here is not None and isinstance(here[1], TraceContext):
        here[1].known.update(facts)


def trust_here() -> None:
    """The caller of the request at hand is known: it is recorded when its caller's trace is."""
    here = _here.get()
    if here is not None and isinstance(here[1], TraceContext) and here[1].is_wanted and here[1].trace is not None:
        here[1].trace = replace(here[1].trace, sampled=True)


def add_place(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor for the log: every line says where it stands (job, team, route, attempt, trace)."""
    here = _here.get()
    if here is not None:
        place = here[1]
        for name, value in place.facts().items():
            line.setdefault(name, value)
        trace = place.trace
        if trace is not None:
            line.setdefault("trace_id", trace.trace_id)
    return line


def named(facts: Mapping[str, str]) -> dict[str, Attribute]:
    """Facts under their names as attributes."""
    return {FACTS[name]: value for name, value in facts.items()}
