"""ReplicaSet controller: keeps the number of active pods equal to spec.replicas.

Owns Pods. Watches ReplicaSets and Pods. Writes Pods and the ReplicaSet's status. The engine is common/replicas.py.
"""

from __future__ import annotations

from collections.abc import Callable

from kubecosm.api.meta import labels_of
from kubecosm.api.resources import REPLICASETS, Object
from kubecosm.api.selectors import from_label_selector

from ..common.replica_controller import ReplicaController, replica_spec


def matcher(replicaset: Object) -> Callable[[Object], bool]:
    """Whether a pod's labels match spec.selector."""
    matches = from_label_selector(replicaset["spec"]["selector"]).matches
    return lambda pod: matches(labels_of(pod))


SPEC = replica_spec(REPLICASETS, matcher, name="replicaset")


def build(_config: object) -> ReplicaController:
    return ReplicaController(SPEC, matcher, counts_terminating=True)
