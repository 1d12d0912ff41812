"""Deployment controller: moves pods from one ReplicaSet to the next; see controller.py."""

from .controller import SPEC, reconcile

__all__ = ["SPEC", "reconcile"]
