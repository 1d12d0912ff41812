"""Node lifecycle controller: taints and conditions of nodes that are silent or in trouble; see controller.py."""

from .controller import NodeLifecycle, build

__all__ = ["NodeLifecycle", "build"]
