"""DaemonSet controller: one pod on every node that fits; see controller.py."""

from .controller import DaemonSets, build

__all__ = ["DaemonSets", "build"]
