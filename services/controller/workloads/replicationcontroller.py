"""ReplicationController controller: the older ReplicaSet, whose selector is a plain map of labels.

Owns Pods. Watches ReplicationControllers and Pods. Writes Pods and the ReplicationController's status. The engine is common/replicas.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubecosm.api.meta import Key, controller_of, key_of, labels_of
from kubecosm.api.resources import PODS, REPLICATIONCONTROLLERS, Object
from kubecosm.client.controller import OWNER_INDEXERS, Context, ControllerSpec, Reader, Result, done

from ..common.changes import beyond_status
from ..common.replicas import ReplicaKind, sync


def matcher(controller: Object) -> Callable[[Object], bool]:
    """Whether a pod carries every label of spec.selector."""
    wanted = (controller["spec"].get("selector") or {}).items()
    return lambda pod: wanted <= labels_of(pod).items()


class ReplicationControllers:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._kind = ReplicaKind(resource=REPLICATIONCONTROLLERS, matcher=matcher, counts_terminating=False)

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        controller = ctx.cache(REPLICATIONCONTROLLERS).get(key)
        if controller is None:
            return done()  # gone: the garbage collector removes the pods
        return await sync(ctx, self._kind, controller)


def map_orphan_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod without a controller may be adopted by any ReplicationController whose selector matches."""
    if controller_of(pod) is not None:
        return ()
    controllers = reader.cache(REPLICATIONCONTROLLERS).list(pod["metadata"]["namespace"])
    return [key_of(controller) for controller in controllers if matcher(controller)(pod)]


SPEC = ControllerSpec(
    name="replicationcontroller",
    component="replication-controller",
    primary=REPLICATIONCONTROLLERS,
    owns=(PODS,),
    watches={PODS: map_orphan_pod},
    cares={REPLICATIONCONTROLLERS: beyond_status},
    indexers={REPLICATIONCONTROLLERS: OWNER_INDEXERS},
    workers=5,
)


def build(_config: object) -> ReplicationControllers:
    return ReplicationControllers()
