"""Which providers there are: ours, listed here, and third parties' by the entry point `vidgate.providers`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

import providers.local_gpu
import providers.modelslab
import providers.openai_videos
import providers.preview
import providers.segmind
from providers.contract import ProviderPlugin

ENTRY_POINT_GROUP = "vidgate.providers"
BUILTIN: tuple[ProviderPlugin, ...] = (
    providers.segmind.PLUGIN,
    providers.modelslab.PLUGIN,
    providers.preview.PLUGIN,
    providers.local_gpu.PLUGIN,
    providers.openai_videos.PLUGIN,
)
# Programs that providers bring along for the command line, by command: where each is, loaded only when it is called.
PROGRAMS: Mapping[str, str] = {
    "gpu-worker": "providers.local_gpu.worker.program",
    "gpu-serve": "providers.local_gpu.worker.program",
}


class PluginError(RuntimeError):
    """An installed provider package does not fit: the text names it and says why."""


def plugins() -> Mapping[str, ProviderPlugin]:
    """Every provider by name. Raises PluginError for a package that is no provider or takes a name that is taken."""
    found = {plugin.name: plugin for plugin in BUILTIN}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        plugin = entry.load()
        if not isinstance(plugin, ProviderPlugin):
            raise PluginError(f"entry point {entry.value!r} must name a ProviderPlugin, not a {type(plugin).__name__}")
        if plugin.name in found:
            raise PluginError(f"entry point {entry.value!r} takes the provider name {plugin.name!r}, which is taken")
        found[plugin.name] = plugin
    return found
