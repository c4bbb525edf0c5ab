"""Check a request body as the vendor documents it (WIRE 2.3): a table of ranges and sets, and the refusals."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from providers.modelslab.simulator.switches import ModelsLabSwitches

MODEL = "svd"
SIZE_MULTIPLE = 8


class RefusalError(Exception):
    """The vendor says no: an HTTP status, a message and, for validation, the field it is about."""

    def __init__(self, status: int, message: str, *, about: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.about = about
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Range:
    """A number: its bounds, whether it is whole, and what the vendor takes where it is not given."""

    default: float | None
    minimum: float | None = None
    maximum: float | None = None
    whole: bool = True


NUMBERS: Mapping[str, Range] = {
    "height": Range(512, 8, 512),
    "width": Range(512, 8, 512),
    "num_frames": Range(16, 1, 25),
    "num_inference_steps": Range(20, 1, 50),
    "min_guidance_scale": Range(1.0, 1, 8, whole=False),
    "max_guidance_scale": Range(3.0, 1, 8, whole=False),
    "motion_bucket_id": Range(127),
    "noise_aug_strength": Range(0.02, 0, 1, whole=False),  # U13: no default is stated
    "fps": Range(7, 1, 16),  # U13: the vendor's example reply says 7
    "clip_skip": Range(None, None, 2),
}

# The enterprise page differs (WIRE 2.3).
ENTERPRISE_NUMBERS: Mapping[str, Range] = {
    **NUMBERS,
    "min_guidance_scale": Range(0.0, 0, 8, whole=False),
    "max_guidance_scale": Range(8.0, 0, 8, whole=False),
    "noise_aug_strength": Range(0.5, 0, 1, whole=False),
    "fps": Range(8, 1, 16),
}

CHOICES: Mapping[str, tuple[str, ...]] = {
    "enhance_prompt": ("yes", "no"),
    "latent_interpolation_method": ("lerp", "slerp"),
}


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was found good. `numbers` holds every number of the table; `meta` is what is echoed."""

    model: str
    init_image: str
    output_type: str
    instant: bool
    temporary: bool
    numbers: Mapping[str, float | None]
    meta: Mapping[str, object] = field(default_factory=dict)
    webhook: str | None = None
    track_id: object = None
    enterprise: bool = False


def read_order(fields: Mapping[str, object], switches: ModelsLabSwitches, *, enterprise: bool) -> Order:
    """Check the fields of an image-to-video request. Raises RefusalError."""
    if switches.refusal_text:
        raise RefusalError(200, switches.refusal_text)
    for name in ("model_id", "init_image"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise RefusalError(400, f"{name} is required", about=name)
    ranges = ENTERPRISE_NUMBERS if enterprise else NUMBERS
    numbers = {name: _number(name, fields.get(name), row, switches) for name, row in ranges.items()}
    _check_choices(fields)
    default_type = "mp4" if enterprise else switches.default_output_type
    output_type = str(fields.get("output_type") or default_type)
    if output_type not in (("mp4", "gif", "base64") if enterprise else ("mp4", "gif")):
        raise RefusalError(400, "output_type must be mp4 or gif", about="output_type")
    temporary, instant = _truth(fields.get("temp")), _truth(fields.get("instant_response"))
    model = _model(str(fields["model_id"]), switches, enterprise=enterprise)
    return Order(
        model=model,
        init_image=str(fields["init_image"]),
        output_type=output_type,
        instant=instant,
        temporary=temporary,
        numbers=numbers,
        meta={
            **{name: value for name, value in numbers.items() if value is not None},
            **{name: fields[name] for name in ("prompt", "negative_prompt", *CHOICES) if fields.get(name)},
            "init_image": str(fields["init_image"])[:2000],
            "instant_response": _yes_no(instant),
            "model_id": model,
            "temp": _yes_no(temporary),
        },
        webhook=_webhook(fields.get("webhook"), switches),
        track_id=_track_id(fields.get("track_id"), switches),
        enterprise=enterprise,
    )


def _number(name: str, value: object, row: Range, switches: ModelsLabSwitches) -> float | None:
    if value is None:
        return row.default
    try:
        number = float(str(value))
    except ValueError:
        raise RefusalError(400, f"{name} must be a number", about=name) from None
    if isinstance(value, bool) or not abs(number) < 1e15 or (row.whole and number != int(number)):
        raise RefusalError(400, f"{name} must be {'an integer' if row.whole else 'a number'}", about=name)
    if switches.enforce_ranges:
        _check_range(name, number, row)
    return int(number) if row.whole else number


def _check_range(name: str, number: float, row: Range) -> None:
    low = row.minimum if row.minimum is not None else number
    high = row.maximum if row.maximum is not None else number
    if not low <= number <= high:
        raise RefusalError(400, f"{name} must be between {low:g} and {high:g}", about=name)
    if name in {"width", "height"} and number % SIZE_MULTIPLE:
        raise RefusalError(400, f"{name} must be divisible by {SIZE_MULTIPLE}", about=name)


def _check_choices(fields: Mapping[str, object]) -> None:
    for name, allowed in CHOICES.items():
        if fields.get(name) is not None and fields[name] not in allowed:
            raise RefusalError(400, f"{name} must be one of {', '.join(allowed)}", about=name)


def _model(asked: str, switches: ModelsLabSwitches, *, enterprise: bool) -> str:
    """The model that really runs (trap 20): the public API may put another in place of any."""
    if switches.substitute_model and not enterprise:
        return switches.substitute_model
    if asked != MODEL:
        raise RefusalError(400, f"Model not found: {asked[:100]}")
    return asked


def _track_id(value: object, switches: ModelsLabSwitches) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if switches.track_id == "integer" and value is not None and not whole:
        raise RefusalError(400, "track_id must be an integer", about="track_id")
    return value


def _webhook(value: object, switches: ModelsLabSwitches) -> str | None:
    """The callback address: HTTPS, or an address of this machine, which no vendor could reach but a simulator can."""
    if not value:
        return None
    parts = urlsplit(str(value))
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
    if parts.scheme not in {"http", "https"} or (switches.webhook_https_only and not secure):
        raise RefusalError(400, "webhook must be an https URL", about="webhook")
    return str(value)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _truth(value: object) -> bool:
    return value is True or str(value).lower() in {"true", "yes", "1"}


def _yes_no(value: bool) -> str:
    """Booleans come back as words (trap 27)."""
    return "yes" if value else "no"
