"""DaemonSet controller; see controller.py."""

from .controller import DaemonSets, build

__all__ = ["DaemonSets", "build"]
