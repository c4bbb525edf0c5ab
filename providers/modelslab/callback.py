"""Read the vendor's webhook: unsigned, best effort, maybe repeated; a hint to look now and never a verdict."""

from __future__ import annotations

import json

from providers.modelslab.replies import read_id


def read_callback(body: bytes) -> str | None:
    """The id of the job that a webhook body speaks of, or None where it names none (WIRE 2.7)."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return read_id(value.get("id")) if isinstance(value, dict) else None
