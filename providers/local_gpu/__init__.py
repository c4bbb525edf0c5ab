"""The team's own GPUs: Stable Video Diffusion and SSD-1B on workers that speak vidgate's worker protocol.

Read in this order: `catalogue` (what each route takes), `protocol` (what a worker says), `workers` (which of them is
asked), `adapter` (how it is asked), `plugin` (settings). `simulator` is a worker without a GPU, `worker` the real one.
"""

from providers.local_gpu.plugin import PLUGIN

__all__ = ["PLUGIN"]
