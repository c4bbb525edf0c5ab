"""ModelsLab: image to video over submit, fetch and webhook (S3)."""

from __future__ import annotations

from providers.contract import ProviderPlugin
from providers.modelslab.adapter import build
from providers.modelslab.catalogue import CATALOGUE
from providers.modelslab.settings import Settings
from providers.modelslab.simulator import simulator, simulator_settings

PLUGIN = ProviderPlugin(
    name="modelslab",
    settings=Settings,
    catalogue=CATALOGUE,
    build=build,
    simulator=simulator,
    simulator_settings=simulator_settings,
)

__all__ = ["PLUGIN"]
