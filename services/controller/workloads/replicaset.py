"""ReplicaSet controller: keeps the number of active pods equal to spec.replicas.

Owns Pods. Watches ReplicaSets and Pods. Writes Pods and the ReplicaSet's status. The engine is common/replicas.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubecosm.api.meta import Key, controller_of, key_of, labels_of
from kubecosm.api.resources import PODS, REPLICASETS, Object
from kubecosm.api.selectors import from_label_selector
from kubecosm.client.controller import OWNER_INDEXERS, Context, ControllerSpec, Reader, Result, done

from ..common.changes import beyond_status
from ..common.replicas import ReplicaKind, sync


def matcher(replicaset: Object) -> Callable[[Object], bool]:
    """Whether a pod's labels match spec.selector."""
    matches = from_label_selector(replicaset["spec"]["selector"]).matches
    return lambda pod: matches(labels_of(pod))


class ReplicaSets:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._kind = ReplicaKind(resource=REPLICASETS, matcher=matcher, counts_terminating=True)

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        replicaset = ctx.cache(REPLICASETS).get(key)
        if replicaset is None:
            return done()  # gone: the garbage collector removes the pods
        return await sync(ctx, self._kind, replicaset)


def map_orphan_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod without a controller may be adopted by any ReplicaSet whose selector matches."""
    if controller_of(pod) is not None:
        return ()
    replicasets = reader.cache(REPLICASETS).list(pod["metadata"]["namespace"])
    return [key_of(replicaset) for replicaset in replicasets if matcher(replicaset)(pod)]


SPEC = ControllerSpec(
    name="replicaset",
    primary=REPLICASETS,
    owns=(PODS,),
    watches={PODS: map_orphan_pod},
    cares={REPLICASETS: beyond_status},
    indexers={REPLICASETS: OWNER_INDEXERS},  # siblings under one Deployment
    workers=5,
)


def build(_config: object) -> ReplicaSets:
    return ReplicaSets()
