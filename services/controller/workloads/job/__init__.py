"""Job controller: runs pods until enough have succeeded; see controller.py."""

from .controller import SPEC, reconcile

__all__ = ["SPEC", "reconcile"]
