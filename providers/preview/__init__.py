"""The camera move of a still on the CPU: free, in about a second, and labelled a preview."""

from __future__ import annotations

from providers.contract import ProviderPlugin
from providers.preview.adapter import Settings, build
from providers.preview.catalogue import CATALOGUE

PLUGIN = ProviderPlugin(name="preview", settings=Settings, catalogue=CATALOGUE, build=build)

__all__ = ["PLUGIN"]
