"""CronJob controller: makes Jobs by schedule, and forgets old ones; see controller.py."""

from .controller import SPEC, reconcile

__all__ = ["SPEC", "reconcile"]
