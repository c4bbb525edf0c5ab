"""Input pictures: taken in safely, stored once by their hash, and handed to each vendor in a form it takes.

A caller's link is never passed on: the picture is fetched under the outbound guard, cleaned, and served from vidgate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.clock import Clock
from gateway.fleet import Fleet
from gateway.links import Links
from gateway.media.artifacts import Artifacts
from gateway.media.decoders import Decoders
from gateway.media.intake import CleanImage, ImageLimits
from gateway.media.kinds import EXTENSIONS
from gateway.media.prepare import ImagePlan
from gateway.outbound import FetchLimits, Outbound, OutboundError
from gateway.problems import InvalidImage, Unavailable
from gateway.store.jobs import Attempt, Job
from gateway.telemetry.tracing import span
from policies.fit import picture
from providers.capability import ImageForm, ImageGiven, Route
from providers.contract import FailureKind, HasUpload, Refused, RenderRequest, SourceImage

log = structlog.get_logger()

SUBMIT_TIMEOUT_MIN_S = 60.0
SUBMIT_TIMEOUT_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """Takes pictures in and gives them out. `links_are_public`: vendors can reach vidgate's own signed links."""

    artifacts: Artifacts
    outbound: Outbound
    decoders: Decoders
    fleet: Fleet
    links: Links
    clock: Clock
    limits: ImageLimits
    fetch_limits: FetchLimits
    link_ttl_s: float
    links_are_public: bool

    async def read(self, given: str | bytes) -> CleanImage:
        """Read, check and clean a picture given as bytes, base64, a data URI or an https link; nothing is stored.

        Raises InvalidImage.
        """
        with span("take picture in"):
            linked = given_as(given) == "link"
            picture = await self._fetch(str(given).strip()) if linked else given
            return await self.decoders.take_in(picture, self.limits)

    async def keep(self, given: str | bytes, image: CleanImage) -> dict[str, Any]:
        """Store a picture; returns what the job's row keeps of it and of how it was given."""
        artifact = await self.artifacts.put(image.data, image.media_type)
        return {
            "given": given_as(given),
            "sha256": artifact.sha256,
            "media_type": image.media_type,
            "width": image.width,
            "height": image.height,
            "size_bytes": artifact.size_bytes,
        }

    async def _fetch(self, url: str) -> bytes:
        try:
            return (await self.outbound.fetch(url, self.fetch_limits)).data
        except OutboundError as error:
            log.info("picture.not_fetched", reason=error.reason, detail=error.detail)
            reason, said = error.told
            detail = f"the picture cannot be fetched from its link: {said}"
            raise InvalidImage(detail, reason="link", link=reason) from error

    def form(self, route: Route) -> ImageForm | None:
        """The first form, in the route's order of liking, in which a picture can be handed over; None if none can."""
        uploads = isinstance(self.fleet.account(route.name).provider, HasUpload)
        return next((form for form in route.image_forms if form != "url" or self.links_are_public or uploads), None)

    async def request(self, job: Job, attempt: Attempt) -> RenderRequest | Refused:
        """What the vendor is asked for with an attempt: its parameters, and the picture in the form that it takes.

        Refused where the picture cannot be had in that form, because the vendor did not store it or nobody prepares it.
        """
        route = self.fleet.routes[attempt.route]
        try:
            image = await self.source(job, route)
        except Unavailable as error:
            return Refused(FailureKind.UNAVAILABLE, error.detail)
        except FileNotFoundError:
            return Refused(FailureKind.UNAVAILABLE, "the picture is no longer stored")
        return RenderRequest(
            route=route,
            attempt_id=attempt.id,
            parameters=attempt.wire,
            image=image,
            callback_url=self.callback_url(attempt.id),
            timeout_s=max(SUBMIT_TIMEOUT_MIN_S, SUBMIT_TIMEOUT_FACTOR * route.latency_nominal_s),
        )

    async def source(self, job: Job, route: Route) -> SourceImage:
        """The job's picture as this route takes it: cropped and sized where vidgate must, as bytes or as a link.

        Raises Unavailable.
        """
        wanted, given = picture(route, job.parameters), job.input
        as_it_is = wanted.crop is None and wanted.size is None
        if as_it_is and self.links_are_public and self.form(route) == "url":  # it need not be read to be linked to
            url = self._link(given["sha256"], given["media_type"])
            return SourceImage(given["media_type"], given["width"], given["height"], url=url)
        with span("prepare picture"):
            image = await self._prepared(job.input, route, job.parameters)
        inline = SourceImage(image.media_type, image.width, image.height, data=image.data)
        if self.form(route) != "url":
            return inline
        if self.links_are_public:
            artifact = await self.artifacts.put(image.data, image.media_type)
            url = self._link(artifact.sha256, image.media_type)
        else:
            url = await self._upload(route, inline)
        return SourceImage(image.media_type, image.width, image.height, url=url)

    async def _prepared(self, stored: Mapping[str, Any], route: Route, parameters: Mapping[str, Any]) -> CleanImage:
        data = await self.artifacts.get(stored["sha256"])
        image = CleanImage(data, stored["media_type"], stored["width"], stored["height"], stored["sha256"])
        wanted = picture(route, parameters)
        if wanted.crop is None and wanted.size is None:
            return image
        width, height = wanted.size or (None, None)
        return await self.decoders.prepare(image, ImagePlan(wanted.crop, width, height))

    def _link(self, sha256: str, media_type: str) -> str:
        name = f"{sha256}.{EXTENSIONS[media_type]}"
        return self.links.input_url(name, self.clock.now() + self.link_ttl_s)

    async def _upload(self, route: Route, image: SourceImage) -> str:
        provider = self.fleet.account(route.name).provider
        url = await provider.upload(image) if isinstance(provider, HasUpload) else None
        if url is None:
            raise Unavailable(f"the picture could not be uploaded to {route.provider}")
        return url

    def callback_url(self, attempt_id: str) -> str | None:
        """Where a vendor may announce the end of an attempt; None when vendors cannot reach vidgate."""
        return self.links.callback_url(attempt_id) if self.links_are_public else None


def given_as(picture: str | bytes) -> ImageGiven:
    """The form in which a caller gave a picture."""
    if isinstance(picture, bytes):
        return "file"
    start = picture.lstrip()[:8].lower()
    if start.startswith(("http://", "https://")):
        return "link"
    return "data_uri" if start.startswith("data:") else "base64"
