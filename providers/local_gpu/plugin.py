"""The team's own GPUs as the registry knows them: settings, routes, adapter and the simulated worker."""

from __future__ import annotations

from providers.contract import ProviderPlugin, Tools, chosen_routes
from providers.local_gpu.adapter import LocalGpu
from providers.local_gpu.catalogue import CATALOGUE, PROVIDER
from providers.local_gpu.settings import Settings
from providers.local_gpu.simulator import simulator, simulator_settings


def build(settings: Settings, tools: Tools) -> LocalGpu:
    """The workers of one configuration. Raises ValueError for a configured route that is not in the catalogue."""
    return LocalGpu(settings, chosen_routes(settings, CATALOGUE), tools)


PLUGIN = ProviderPlugin(
    name=PROVIDER,
    settings=Settings,
    catalogue=CATALOGUE,
    build=build,
    simulator=simulator,
    simulator_settings=simulator_settings,
)
