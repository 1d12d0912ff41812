"""CronJob controller: makes Jobs by schedule, and forgets old ones; see controller.py."""

from .controller import CronJobs, build

__all__ = ["CronJobs", "build"]
