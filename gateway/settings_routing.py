"""The settings of routing, and the section that all settings are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from policies.settings import RoutingSettings
from policies.values import Objective


class Section(BaseModel):
    """A part of the configuration: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightsSection(Section):
    """What the `balanced` objective minimises."""

    cost: float = Field(default=1, ge=0, le=1000, description="Weight of the expected cost.")
    time: float = Field(default=1, ge=0, le=1000, description="Weight of the time to the finished video.")
    failure: float = Field(default=1, ge=0, le=1000, description="Weight of the odds of failure.")


class ShadowSection(Section):
    """A second router that is asked the same and never obeyed."""

    objective: Objective | None = Field(
        default=None, description="Objective of the shadow; none: that of each request, so that only tuning differs."
    )
    weights: WeightsSection | None = Field(
        default=None, description="Weights of the shadow's `balanced`; none: those of each request."
    )
    tuning: RoutingSettings = Field(
        default_factory=RoutingSettings, description="Constants of the shadow's routing model."
    )


class RoutingSection(Section):
    """How a route is chosen when a request does not say."""

    objective: Objective = Field(
        default="default",
        description="`default` takes the cheapest route that meets the deadline with high probability; also "
        "`cheapest`, `fastest`, `balanced`.",
    )
    weights: WeightsSection = Field(default=WeightsSection(), description="Weights of `balanced`.")
    deadline_probability: float = Field(
        default=0.95, gt=0, lt=1, description="Odds of meeting the deadline that the default objective asks for."
    )
    value_micros: int = Field(
        default=1_000_000,
        ge=0,
        le=10**12,
        description="What a video in time is worth, micro-USD; the loss when there is none.",
    )
    late_fraction: float = Field(default=0.3, ge=0, le=1, description="Share of that value lost at once by being late.")
    preview: bool = Field(
        default=False, description="Whether preview routes may be chosen without being asked for by name."
    )
    tuning: RoutingSettings = Field(
        default_factory=RoutingSettings,
        description="Constants of the routing model, by name (policies/settings.py); leave alone unless measured.",
    )
    shadow: ShadowSection | None = Field(
        default=None,
        description="Rank every job a second time under these, record where the first choice differs, and do nothing.",
    )
