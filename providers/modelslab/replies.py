"""Read a ModelsLab reply body: every spelling and type the vendor is known to use, bounded, and free of the key.

The vendor says success, processing, failed or error inside a body of any HTTP status; spells `message` also `messege`
and may put an object or a list there, or nothing; sends `output` as a list or as ""; `eta` as an integer or a float;
`id` as a number or as text (WIRE 2.4, trap 18). Nothing here raises for what a body may hold.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from providers.contract import InlineFile, Json, RemoteFile, Report, ResultFile
from providers.transport import Reply, retry_after_s

MESSAGE_LENGTH_MAX = 300
STATE_LENGTH_MAX = 40
URL_LENGTH_MAX = 4096
MODEL_LENGTH_MAX = 200
FILES_MAX = 16
# Where a reply may say what is wrong; the first that says anything counts.
MESSAGE_FIELDS = ("message", "messege", "error")
WAIT_MAX_S = 7 * 86_400.0
INTEGER_MAX = 2**63 - 1
# Shorter text in `output` that happens to be base64 is a word, not a clip.
INLINE_BYTES_MIN = 128
# Ids go into a path and into the token, so that only what cannot change either is an id.
ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
LINK = re.compile(r"https?://[^\s\"<>\\]+", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Body:
    """A reply body as far as it could be read. `state` is the vendor's own status word, "" where there is none."""

    state: str
    message: str
    invalid_fields: bool
    id: str | None
    files: tuple[ResultFile, ...]
    eta_s: float | None
    retry_after_s: float | None
    report: Report


def read_body(reply: Reply, secret: str, now: float | None = None) -> Body:
    """Read a reply, with every occurrence of the secret taken out of its texts.

    When to come again stands in the body; a Retry-After, which the vendor never sends, is a proxy's.
    """
    fields = reply.object()
    said = next((fields[name] for name in MESSAGE_FIELDS if _message(fields.get(name))), None)
    meta = fields.get("meta")
    wait_s = seconds(fields.get("retry_after"))
    identity = read_id(fields.get("id"))
    if identity is not None and secret in identity:
        identity = None
    return Body(
        state=scrub(_text(fields.get("status")), secret).lower()[:STATE_LENGTH_MAX],
        message=scrub(_message(said), secret)[:MESSAGE_LENGTH_MAX],
        invalid_fields=isinstance(said, dict) and said is not fields.get("error"),
        id=identity,
        files=_files(fields),
        eta_s=seconds(fields.get("eta")),
        retry_after_s=retry_after_s(reply, now) if wait_s is None else wait_s,
        report=_report(identity, fields, meta if isinstance(meta, dict) else {}, secret),
    )


def read_id(value: Json) -> str | None:
    """A request id as text, whether it came as a number or as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, int) and not 0 <= value <= INTEGER_MAX:
        return None
    text = str(value)
    return text if ID.fullmatch(text) else None


def seconds(value: Json) -> float | None:
    """A duration in seconds between 0 and a week, from a number or a text of digits."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= WAIT_MAX_S:
        return None
    return float(value)


def scrub(text: str, secret: str) -> str:
    """The text without the secret."""
    return text.replace(secret, "[key]") if secret else text


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _message(said: Json) -> str:
    """The message as one line; an object of field to list of texts is what validation answers (WIRE 2.4)."""
    if isinstance(said, list):
        return "; ".join(text for entry in said[:FILES_MAX] if (text := _text(entry)))
    if isinstance(said, dict):
        return "; ".join(f"{name}: {_first(texts)}" for name, texts in list(said.items())[:FILES_MAX])
    return _text(said)


def _first(value: Json) -> str:
    return _text(value[0]) if isinstance(value, list) and value else _text(value)


def _files(fields: dict[str, Json]) -> tuple[ResultFile, ...]:
    """The delivered files; `future_links` are addresses of what may come and are never among them (trap 19)."""
    for name in ("output", "proxy_links"):
        value = fields.get(name)
        entries = value if isinstance(value, list) else [value]
        files = tuple(_read_files(entries[:FILES_MAX]))
        if files:
            return files
    return ()


def _read_files(entries: Iterable[Json]) -> Iterable[ResultFile]:
    for entry in entries:
        text = _text(entry)
        if len(text) <= URL_LENGTH_MAX and LINK.fullmatch(text):
            yield RemoteFile(text)
        elif len(data := _decoded(text)) >= INLINE_BYTES_MIN:
            yield InlineFile(data)


def _decoded(text: str) -> bytes:
    """The bytes of base64, with or without a data prefix; empty where it is none."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _report(identity: str | None, fields: dict[str, Json], meta: dict[str, Json], secret: str) -> Report:
    """What the vendor said besides the result; it never says what it charged (trap 35)."""
    seed = meta.get("seed")
    drawn = seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= INTEGER_MAX else None
    model = scrub(_text(meta.get("model_id")), secret)[:MODEL_LENGTH_MAX]
    return Report(
        request_id=identity, seed=drawn, model=model or None, inference_s=seconds(fields.get("generationTime"))
    )
