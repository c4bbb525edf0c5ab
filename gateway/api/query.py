"""What may stand in the query of an address: what the description of the API says, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from gateway.config_errors import nearest
from gateway.problems import BadRequest

OF_AN_OBJECT = re.compile(r"(\w+)\[.{1,40}\]", re.DOTALL)
SHOWN_MAX = 80
Known = Mapping[str, Mapping[str, Any]]


def parameters_of(parameters: Iterable[Mapping[str, Any]]) -> Known:
    """The parameters of the query among those of an operation, by name."""
    return {one["name"]: one for one in parameters if one["in"] == "query"}


def check_query(request: Request) -> None:
    """Refuse a parameter that this address does not know, or that is there twice: it would be ignored in silence.

    Raises BadRequest with the nearest one. `request.state.query` has the known ones.
    """
    known: Known = request.state.query
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if not _is_known(name, known):
            about = nearest(name, known) if known else "this address takes none"
            raise BadRequest(f"there is no query parameter {name[:SHOWN_MAX]!r} here; {about}")
        if times > 1:
            raise BadRequest(f"the query parameter {name[:SHOWN_MAX]!r} is there {times} times; give it once")


def _is_known(name: str, known: Known) -> bool:
    """Whether a name is one of them, or a member of one that is an object, such as `metadata[project]`."""
    member = OF_AN_OBJECT.fullmatch(name)
    asked = known.get(member[1] if member else name)
    return asked is not None and (asked.get("style") == "deepObject") is (member is not None)
