"""An operation of the API as data, and how it is written in OpenAPI. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway import problems
from gateway.api.deprecation import deprecation_of
from gateway.api.pages import PAGE_MAX, PAGE_USUAL
from gateway.problems import Problem
from gateway.scopes import NEEDED

Json = dict[str, Any]
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
# What any operation may answer with, and what every one that wants a key may answer with besides.
ANYWHERE: tuple[type[Problem], ...] = (
    problems.InternalError,
    problems.Unavailable,
    problems.TemporaryReducedCapacity,
)
WITH_KEY: tuple[type[Problem], ...] = (
    problems.BadRequest,
    problems.Unauthorized,
    problems.MissingScope,
    problems.QuotaExceeded,
)
SCHEMES: Mapping[str, Json] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
TEXT: Json = {"type": "string"}
# Of every reply to a caller to whom a limit applies.
LIMIT_HEADERS: Mapping[str, Json] = {
    "RateLimit-Policy": {"schema": TEXT, "description": "The limits that apply: a list of quotas with their windows."},
    "RateLimit": {"schema": TEXT, "description": "What is left of each, and in how many seconds that changes."},
}
# Headers that a problem of a status has always.
PROBLEM_HEADERS: Mapping[int, Mapping[str, Json]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": TEXT, "description": "How to give a key."}},
    416: {"Content-Range": {"required": True, "schema": TEXT, "description": "`bytes */size`: how long the file is."}},
    429: {"Retry-After": {"required": True, "schema": TEXT, "description": "Seconds after which there is room again."}},
    503: {"Retry-After": {"schema": TEXT, "description": "Seconds after which to ask again, where that is known."}},
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A success: what it means, its schema by media type, its headers and links by name."""

    description: str
    content: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, Json] = field(default_factory=dict)
    links: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `problems` are those beside what every operation may answer with.

    `id` is its name for generated clients, and under which examples.json has its examples.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    replies: Mapping[int, Reply]
    problems: tuple[type[Problem], ...] = ()
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    description: str = ""

    @property
    def needs_key(self) -> bool:
        """Whether it is for callers with a key alone (gateway/scopes.py)."""
        return self.path in NEEDED

    def to_json(self, examples: Mapping[str, Any]) -> Json:
        """The operation object of the document."""
        shown: Json = {"operationId": self.id, "tags": [self.tag], "summary": self.summary}
        if self.description:
            shown["description"] = self.description
        if deprecation_of(self.method.upper(), self.path) is not None:
            shown["deprecated"] = True
        scopes = [NEEDED[self.path]] if self.needs_key else []
        shown["security"] = [{scheme: scopes} for scheme in SCHEMES] if scopes else []
        if self.parameters:
            shown["parameters"] = list(self.parameters)
        if self.body is not None:
            shown["requestBody"] = _with_examples(self.body, examples.get("request", {}))
        replies = {str(status): self._reply(status, reply, examples) for status, reply in self.replies.items()}
        return shown | {"responses": replies | self._problems()}

    def _reply(self, status: int, reply: Reply, examples: Mapping[str, Any]) -> Json:
        shown: Json = {"description": reply.description}
        headers = {**reply.headers, **(LIMIT_HEADERS if self.needs_key else {})}
        for name, said in (("headers", headers), ("links", reply.links)):
            if said:
                shown[name] = dict(said)
        if reply.content:
            shown["content"] = dict(reply.content)
        return _with_examples(shown, examples.get(str(status), {}))

    def _problems(self) -> Json:
        """Each status with the problems that may have it; one that is a success too needs no second entry."""
        by_status: dict[int, list[type[Problem]]] = {}
        for kind in (*self.problems, *(WITH_KEY if self.needs_key else ()), *ANYWHERE):
            if kind.status not in self.replies and kind not in by_status.setdefault(kind.status, []):
                by_status[kind.status].append(kind)
        of_limits = LIMIT_HEADERS if self.needs_key else {}
        refused = {status: kinds for status, kinds in sorted(by_status.items()) if kinds}
        return {str(status): _refused(status, kinds, of_limits) for status, kinds in refused.items()}


def _refused(status: int, kinds: Iterable[type[Problem]], of_limits: Mapping[str, Json]) -> Json:
    said = "; ".join(f"{kind.title} (`{kind.slug}`)" for kind in kinds)
    headers = {**PROBLEM_HEADERS.get(status, {}), **(of_limits if status != 401 else {})}
    return {"description": f"{said}.", "content": PROBLEM} | ({"headers": headers} if headers else {})


def _with_examples(shown: Json, examples: Mapping[str, Any]) -> Json:
    """A body with its examples by media type, each a table of named values."""
    if not examples:
        return shown
    content = {
        kind: media | ({"examples": {name: {"value": value} for name, value in named.items()}} if named else {})
        for kind, media in shown["content"].items()
        for named in (examples.get(kind, {}),)
    }
    return {**shown, "content": content}


def example_at(address: str, summary: str = "") -> Json:
    """The examples of a media object whose literal one is too long for JSON, or no text: where it is served."""
    return {"examples": {"usual": {"externalValue": address} | ({"summary": summary} if summary else {})}}


def json_of(name: str) -> Mapping[str, Json]:
    """JSON content of a named schema."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def parameter(place: str, name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    """A parameter of the path, the query or the header."""
    return {"name": name, "in": place, "required": required, "schema": schema, "description": description}


def paging(usual: int) -> tuple[Json, ...]:
    """How a list is asked for: so many rows, from a cursor on."""
    limit = {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": usual}
    said = "The `next_cursor` of the page before, as it was given."
    return parameter("query", "limit", limit, "Page size."), parameter("query", "cursor", TEXT, said)


PAGING, LONG_PAGING = paging(PAGE_USUAL), paging(PAGE_MAX)
BEFORE = parameter("query", "before", TEXT, "Instead of a cursor: the last id of the page before (`next_before`).")
NEXT: Mapping[str, Json] = {"Link": {"schema": TEXT, "description": '`rel="next"`: the next page, if there is one.'}}
