"""ReplicationController controller: the older ReplicaSet, whose selector is a plain map of labels.

Owns Pods. Watches ReplicationControllers and Pods. Writes Pods and the ReplicationController's status. The engine is common/replicas.py.
"""

from __future__ import annotations

from collections.abc import Callable

from kubecosm.api.meta import labels_of
from kubecosm.api.resources import REPLICATIONCONTROLLERS, Object

from ..common.replica_controller import ReplicaController, replica_spec


def matcher(controller: Object) -> Callable[[Object], bool]:
    """Whether a pod carries every label of spec.selector."""
    wanted = (controller["spec"].get("selector") or {}).items()
    return lambda pod: wanted <= labels_of(pod).items()


SPEC = replica_spec(REPLICATIONCONTROLLERS, matcher, name="replicationcontroller", component="replication-controller")


def build(_config: object) -> ReplicaController:
    return ReplicaController(SPEC, matcher, counts_terminating=False)
