"""Clipworks, an imaginary vendor that zooms: the smallest complete provider for vidgate.

    POST /clips        {frames, rate, zoom, seed, image}  ->  202 {id, eta}
    GET  /clips/{id}                                      ->  200 {state: working | done | failed, url, price}

Read in this order: catalogue (what it can do), adapter (how it is asked), simulator (what it answers).
"""

from providers.contract import ProviderPlugin

from vidgate_clipworks.adapter import ClipworksSettings, build
from vidgate_clipworks.catalogue import CATALOGUE, PROVIDER
from vidgate_clipworks.simulator import SANDBOX_KEY, simulator

PLUGIN = ProviderPlugin(
    name=PROVIDER,
    settings=ClipworksSettings,
    catalogue=CATALOGUE,
    build=build,
    simulator=simulator,
    simulator_settings=lambda base_url: {"api_key": SANDBOX_KEY, "base_url": base_url},
)

__all__ = ["PLUGIN"]
