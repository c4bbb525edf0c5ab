"""Servers of OpenAI's `/v1/videos` as the registry knows them."""

from __future__ import annotations

from providers.contract import ProviderPlugin
from providers.openai_videos.adapter import build
from providers.openai_videos.catalogue import CATALOGUE, PROVIDER, offered
from providers.openai_videos.settings import Settings
from providers.openai_videos.simulator import simulator, simulator_settings

PLUGIN = ProviderPlugin(
    name=PROVIDER,
    settings=Settings,
    catalogue=CATALOGUE,
    build=build,
    simulator=simulator,
    simulator_settings=simulator_settings,
    offered=offered,
)
