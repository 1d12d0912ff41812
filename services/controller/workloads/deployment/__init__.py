"""Deployment controller: moves pods from one ReplicaSet to the next; see controller.py."""

from .controller import Deployments, build

__all__ = ["Deployments", "build"]
