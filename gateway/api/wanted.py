"""What a request for a render says, read and checked: the body of `POST /generate/...` and one of a batch alike."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from gateway.api.auth import hold_of
from gateway.api.reading import BodyLimits, metadata_of, read_fields, take_image
from gateway.money import idempotency
from gateway.normalise import read_parameters
from gateway.problems import BadRequest, InvalidParameter, UnknownField
from gateway.service import Service
from gateway.wishes import RoutingWish
from policies.fit import FitMode
from providers.capability import Route
from providers.vocabulary import Media, Scalar

DIGEST_FROM = 4096  # characters
FIT_MODES: tuple[FitMode, ...] = ("exact", "nearest")


@dataclass(frozen=True, slots=True)
class Wish:
    """A request body, read: canonical parameters, fit, routing and tags, and the picture as it was given."""

    media: Media
    written: Mapping[str, Scalar]
    fit: FitMode
    routing: RoutingWish
    metadata: Mapping[str, str]
    image: str | bytes
    fingerprint: str


async def read_wish(request: Request, service: Service, media: Media) -> Wish:
    """Read and check the body. Raises the problem that names what is wrong; nothing is kept."""
    server = service.parts.settings.server
    limits = BodyLimits(server.body_bytes_max, server.body_s, server.body_bytes_per_s_min)
    fields = await read_fields(request, limits)
    hold_of(request).check()  # its key may have ended while the body came
    return wish_of(fields, service, media, request.url.path)


def wish_of(fields: dict[str, Any], service: Service, media: Media, path: str) -> Wish:
    """A body's fields, checked; the path they were sent to is part of what an idempotency key stands for."""
    fingerprint = idempotency.fingerprint("POST", path, _digestible(fields))
    image = take_image(fields)
    fit = "exact" if (asked := fields.pop("fit", None)) is None else asked
    if fit not in FIT_MODES:
        raise InvalidParameter(f"fit must be one of {', '.join(FIT_MODES)}, not {fit!r}", parameter="fit")
    metadata = metadata_of(fields)
    wished = fields.pop("routing", None)
    routing = read_routing({} if wished is None else wished)
    fields.pop("metadata", None)
    routes = [route for route in service.parts.fleet.routes.values() if route.media == media]
    written = read_parameters(fields, media, routes)
    _check_names(routing, routes)
    return Wish(media, written, fit, routing, metadata, image, fingerprint)


def read_routing(given: Any) -> RoutingWish:
    """The routing wish. Raises InvalidParameter naming the member at fault."""
    try:
        return RoutingWish.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["routing", *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(first["loc"][-1]), [*RoutingWish.model_fields], n=1, cutoff=0.0)[0]
            said = f"there is no field {where!r}; the nearest known one is 'routing.{near}'"
            raise UnknownField(said, field=where, nearest=f"routing.{near}") from None
        if first["type"] == "model_type":
            said = f'{where} must be an object, such as {{"objective": "fastest"}}'
            raise InvalidParameter(said, parameter=where) from None
        raise InvalidParameter(f"{where}: {first['msg']}", parameter=where) from None


def _check_names(routing: RoutingWish, routes: Sequence[Route]) -> None:
    """A wish may name only routes and providers that there are. Raises InvalidParameter with the nearest one."""
    known = {route.name for route in routes} | {route.provider for route in routes}
    wishes = {"pin": (routing.pin,), "order": routing.order, "only": routing.only, "ignore": routing.ignore}
    for member, names in wishes.items():
        for name in names:
            if name is not None and name not in known:
                near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
                hint = f"the nearest is {near[0]!r}" if near else "there are none of this kind"
                said = f"routing.{member}: there is no route or provider {name!r} here; {hint}"
                raise InvalidParameter(said, parameter=f"routing.{member}", known=sorted(known))


def _digestible(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their digest in place of what is long: a picture is there once, and not in four more forms."""
    return {name: _digest(value) for name, value in fields.items()}


def _digest(value: Any) -> Any:
    if isinstance(value, str) and len(value) > DIGEST_FROM:
        value = value.encode("utf-8", "surrogatepass")
    return {"sha256": hashlib.sha256(value).hexdigest()} if isinstance(value, bytes) else value


def idempotency_key(request: Request) -> str | None:
    """The caller's Idempotency-Key. Raises BadRequest for what can be none."""
    headers = request.headers.getlist("idempotency-key")
    if len(headers) > 1:
        raise BadRequest("a request has one Idempotency-Key; this one has several")
    try:
        return idempotency.parse_key(headers[0]) if headers else None
    except idempotency.InvalidKeyError as error:
        raise BadRequest(str(error)) from None
