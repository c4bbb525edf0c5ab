"""Segmind: Stable Video Diffusion, MotionCtrl and SSD-1B behind one key."""

from providers.segmind.plugin import PLUGIN

__all__ = ["PLUGIN"]
