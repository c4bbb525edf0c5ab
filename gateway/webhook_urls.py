"""The form of a webhook's address. Pure; where it leads is checked when the connection is made (outbound.py)."""

from __future__ import annotations

from urllib.parse import urlsplit

URL_LENGTH_MAX = 2000


class WebhookError(ValueError):
    """An endpoint that cannot be: the sentence says why."""


def check_url(url: str) -> None:
    """Whether a target has the form of one; where it leads is checked when the connection is made."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise WebhookError("this is not a URL") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname or len(url) > URL_LENGTH_MAX:
        raise WebhookError(f"a webhook is an https URL of at most {URL_LENGTH_MAX} characters")
    if parts.username is not None or parts.password is not None:
        raise WebhookError("a webhook's URL carries no user name and no password; receivers check the signature")
