"""StatefulSet controller: pods with names and claims that stay, one after the other; see controller.py."""

from .controller import SPEC, reconcile

__all__ = ["SPEC", "reconcile"]
