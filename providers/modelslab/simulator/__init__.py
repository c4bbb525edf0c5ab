"""A simulated ModelsLab: the vendor's API over real HTTP, with its habits as switches (WIRE 2 and 6)."""

from __future__ import annotations

from providers.modelslab.simulator.app import simulator, simulator_settings

__all__ = ["simulator", "simulator_settings"]
