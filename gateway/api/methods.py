"""What an address says to methods that no handler takes: OPTIONS is told which it takes, every other one is 405."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.problems import MethodNotAllowed


class OtherMethods:
    """The end of an address, after its handlers: an ASGI application, for it takes any method."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.allow = ", ".join(sorted({*taken, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method != "OPTIONS":
            said = f"{request.method} {request.url.path}: this path takes {self.allow}"
            raise MethodNotAllowed(said, headers={"Allow": self.allow})
        await Response(status_code=204, headers={"Allow": self.allow})(scope, receive, send)


def with_other_methods(routes: Sequence[Route]) -> list[Route]:
    """The routes, and after them one for each address that answers what they leave over."""
    taken: dict[str, set[str]] = {}
    for route in routes:
        taken.setdefault(route.path, set()).update(route.methods or ())
    return [*routes, *(Route(path, OtherMethods(methods)) for path, methods in taken.items())]
