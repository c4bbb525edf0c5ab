"""Spans and the lines of the log take what they say from the place where work stands."""

from __future__ import annotations

import pytest

from gateway.clock import SystemClock
from gateway.telemetry.trace_context import Trace, span_id_of
from gateway.telemetry.tracing import (
    NOTHING,
    Span,
    TraceContext,
    Tracing,
    add_place,
    learn_here,
    recorded_here,
    span,
    traceparent_here,
    trust_here,
)

PARENT = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
UNSAMPLED = Trace(PARENT.trace_id, PARENT.span_id, sampled=False)


class Kept:
    """An outlet that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        self.spans.append(span)

    async def close(self) -> None:
        return


def tracing(outlet: Kept | None, ratio: float = 1.0) -> Tracing:
    return Tracing(SystemClock(), "a process", ratio=ratio, outlet=outlet)


def test_a_span_stands_under_its_place_with_its_facts() -> None:
    """Name, kind, times, parent and what the place says; what is noted comes beside it."""
    kept = Kept()
    with tracing(kept).at(TraceContext(PARENT, {"job": "job_1", "route": "a/b"})), span("fetch", "client") as fetching:
        fetching.note({"http.response.status_code": 200})
    (told,) = kept.spans
    assert (told.name, told.kind, told.parent_id, told.error) == ("fetch", "client", PARENT.span_id, None)
    assert told.trace.trace_id == PARENT.trace_id
    assert told.trace.span_id != PARENT.span_id
    assert told.began_at <= told.ended_at
    assert told.attributes == {
        "vidgate.job.id": "job_1",
        "vidgate.route": "a/b",
        "http.response.status_code": 200,
    }


def test_a_span_says_how_it_failed() -> None:
    """By the kind that it is told, or by the class of what was raised; never by its words."""
    kept = Kept()
    with tracing(kept).at(TraceContext(PARENT)):
        with span("one") as one:
            one.fail("rate_limited")
        with pytest.raises(ValueError, match="secret"), span("two"):
            raise ValueError("with a secret in its words")
    assert [told.error for told in kept.spans] == ["rate_limited", "ValueError"]
    assert "secret" not in repr(kept.spans)


@pytest.mark.parametrize("place", [TraceContext(UNSAMPLED), TraceContext(None)], ids=["unsampled", "no trace"])
def test_what_is_not_recorded_makes_no_span(place: TraceContext) -> None:
    """The very same object each time, which does nothing."""
    kept = Kept()
    with tracing(kept).at(place):
        assert span("one") is NOTHING
        assert recorded_here() is None
    assert kept.spans == []


def test_without_an_outlet_nothing_is_recorded() -> None:
    """Not even what a caller asks for; the place is known all the same."""
    own = tracing(None)
    with own.at(TraceContext(PARENT)):
        assert span("one") is NOTHING
        assert traceparent_here() == str(PARENT)
    own.tell(Span("one", "internal", PARENT, None, 0.0, 1.0))
    assert not own.enter(None).sampled


def test_outside_of_any_place_there_is_nothing() -> None:
    """A leaf that is called by a test or by the command line works as ever."""
    assert span("one") is NOTHING
    assert traceparent_here() is None
    learn_here(job="job_1")
    trust_here()
    assert add_place(None, "info", {"event": "said"}) == {"event": "said"}


def test_a_request_goes_on_in_its_callers_trace() -> None:
    """With the caller's decision once the caller is known; until then, and without one, the share decides."""
    own = tracing(Kept(), ratio=0.0)
    inside = own.enter(PARENT)
    assert (inside.trace_id, inside.sampled) == (PARENT.trace_id, False)
    for is_wanted in (True, False):
        place = TraceContext(inside, is_wanted=is_wanted)
        with own.at(place):
            trust_here()
            assert (recorded_here() is not None) is is_wanted
        assert place.trace is not None
        assert (place.trace.span_id, place.trace.sampled) == (inside.span_id, is_wanted)
    assert tracing(Kept()).enter(PARENT).sampled
    assert inside.span_id != PARENT.span_id
    assert not own.enter(UNSAMPLED).sampled
    first, second = own.enter(None), own.enter(None)
    assert first.trace_id != second.trace_id
    assert not first.sampled
    assert tracing(Kept()).enter(None).sampled


def test_a_line_of_the_log_says_where_it_stands() -> None:
    """What the line says itself comes first; what is learned of a request is in every line from then on."""
    with tracing(None).at(TraceContext(PARENT, {"job": "job_1"})):
        learn_here(team="team_1")
        line = add_place(None, "info", {"event": "said", "job": "job_2"})
    assert line == {"event": "said", "job": "job_2", "team": "team_1", "trace_id": PARENT.trace_id}


def test_ids_of_spans_are_never_the_same() -> None:
    """Nor is one of them that of a row."""
    own = tracing(Kept())
    ids = [own.new_span(PARENT).span_id for _ in range(1000)] + [own.enter(None).span_id for _ in range(1000)]
    assert len({*ids, span_id_of("job_1")}) == 2001
