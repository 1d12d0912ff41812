"""Garbage collector: deletes what nobody owns any more. `graph.py` knows who owns whom, `plan.py` decides; see controller.py."""

from .controller import GarbageCollector, build

__all__ = ["GarbageCollector", "build"]
