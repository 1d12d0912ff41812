"""Cluster autoscaler: makes simulated nodes for pods that fit nowhere, and takes away nodes that nothing needs.

`groups.py` reads the node groups, `simulation.py` tells whether a pod fits, `scale_up.py` and `scale_down.py` decide, `status.py` reports,
`controller.py` reconciles.
"""

from .controller import ClusterAutoscaler, build

__all__ = ["ClusterAutoscaler", "build"]
