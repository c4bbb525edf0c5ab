"""What the gateway answers with, as plain values. Fields that a newer gateway adds are in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One finished file of a job; sizes in pixels and bytes, None where the kind of file has no such thing."""

    media_type: str
    sha256: str
    size_bytes: int
    width: int | None
    height: int | None
    num_frames: int | None
    fps: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stood when it was asked for. `raw` is the whole document: plan, receipt, attempts, bill.

    `stage` says what it is doing, `fraction` how much is done (0 to 1) and `eta_s` how many seconds are left, where the
    vendor tells. `price_micros` is what the team pays, in micro-USD, once it is known.
    """

    id: str
    media: str
    status: str
    stage: str
    fraction: float | None
    eta_s: float | None
    route: str | None
    price_micros: int | None
    files: tuple[OutputFile, ...]
    error: Mapping[str, Any] | None
    trace_id: str | None
    raw: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in TERMINAL

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.status == "succeeded"


def id_of(job: Job | str) -> str:
    """The id of a job, which may be given in its place."""
    return job if isinstance(job, str) else job.id


def job_of(document: Mapping[str, Any]) -> Job:
    """A job out of its JSON document."""
    progress, bill = document.get("progress") or {}, document.get("bill") or {}
    result = document.get("result") or {}
    return Job(
        id=document["id"],
        media=document.get("media", "video"),
        status=document["status"],
        stage=progress.get("stage") or document["status"],
        fraction=progress.get("fraction"),
        eta_s=progress.get("eta_s"),
        route=document.get("route"),
        price_micros=bill.get("price_micros"),
        files=tuple(_file_of(one) for one in result.get("files", ())),
        error=document.get("error"),
        trace_id=document.get("trace_id"),
        raw=document,
    )


def _file_of(document: Mapping[str, Any]) -> OutputFile:
    return OutputFile(
        media_type=document["media_type"],
        sha256=document.get("sha256", ""),
        size_bytes=document.get("size_bytes", 0),
        width=document.get("width"),
        height=document.get("height"),
        num_frames=document.get("num_frames"),
        fps=document.get("fps"),
    )
