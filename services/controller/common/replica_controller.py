"""The controller around the engine of replicas.py; ReplicaSets and ReplicationControllers differ in their selectors alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from kubecosm.api.meta import Key, controller_of, key_of
from kubecosm.api.resources import PODS, Object, Resource
from kubecosm.client.controller import OWNER_INDEXERS, Context, ControllerSpec, Reader, Result, done

from .replicas import AGE_RATIO, ReplicaKind, sync

Matcher = Callable[[Object], Callable[[Object], bool]]


class ReplicaController:
    """`SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, spec: ControllerSpec, matcher: Matcher, *, counts_terminating: bool) -> None:
        assert spec.primary is not None
        self._kind = ReplicaKind(resource=spec.primary, matcher=matcher, counts_terminating=counts_terminating)
        self.SPEC = replace(spec, cares={spec.primary: self._kind.echoes.matters})

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        owner = ctx.cache(self._kind.resource).get(key)
        if owner is None:
            return done()  # gone: the garbage collector removes the pods
        return await sync(ctx, self._kind, owner)


def replica_spec(resource: Resource, matcher: Matcher, *, name: str, component: str = "") -> ControllerSpec:
    """What wakes such a controller."""

    def map_orphan_pod(reader: Reader, pod: Object) -> Iterable[Key]:
        """A pod without a controller may be adopted by any owner whose selector matches."""
        if controller_of(pod) is not None:
            return ()
        owners = reader.cache(resource).list(pod["metadata"]["namespace"])
        return [key_of(owner) for owner in owners if matcher(owner)(pod)]

    return ControllerSpec(
        name=name,
        component=component,
        primary=resource,
        owns=(PODS,),
        watches={PODS: map_orphan_pod},
        indexers={resource: OWNER_INDEXERS},  # siblings under one Deployment
        workers=5,
        metrics=(AGE_RATIO,),
    )
