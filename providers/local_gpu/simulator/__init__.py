"""A simulated GPU worker: the worker's protocol over real HTTP, with its queue, its pace and its faults as switches."""

from __future__ import annotations

from providers.local_gpu.simulator.app import simulator, simulator_settings

__all__ = ["simulator", "simulator_settings"]
