"""A job as its JSON document or as its file, whichever the caller takes (`Accept`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.files import result_file
from gateway.api.negotiation import acceptable
from gateway.jobs import TERMINAL, JobStatus
from gateway.media.kinds import MEDIA_TYPES
from gateway.problems import NotAcceptable, kept_response
from gateway.service import Service
from gateway.store.jobs import Job
from providers.vocabulary import Media

JSON = "application/json"
FORMS = (JSON, *MEDIA_TYPES.values())
# What a result of each kind can be; a video's container is chosen by `output_format`.
RESULTS: Mapping[Media, tuple[str, ...]] = {
    "video": tuple(MEDIA_TYPES[name] for name in ("mp4", "gif", "webp", "webm", "mov")),
    "image": tuple(MEDIA_TYPES[name] for name in ("png", "jpeg", "webp")),
}


def forms_of(request: Request) -> list[str]:
    """The forms of a job that the caller takes, what it likes best first. Raises NotAcceptable when there are none."""
    forms = acceptable(request.headers.get("accept", ""), FORMS)
    if not forms:
        raise NotAcceptable(f"a job can be had as {', '.join(FORMS)}")
    return forms


def check_forms(forms: Sequence[str], media: Media, written: Mapping[str, Any]) -> None:
    """Refuse, before anything is paid, a request whose result cannot have a form that its caller takes.

    Raises NotAcceptable.
    """
    if JSON in forms:
        return
    container = written.get("output_format", "mp4" if media == "video" else None)
    possible = (MEDIA_TYPES[container],) if container is not None else RESULTS[media]
    if not set(possible) & set(forms):
        raise NotAcceptable(f"this request's result is {' or '.join(possible)}; take that or {JSON}")


async def represented(request: Request, service: Service, job: Job, said: tuple[Response, Sequence[str]]) -> Response:
    """The reply about a job: its document, unless the caller likes a form better that the finished file has.

    Who takes no JSON is told of a job that failed by its problem. A job that has not ended is always its document, and
    so is a result in a form that the caller does not take: it has been paid.
    """
    document, forms = said
    about = {name: value for name, value in document.headers.items() if name.startswith("x-vidgate-")}
    if forms[0] == JSON or job.status not in TERMINAL:
        return document
    if job.status is JobStatus.SUCCEEDED and job.result is not None:
        if _liked(job.result["files"][0]["media_type"], forms):
            file = await result_file(request, service, job, "0")
            file.headers.update(about | {"content-location": f"/jobs/{job.id}/content"})
            return file
    elif JSON not in forms and job.error is not None:
        return kept_response(job.error, about)
    return document


def _liked(media_type: str, forms: Sequence[str]) -> bool:
    """Whether the file is taken, and liked no less than the document."""
    return media_type in forms and (JSON not in forms or forms.index(media_type) < forms.index(JSON))
