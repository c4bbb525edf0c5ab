"""Small JSON bodies as pydantic models: what is wrong in one is a problem that names the member."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from gateway.api.auth import hold_of
from gateway.api.reading import BodyLimits, parse_json, read_body
from gateway.problems import InvalidParameter, UnknownField, UnsupportedMediaType

BODY_LIMITS = BodyLimits(64 * 1024, grace_s=15.0, bytes_per_s_min=32 * 1024)


class Body(BaseModel):
    """A body that has no members but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Kind = TypeVar("Kind", bound=Body)


async def read_model(request: Request, kind: type[Kind]) -> Kind:
    """The body as this kind; none at all is an empty one. Raises the problem that names the member at fault."""
    body = await read_body(request, BODY_LIMITS)
    hold_of(request).check()  # its key may have ended while the body came
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        raise UnsupportedMediaType("send application/json", got=media_type or None)
    given = parse_json(body) if body else {}
    try:
        return kind.model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            raise UnknownField(f"there is no field {where!r}; there are: {known}", field=where) from None
        raise InvalidParameter(f"{where}: {first['msg']}", parameter=where) from None
