"""Job controller: runs pods until enough have succeeded; see controller.py."""

from .controller import Jobs, build

__all__ = ["Jobs", "build"]
