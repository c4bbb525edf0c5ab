"""Cost-centre tags: the few short texts of a request's metadata by which a bill can be split."""

from __future__ import annotations

import json
from collections.abc import Mapping

TAGS_MAX = 16
NAME_LENGTH_MAX = 64
VALUE_LENGTH_MAX = 256

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags as canonical JSON; raise ValueError for too many, too long or other than text."""
    if len(tags) > TAGS_MAX:
        raise ValueError(f"at most {TAGS_MAX} tags, not {len(tags)}")
    for name, value in tags.items():
        if len(name) > NAME_LENGTH_MAX or len(value) > VALUE_LENGTH_MAX:
            raise ValueError(f"tag {name[:NAME_LENGTH_MAX]!r} is too long")
    return _CANONICAL.encode(dict(tags))


def tags_from(text: str) -> dict[str, str]:
    """The tags that `tags_text` wrote."""
    tags: dict[str, str] = json.loads(text)
    return tags
