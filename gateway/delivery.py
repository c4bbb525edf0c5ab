"""From a vendor's result to stored files: fetch at once, open, compare with the order, convert, store.

Vendor records live an hour and files a few days, so a result is copied the moment it is known. Straight-line: what to
do about a result that cannot be had is the engine's decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.clock import Clock
from gateway.media.artifacts import Artifact, Artifacts, ArtifactsUnavailableError
from gateway.media.decoders import Decoders
from gateway.media.kinds import MEDIA_TYPES
from gateway.media.verify import BadMedia, MediaInfo, deviations
from gateway.media.workers import NotStarted
from gateway.outbound import FetchLimits, Outbound, OutboundError
from gateway.telemetry.tracing import span
from providers.capability import Route
from providers.contract import FailureKind, Finished, InlineFile, Report, ResultFile
from providers.vocabulary import Scalar

# What vendors deliver when all is well: to convert one of these is vidgate's own part and no deviation.
USUAL_CONTAINERS = ("mp4", "mov")
# A file that came in a reply and cannot be stored is held for so long, and tried again after each pause.
IN_HAND_S = 600.0
IN_HAND_PAUSE_S = 5.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Delivered:
    """Stored files, as the job's result shows them."""

    files: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Undelivered:
    """No usable file. `passing` says that the same file may be had later."""

    kind: FailureKind
    detail: str
    passing: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """Collects results.

    `deviations_fail` makes another number of frames, or fewer pictures, than ordered a failure; without
    `accepts_other_model` so is a result that the vendor says another model than the route's made.
    """

    outbound: Outbound
    artifacts: Artifacts
    decoders: Decoders
    limits: FetchLimits
    clock: Clock
    deviations_fail: bool
    accepts_other_model: bool

    async def collect(self, done: Finished, ordered: Mapping[str, Scalar], route: Route) -> Delivered | Undelivered:
        """Fetch, verify and store every file of a result; `ordered` are the canonical values of the order."""
        if done.report.model not in {None, route.model} and not self.accepts_other_model:
            detail = f"the vendor ran {done.report.model!r} instead of {route.model!r}"
            return Undelivered(FailureKind.NOT_AS_ORDERED, detail, passing=False)
        miscounted = _miscounted(len(done.files), ordered.get("samples"))
        if miscounted and self.deviations_fail and len(done.files) < int(ordered["samples"]):
            return Undelivered(FailureKind.NOT_AS_ORDERED, miscounted, passing=False)
        stored = []
        for file in done.files:
            try:
                stored.append(await self._collect(file, ordered))
            except OutboundError as error:
                passing = error.reason == "unreachable" or (error.status or 0) >= 500 or error.status in {404, 429}
                return Undelivered(FailureKind.BAD_OUTPUT, f"the result {error.detail}", passing)
            except BadMedia as error:
                return Undelivered(FailureKind.BAD_OUTPUT, f"the result cannot be used: {error}", passing=False)
            except NotStarted as error:
                return Undelivered(FailureKind.BAD_OUTPUT, f"the result cannot be opened now: {error}", passing=True)
        differing = [text for file in stored for text in file["deviations"] if "frames" in text]
        if differing and self.deviations_fail:
            return Undelivered(FailureKind.NOT_AS_ORDERED, "; ".join(differing), passing=False)
        if miscounted:
            stored[0]["deviations"].append(miscounted)
        return Delivered(stored)

    async def _collect(self, file: ResultFile, ordered: Mapping[str, Scalar]) -> dict[str, Any]:
        """One file. A fetched one that is broken is fetched once more: that is free, and another render is not."""
        if isinstance(file, InlineFile):
            return await self._keep(file.data, ordered, in_hand=True)
        try:
            return await self._keep(await self._fetch(file.url), ordered)
        except BadMedia:
            return await self._keep(await self._fetch(file.url), ordered)

    async def _fetch(self, url: str) -> bytes:
        with span("fetch result", "client"):
            return (await self.outbound.fetch(url, self.limits)).data

    async def _keep(self, data: bytes, ordered: Mapping[str, Scalar], *, in_hand: bool = False) -> dict[str, Any]:
        with span("verify"):
            info = await self.decoders.inspect(data)
        differing = deviations(info, **_expected(ordered))
        wanted = ordered.get("output_format")
        if isinstance(wanted, str) and wanted != info.container:
            if info.container not in USUAL_CONTAINERS:
                differing = (*differing, f"converted from the vendor's {info.container}, which may have cost quality")
            with span("convert"):
                data = await self.decoders.convert(data, info, wanted)
                info = await self.decoders.inspect(data)
        media_type = MEDIA_TYPES[info.container]
        with span("store"):
            artifact = await self._put(data, media_type, self.clock.now() + (IN_HAND_S if in_hand else 0.0))
        return _shown(info) | {
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
            "media_type": media_type,
            "deviations": list(differing),
        }

    async def _put(self, data: bytes, media_type: str, until: float) -> Artifact:
        """Store a file; while the store is away, one that cannot be had again is held in memory and tried again."""
        while True:
            try:
                return await self.artifacts.put(data, media_type)
            except ArtifactsUnavailableError as error:
                if self.clock.now() >= until:
                    raise
                log.warning("result.held", size_bytes=len(data), error=str(error))
            await self.clock.sleep(IN_HAND_PAUSE_S)


def _miscounted(delivered: int, samples: Scalar | None) -> str:
    """What is wrong with the number of pictures, or nothing; an order for a video has no such number."""
    if samples is None or delivered == int(samples):
        return ""
    if delivered < int(samples):
        return f"{delivered} of {samples} pictures were delivered"
    return f"{delivered} pictures were delivered instead of {samples}"


def _expected(ordered: Mapping[str, Scalar]) -> dict[str, Any]:
    size = (ordered["width"], ordered["height"]) if "width" in ordered and "height" in ordered else None
    return {"num_frames": ordered.get("num_frames"), "fps": ordered.get("fps"), "size": size}


def _shown(info: MediaInfo) -> dict[str, Any]:
    return {
        "width": info.width,
        "height": info.height,
        "num_frames": info.num_frames,
        "fps": info.fps,
        "duration_s": info.duration_s,
        "codec": info.codec,
    }


def reported_deviations(model: str, seed: int | None, report: Report) -> list[str]:
    """What the vendor says it did otherwise than it was asked to, a sentence each; a file has a list of its own."""
    found = []
    if report.model not in {None, model}:
        found.append(f"the vendor ran {report.model!r} instead of {model!r}")
    if seed is not None and report.seed not in {None, seed}:
        found.append(f"the vendor reports seed {report.seed} instead of {seed}")
    return found
