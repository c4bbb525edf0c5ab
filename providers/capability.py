"""What a route can do, as data: one row a parameter, from which eligibility, receipts, docs and schema come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from providers.vocabulary import Media, Scalar

ImageForm = Literal["bytes", "base64", "data_uri", "url"]
ImageGiven = Literal["file", "base64", "data_uri", "link"]
WireType = Literal["as_is", "string", "integer", "number", "boolean", "yes_no"]
HonouredBy = Literal["vendor", "model", "gateway"]
AmbiguousBilling = Literal["success_only", "may_bill", "free"]


@dataclass(frozen=True, slots=True)
class Capability:
    """One parameter as one route takes it.

    `wire` is the vendor's own name; None means that no field travels, because the model does just this
    (`by="model"`) or because vidgate does it itself (`by="gateway"`). `minimum`, `maximum` and `allowed` narrow the
    canonical range. `spelling` maps a canonical value to the vendor's. `required` marks a parameter without a neutral
    value: a route is eligible only for a caller who wrote it. `default` replaces the canonical default where the route
    cannot take it or where the canonical one is to send nothing. `source` names the vendor fact.
    """

    parameter: str
    wire: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[Scalar, ...] = ()
    spelling: Mapping[Scalar, Scalar] = field(default_factory=dict)
    wire_type: WireType = "as_is"
    by: HonouredBy = "vendor"
    required: bool = False
    default: Scalar | None = None
    affects_price: bool = False
    note: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """The sizes a route can be asked for: a box in pixels and the multiple that width and height must have."""

    width_max: int
    height_max: int
    multiple: int


@dataclass(frozen=True, slots=True)
class Route:
    """One way to get a request made: provider, model and transport.

    `name` is `<provider>/<slug>`. `model` is what a reply must report to count as delivered as ordered.
    `latency_nominal_s` is the vendor's published mean time to a finished result. `resumable` says that an accepted
    attempt can be picked up from its token by any process. `ambiguous_billing` says what a submit whose reply was lost
    costs: `success_only` (only a delivered success is billed), `may_bill`, or `free`. `image_forms` lists the ways to
    hand over the picture, best first; `image_name` is the vendor's name for it. `preview` routes are taken only when
    they are asked for by name. `record_ttl_s` is how long the vendor still answers for a finished job. `lacks` says of
    parameters without a row why the route cannot have them, where the reason is worth telling.
    """

    name: str
    provider: str
    media: Media
    model: str
    capabilities: tuple[Capability, ...]
    image_forms: tuple[ImageForm, ...]
    mode: Literal["sync", "async", "local"]
    latency_nominal_s: float
    resumable: bool
    ambiguous_billing: AmbiguousBilling
    summary: str
    concurrency_max: int | None = None
    requests_per_minute: int | None = None
    record_ttl_s: float | None = None
    size: SizeRule | None = None
    preview: bool = False
    image_name: str = "image"
    lacks: Mapping[str, str] = field(default_factory=dict)

    def capability(self, parameter: str) -> Capability | None:
        """The row for a canonical parameter, or None when the route has no such control."""
        return next((row for row in self.capabilities if row.parameter == parameter), None)


# Every route delivers through vidgate, which converts and hands out the result itself.
DELIVERED_BY_GATEWAY = (
    Capability("output_format", by="gateway", note="vidgate converts the delivered file"),
    Capability("output", by="gateway", note="vidgate hands out the stored file"),
)
