"""Garbage collector; see controller.py."""

from .controller import GarbageCollector, build

__all__ = ["GarbageCollector", "build"]
