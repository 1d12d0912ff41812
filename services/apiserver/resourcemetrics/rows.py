"""The resources of the group: two that are only read, and never stored."""

from __future__ import annotations

from kubecosm.api.resources import Resource

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
_VERBS = ("get", "list")
NODE_METRICS = Resource(GROUP, VERSION, "NodeMetrics", "nodes", "", namespaced=False, verbs=_VERBS)
POD_METRICS = Resource(GROUP, VERSION, "PodMetrics", "pods", "", namespaced=True, verbs=_VERBS)
