"""What an operator says of a server and its models: the section `openai_videos` of the configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from providers.contract import ProviderSettings

FieldName = Literal["prompt", "negative_prompt", "num_frames", "fps", "seed", "num_inference_steps", "width", "height"]
FIELDS: tuple[FieldName, ...] = (
    *("prompt", "negative_prompt", "num_frames", "fps", "seed"),
    *("num_inference_steps", "width", "height"),
)


class Model(BaseModel):
    """One model of the server, as a route.

    `model` is sent as the model's name; empty sends none, for servers that have just one. `parameters` are those that
    this model takes; what is not among them cannot be honoured. `prompt` is what goes for a caller who wrote none.
    `num_frames` and `fps` name the values that the model takes; none named: any. Sizes are up to `side_max` pixels in
    multiples of `side_multiple`. `steps` is the usual number of steps, `seconds` what a clip usually takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="", max_length=200)
    parameters: tuple[FieldName, ...] = FIELDS
    prompt: str = Field(default="the scene of this picture, in motion", min_length=1, max_length=2000)
    num_frames: tuple[int, ...] = ()
    fps: tuple[int, ...] = ()
    side_max: int = Field(default=1280, ge=64, le=4096)
    side_multiple: int = Field(default=16, ge=1, le=256)
    steps: int = Field(default=30, ge=1, le=100)
    seconds: float = Field(default=60.0, gt=0, le=86_400)

    @field_validator("num_frames")
    @classmethod
    def _frames(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return _within(values, 25)

    @field_validator("fps")
    @classmethod
    def _rates(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return _within(values, 60)


def _within(values: tuple[int, ...], most: int) -> tuple[int, ...]:
    if any(not 1 <= value <= most for value in values):
        raise ValueError(f"must be numbers from 1 to {most}")
    return values


class Settings(ProviderSettings):
    """One server that speaks OpenAI's `/v1/videos`.

    `base_url` is its address without `/v1/videos`. `models` are the routes, by the second half of their names; each
    needs a price in the price book. `lost_submit` says what a submit costs whose reply was lost: nothing on machines of
    your own, `may_bill` at a service that bills. `delete_stops` says that a DELETE really stops a render (vLLM-Omni);
    without it a canceled job runs to its end.
    """

    base_url: str
    api_key: SecretStr | None = None
    models: Mapping[str, Model] = Field(default_factory=lambda: {"i2v": Model()})
    lost_submit: Literal["free", "may_bill"] = "free"
    delete_stops: bool = False

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("must be an address that starts with https:// or http://")
        return value.rstrip("/").removesuffix("/videos").removesuffix("/v1")

    @field_validator("models")
    @classmethod
    def _named(cls, models: Mapping[str, Model]) -> Mapping[str, Model]:
        wrong = [name for name in models if not name or not name.replace("-", "").replace(".", "").isalnum()]
        if not models or wrong:
            raise ValueError(f"needs at least one model; names are letters, digits, - and . ({', '.join(wrong)})")
        return models
