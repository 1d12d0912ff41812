"""Node lifecycle controller; see controller.py."""

from .controller import NodeLifecycle, build

__all__ = ["NodeLifecycle", "build"]
