"""What nobody may read in a log, taken out of every line on its way there, whoever wrote it.

Two nets, for two kinds of secrets. Those of the configuration are known by their value and are found wherever a
library prints them: in a header, a body, an error. Those that come and go (a caller's key, a webhook's secret, a link
that carries its own permission) are known by their form. A result's address is a bearer secret, so that of every
address only the host is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

HIDDEN = "[redacted]"
# What is shorter would be found in innocent words.
LENGTH_MIN = 6
# What a line must hold for a form to be looked for, the form, and what stands in its place. Each is linear in the line.
FORMS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    (("vg_",), re.compile(r"\bvg_[A-Za-z0-9_-]{16,}"), f"vg_{HIDDEN}"),
    (("whsec_",), re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]{16,}"), f"whsec_{HIDDEN}"),
    (
        ("earer", "EARER", "asic", "ASIC"),
        re.compile(r"(?i)\b(bearer|basic)[ +][^\s\"',;\\]{8,}"),
        rf"\1 {HIDDEN}",
    ),
    (("@",), re.compile(r"://[^/\s@\"'<>\\]+@"), f"://{HIDDEN}@"),
    (("://",), re.compile(r"(https?://[^/\s\"'<>\\?#]+)[/?#][^\s\"'<>\\]+"), rf"\1/{HIDDEN}"),
    (("/callbacks/",), re.compile(r"(/callbacks/[^/\s\"'<>\\]+)/[^\s\"'<>\\]+"), rf"\1/{HIDDEN}"),
    (
        ("ignature=", "IGNATURE=", "oken=", "OKEN="),
        re.compile(r"(?i)\b(signature|token)=[^\s\"'<>\\&]{8,}"),
        rf"\1={HIDDEN}",
    ),
    (("/inputs/",), re.compile(r"(/inputs/[^/?\s\"'<>\\]+)\?[^\s\"'<>\\]+"), rf"\1?{HIDDEN}"),
)
_known: list[str] = []


def learn(*sections: BaseModel) -> None:
    """Know the secrets of these settings from now on, in every log of the process."""
    found = {spelling for section in sections for secret in _secrets(section) for spelling in _spellings(secret)}
    # The longest first: one secret may be a part of another.
    _known[:] = sorted(found.union(_known), key=len, reverse=True)


def redacted(text: str) -> str:
    """The text without secrets."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    for needles, form, instead in FORMS:
        if any(needle in text for needle in needles):
            text = form.sub(instead, text)
    return text


def _secrets(value: Any) -> Iterator[str]:
    """Every secret in settings: what is typed as one, what stands in an address, and headers one by one."""
    match value:
        case SecretStr():
            yield value.get_secret_value()
            yield from (part for part in re.split(r"[,=]", value.get_secret_value()) if "=" in value.get_secret_value())
        case BaseModel():
            for name in type(value).model_fields:
                yield from _secrets(getattr(value, name))
        case Mapping():
            for one in value.values():
                yield from _secrets(one)
        case str() if "://" in value and "@" in value:
            yield urlsplit(value).password or ""
        case list() | tuple():
            for one in value:
                yield from _secrets(one)


def _spellings(secret: str) -> Iterable[str]:
    """A secret as libraries print it: as it is, percent-encoded either way, in Python's quotes, any of it in JSON."""
    plain = {secret, unquote(secret)}
    written = plain | {quote(one, safe="") for one in plain}
    written |= {repr(one)[1:-1] for one in plain} | {repr(one.encode())[2:-1] for one in plain}
    written |= {json.dumps(one)[1:-1] for one in written}
    return {one for one in written if len(one) >= LENGTH_MIN}
