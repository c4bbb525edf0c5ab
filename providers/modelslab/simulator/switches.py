"""The habits of the simulated vendor, each a switch; documented values are the defaults, assumptions are called so."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from providers.simulation import Latency, Switches

SANDBOX_KEY = "modelslab-sandbox-key"
DAY_S = 86_400.0


class ModelsLabSwitches(Switches):
    """Settings of the simulated ModelsLab that may change while it runs; money is micro-USD.

    `credit_micros` is what each key was ever given; what it was charged is taken off. `price_micros` is an assumption:
    the vendor names no price for this endpoint (WIRE 2.6, U14), 0.20 USD is what it asks for the newer model.
    `refusal_text` is what every submit is refused with, as HTTP 200 and `status: error` (WIRE 2.4), "" for none.
    `track_id` takes any value there or only an integer, as the page says (WIRE 2.3).
    `errors` answers with the documented HTTP codes or with 200 and `status: error` (WIRE 2.5). `workers` is how many
    renders of an account run at a time (one after another by the vendor's page on rate limits). `submit_wait_s` is how
    long a submit without `instant_response` waits for the result (U17, an assumption). `substitute_model` is the model
    that the public API runs in place of any other, "" for none (trap 20). `unknown_id` is how a fetch of an unknown or
    forgotten id is answered: recorded or documented. `record_ttl_s` and `file_ttl_s` are assumptions (U15).
    """

    keys: tuple[str, ...] = (SANDBOX_KEY,)
    credit_micros: int = 10_000_000
    price_micros: int = Field(default=200_000, ge=0)
    charge: Literal["submit", "success"] = "submit"
    refund_on_failed: bool = False
    queue_max: int = Field(default=5, ge=0)
    workers: int = Field(default=1, ge=1)
    latency: Latency = Latency(kind="lognormal", mean_s=8.49, sigma=0.35)
    retry_after_s: int = Field(default=30, ge=0)
    errors: Literal["http", "body"] = "http"
    message_field: Literal["message", "messege"] = "message"
    validation_message: Literal["text", "object"] = "text"
    refusal_text: str = ""
    track_id: Literal["any", "integer"] = "any"
    enforce_ranges: bool = True
    first_reply: Literal["as_asked", "processing", "success"] = "as_asked"
    submit_wait_s: float = Field(default=15.0, ge=0)
    empty_output: Literal["list", "text"] = "list"
    eta_form: Literal["integer", "float"] = "integer"
    id_form: Literal["integer", "text"] = "integer"
    fetch_meta: bool = True
    outcome: Literal["success", "failed", "error", "moderated"] = "success"
    unknown_id: Literal["recorded", "documented"] = "recorded"
    substitute_model: str = ""
    default_output_type: Literal["gif", "mp4"] = "gif"
    webhook: Literal["once", "twice", "never"] = "once"
    webhook_https_only: bool = True
    webhook_id_form: Literal["integer", "text"] = "integer"
    request_counts_per_minute: int = Field(default=30, ge=0)
    record_ttl_s: float = Field(default=7 * DAY_S, gt=0)
    file_ttl_s: float = Field(default=7 * DAY_S, gt=0)
    temporary_file_ttl_s: float = Field(default=DAY_S, gt=0)
    upload_ttl_s: float = Field(default=DAY_S, gt=0)
