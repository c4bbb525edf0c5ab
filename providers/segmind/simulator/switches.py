"""Everything about the simulated vendor that can be set while it runs; each unknown of WIRE 8 is a switch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, NonNegativeInt, ValidationInfo, field_validator

from providers.segmind.simulator.models import MODELS
from providers.simulation import Latency, Switches, refuse_braces, refuse_unknown

SANDBOX_KEY = "SG_5a4db0c0ffee0000"
RateResetFormat = Literal["iso", "unix_s", "unix_ms", "http_date"]


# The vendor's published means (WIRE 1.8).
PRICES_MICROS: Mapping[str, int] = {"svd": 165_900, "motionctrl-svd": 89_300, "ssd-img2img": 3_310}
LATENCY: Mapping[str, Latency] = {
    "svd": Latency(kind="lognormal", mean_s=29.63),
    "motionctrl-svd": Latency(kind="lognormal", mean_s=62.74),
    "ssd-img2img": Latency(kind="lognormal", mean_s=4.0),
}
ENDPOINTS = tuple(f"{version}/{slug}" for version in ("v1", "v2") for slug in MODELS)
V = TypeVar("V")


class SegmindSwitches(Switches):
    """Settings of the simulated vendor; the defaults are what the vendor documents. Money is micro-USD.

    Account: `api_keys`; `credits_micros` and `free_credits_micros` are what was ever granted, charges come off;
    `credit_record` false makes the credit page answer 404; `spend_cap_reached` refuses with the team's cap (406);
    `auth_envelope` is the form of 401, 403 and 429: the gateway's, or that of the page on authentication (WIRE 1.6).
    Models: `retired` (410) and `forbidden` (403) name slugs; `prices_micros` and `latency` keep the published means of
    models that they do not name; `latency` and `queue` are real seconds before `speed`. Failures: `failure_rate` and
    `moderation_rate` are probabilities from 0 to 1 that a run fails with the text beside them.
    """

    api_keys: tuple[str, ...] = (SANDBOX_KEY,)
    credits_micros: int = 100_000_000
    free_credits_micros: int = 1_000_000
    credit_record: bool = True
    spend_cap_reached: bool = False
    auth_envelope: Literal["gateway", "auth"] = "gateway"
    retired: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    prices_micros: Mapping[str, NonNegativeInt] = Field(default_factory=lambda: PRICES_MICROS)
    latency: Mapping[str, Latency] = Field(default_factory=lambda: LATENCY)
    queue: Latency = Latency(kind="constant", mean_s=0.4)
    failure_rate: float = Field(default=0.0, ge=0, le=1)
    failure_text: str = "Inference failed: the worker ran out of memory"
    moderation_rate: float = Field(default=0.0, ge=0, le=1)
    moderation_text: str = "The input image was flagged as NSFW"
    record_ttl_s: float = Field(default=3_600.0, gt=0)
    file_ttl_s: float = Field(default=7 * 86_400.0, gt=0)
    long_side_px: int = Field(default=1024, ge=64, le=2048)

    # U1: the file that comes back, and what the v1 reply calls it.
    container: Literal["mp4", "gif", "webp"] = "mp4"
    v1_content_type: str = Field(default="video/mp4", pattern=r"^[ -~]+$")
    # U2: the form of a v1 reply, also for several samples, the key of inline results, whether `base64: true` does
    # anything on v2, and what /v1/svd does without a `base64` (true by S0, false by S2: trap 8).
    v1_reply: Literal["bytes", "json_url", "json_base64", "json_empty"] = "bytes"
    v1_samples_reply: Literal["links", "base64", "first"] = "links"
    v1_base64_key: str = "image"
    v1_svd_base64_default: bool = False
    v2_base64_inline: bool = False
    # U3: how the reset of the rate limit is written, and whether the x- headers come on errors too.
    rate_reset_format: RateResetFormat = "iso"
    error_headers: bool = False
    # U4: when the gateway gives up on a v1 call (504), and whether that run, or one answered 502 or 504, is billed.
    v1_cutoff_s: float | None = Field(default=None, ge=0)
    bill_gateway_errors: bool = False
    # U5: what happens to a number outside its range, to a body without the fields that MotionCtrl's page calls required
    # although they have defaults (trap 28); the wording of the refusals of a value outside its set and for credit.
    out_of_range: Literal["500", "406", "clamp"] = "500"
    required_enforced: bool = True
    enum_text: str = "{field} must be one of: {choices}"
    credit_text: str = "Insufficient credits. Balance: {balance}, required: {price}"
    # U6: whether v2 checks a body at submit or fails the run later, and which fields a v2 result has.
    v2_validation: Literal["late", "submit"] = "late"
    v2_video_object: bool = True
    v2_seed: bool = True
    v2_cost: bool = True
    # U7: the status of `poll_url` for a failed run.
    poll_url_failed_status: int = Field(default=422, ge=200, le=599)
    # U8: the limits really enforced; off, because two different tables are published.
    requests_per_minute: int | None = Field(default=None, ge=1)
    concurrency_max: int | None = Field(default=None, ge=1)
    # U9: whether fps and motion (samples and steps) change the price in proportion.
    price_follows_parameters: bool = False
    # U10: MotionCtrl's seed -1, whether a seed that was asked for is the one used and reported, the rate that
    # MotionCtrl's file is written at, and the largest picture taken.
    motionctrl_random_seed: bool = True
    honours_seed: bool = True
    motionctrl_playback_fps: int | None = Field(default=None, ge=1, le=60)
    picture_pixels_max: int = Field(default=50_000_000, ge=1)
    # U11: which addresses take base64, whether a data URI is taken, whether a link may redirect. Base64 is documented
    # for svd, MotionCtrl and SSD on v1 (S0, S4, the old page of S1), and v2 takes v1's body; S1 and S2 show links only.
    base64_taken_by: tuple[str, ...] = ENDPOINTS
    accepts_data_uri: bool = True
    follows_redirects: bool = False
    # The history's page is not described: the name of its list, how long a request takes to show, whether it answers.
    history_list_field: str = "data"
    history_lag_s: float = Field(default=0.0, ge=0)
    history_available: bool = True

    @field_validator("prices_micros", "latency")
    @classmethod
    def _of_every_model(cls, value: Mapping[str, V], info: ValidationInfo) -> Mapping[str, V]:
        for slug in value:
            refuse_unknown("model", slug, MODELS)
        published: Mapping[str, Any] = PRICES_MICROS if info.field_name == "prices_micros" else LATENCY
        return {**published, **value}

    @field_validator("base64_taken_by")
    @classmethod
    def _endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in value:
            refuse_unknown("address", endpoint, ENDPOINTS)
        return value

    @field_validator("retired", "forbidden")
    @classmethod
    def _models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for slug in value:
            refuse_unknown("model", slug, MODELS)
        return value

    @field_validator("credit_text")
    @classmethod
    def _credit_text(cls, value: str) -> str:
        refuse_braces(value, ("balance", "price"))
        return value

    @field_validator("enum_text")
    @classmethod
    def _enum_text(cls, value: str) -> str:
        refuse_braces(value, ("field", "choices"))
        return value
