"""What is known of a request that was sent and whose reply was lost."""

from __future__ import annotations

from typing import Any

from providers.contract import RenderRequest, SentAttempt


def sent_of(request: RenderRequest, **facts: Any) -> SentAttempt:
    """The attempt that this request was sent for."""
    return SentAttempt(request.route, request.attempt_id, request.parameters, **facts)
