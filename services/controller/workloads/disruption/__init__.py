"""Disruption controller: what PodDisruptionBudgets allow now; see controller.py."""

from .controller import Disruption, build

__all__ = ["Disruption", "build"]
