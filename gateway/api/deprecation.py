"""Operations that will go, as a table, and how their replies say so; docs/deprecation.md has the policy.

`Deprecation` (RFC 9745) says since when, `Sunset` (RFC 8594) until when, `Link` where it is told what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.responses import Response

POLICY = "https://vidgate.dev/deprecation"


@dataclass(frozen=True, slots=True)
class Deprecated:
    """Since when an operation is deprecated, when it goes (UTC), and what is to be used instead, if anything is."""

    since: datetime
    sunset: datetime
    successor: str | None = None

    def headers(self) -> dict[str, str]:
        """What every reply of the operation carries."""
        links = [f'<{POLICY}>; rel="deprecation"; type="text/html"']
        if self.successor is not None:
            links.append(f'<{self.successor}>; rel="successor-version"')
        return {
            "Deprecation": f"@{int(self.since.timestamp())}",
            "Sunset": format_datetime(self.sunset.astimezone(UTC), usegmt=True),
            "Link": ", ".join(links),
        }


# By method and template of the address, such as ("GET", "/jobs"). A HEAD is its GET.
DEPRECATED: Mapping[tuple[str, str], Deprecated] = {}


def deprecation_of(method: str, template: str) -> Deprecated | None:
    """The entry of an operation, if it has one."""
    return DEPRECATED.get(("GET" if method == "HEAD" else method, template))


def warned(method: str, template: str, response: Response) -> Response:
    """The reply with the three headers, where the operation is deprecated."""
    entry = deprecation_of(method, template)
    if entry is not None:
        others = response.headers.get("Link")
        headers = entry.headers()
        response.headers.update(headers | ({"Link": f"{others}, {headers['Link']}"} if others else {}))
    return response
