"""A place in a trace as W3C Trace Context writes it: which trace, which span, and whether it is recorded. Pure.

The spans of a job and of an attempt outlive the process that began them, so their ids follow from the ids of the rows:
whoever takes a job up knows the parent of what it does, and whoever ends it tells the span.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

_FORM = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.ASCII)
SAMPLED = 0x01
SPAN_ID_BYTES = 8
TRACE_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Trace:
    """A span of a trace. The ids are lower-case hex."""

    trace_id: str
    span_id: str
    sampled: bool

    @classmethod
    def parse(cls, header: str | None) -> Trace | None:
        """What a `traceparent` says; None for one that says nothing valid. Later versions are read as far as known."""
        match = _FORM.match(header or "")
        if match is None:
            return None
        version, trace_id, span_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not span_id.strip("0"):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & SAMPLED))

    @classmethod
    def of_caller(cls, headers: Sequence[str]) -> Trace | None:
        """What a caller sent; a header that came twice is no header."""
        return cls.parse(headers[0]) if len(headers) == 1 else None

    def __str__(self) -> str:
        """The value of a `traceparent` or `traceresponse`."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    def at(self, span_id: str) -> Trace:
        """Another span of the same trace."""
        return replace(self, span_id=span_id)

    def at_row(self, row_id: str) -> Trace:
        """The span of a job or an attempt of the same trace."""
        return self.at(span_id_of(row_id))


def span_id_of(row_id: str) -> str:
    """The id of the span that tells of a row."""
    return _digest(row_id, SPAN_ID_BYTES)


def trace_id_of(origin: str, number: int) -> str:
    """The id of the trace that a process begins with its n-th request."""
    return _digest(f"{origin}/{number}", TRACE_ID_BYTES)


def trace_id_in(header: str | None) -> str | None:
    """The trace id of a stored context; None where there is none."""
    trace = Trace.parse(header)
    return trace.trace_id if trace is not None else None


def is_in_share(trace_id: str, ratio: float) -> bool:
    """Whether a new trace belongs to the recorded share: every process decides the same, by the id's random end."""
    return int(trace_id[16:], 16) < round(ratio * 2**64)


def _digest(text: str, size_bytes: int) -> str:
    digest = blake2b(text.encode(), digest_size=size_bytes).hexdigest()
    return digest if digest.strip("0") else "1".zfill(size_bytes * 2)  # an id of zeros is none
