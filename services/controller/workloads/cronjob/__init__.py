"""CronJob controller; see controller.py."""

from .controller import SPEC, reconcile

__all__ = ["SPEC", "reconcile"]
