"""Garbage collector: deletes what has lost its owners, in the background, in the foreground, or not at all (orphan).

Watches every resource that can be listed, watched and deleted, custom ones included; new ones are found when a CustomResourceDefinition
or APIService changes. Writes deletions, ownerReferences and the finalizers foregroundDeletion and orphan. Work items are uids. The graph
is graph.py, the decisions are plan.py.
"""

from __future__ import annotations

from collections.abc import Callable

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, is_condition_true, uid_of
from kubecosm.api.names import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from kubecosm.api.resources import APISERVICES, BUILTIN, CUSTOMRESOURCEDEFINITIONS, EVENTS, EVENTS_V1, Object, Resource
from kubecosm.client.controller import Context, ControllerSpec, ReconcileError, Result, done, requeue
from kubecosm.client.http import PatchType
from kubecosm.client.informer import InformerFactory
from kubecosm.runtime.logs import get_logger

from ...common.batches import all_settled, raise_first
from ...common.discovery import discover
from ...config import Config
from .graph import (
    Graph,
    Node,
    identity_of,
    is_deleting_dependents,
    is_orphaning_dependents,
    names,
    namespace_of,
    node_identity,
    owner_references,
)  # fmt: skip
from .plan import Delete, DropOwners, OwnerState, blocks, owner_state, plan_item, unblocked, without_finalizer, without_owners

DISCOVER = Key("", "")
"""The work item that looks for resources; all others are uids."""
REDISCOVER_SECONDS = 1.0
"""A new CustomResourceDefinition is served a moment after it is established."""
NEEDED_VERBS = frozenset({"list", "watch", "delete"})
IGNORED = frozenset({(EVENTS.group, EVENTS.plural), (EVENTS_V1.group, EVENTS_V1.plural)})
"""Nobody owns an event, and there are many."""

log = get_logger("kube-controller-manager")


def is_collectable(resource: Resource) -> bool:
    return set(resource.verbs) >= NEEDED_VERBS and (resource.group, resource.plural) not in IGNORED


class NamespacedOwner(Exception):
    """A cluster-scoped object names an owner of a kind that lives in namespaces, so that nobody can tell which is meant."""


class GarbageCollector:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, workers: int) -> None:
        self.SPEC = ControllerSpec(
            name="garbage_collector", component="garbage-collector-controller", connect=self.connect, seeds=(DISCOVER,), workers=workers
        )  # fmt: skip
        self.graph = Graph()
        self._followed: dict[tuple[str, str], Resource] = {}
        self._custom: set[tuple[str, str]] = set()
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._factory: InformerFactory | None = None
        self._wake: Callable[[Key], None] = lambda key: None

    def connect(self, factory: InformerFactory, wake: Callable[[Key], None]) -> None:
        """The runner's hook: where informers come from and how a work item is woken."""
        self._factory, self._wake = factory, wake

    # What it follows

    async def _discover(self, ctx: Context) -> Result:
        """Follow every resource that is new, and no longer those whose CustomResourceDefinition is gone."""
        for resource in (await discover(ctx.client)).resources:
            self._kinds.setdefault((resource.group, resource.kind), resource)
            identity = (resource.group, resource.plural)
            if is_collectable(resource) and identity not in self._followed:
                self._follow(BUILTIN.by_path(resource.group, resource.version, resource.plural) or resource)
        established = self._established()
        for identity in self._custom - established:
            self._unfollow(identity)
        self._custom = established & self._followed.keys()
        return requeue(after_seconds=REDISCOVER_SECONDS) if established - self._followed.keys() else done()

    def _established(self) -> set[tuple[str, str]]:
        """Group and plural of every custom resource that is served."""
        assert self._factory is not None, "connect is called before anything runs"
        definitions = self._factory.informer(CUSTOMRESOURCEDEFINITIONS).store.list()
        served = [definition for definition in definitions if is_condition_true(definition, "Established")]
        return {(definition["spec"]["group"], definition["spec"]["names"]["plural"]) for definition in served}

    def _unfollow(self, identity: tuple[str, str]) -> None:
        assert self._factory is not None, "connect is called before anything runs"
        resource = self._followed.pop(identity)
        self._kinds.pop((resource.group, resource.kind), None)
        for obj in self._factory.drop(resource):
            self._forget(obj)

    def _follow(self, resource: Resource) -> None:
        assert self._factory is not None, "connect is called before anything runs"
        self._followed[resource.group, resource.plural] = resource
        tells_of_resources = resource in (CUSTOMRESOURCEDEFINITIONS, APISERVICES)

        def observe(obj: Object) -> None:
            for uid in self.graph.observe(resource, obj):
                self._wake(Key("", uid))
            if tells_of_resources:
                self._wake(DISCOVER)

        def update(old: Object, new: Object) -> None:
            observe(new)

        def forget(obj: Object) -> None:
            self._forget(obj)
            if tells_of_resources:
                self._wake(DISCOVER)

        self._factory.informer(resource).add_handler(observe, update, forget)

    def _forget(self, obj: Object) -> None:
        for uid in self.graph.forget(uid_of(obj)):
            self._wake(Key("", uid))

    # One work item

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        if key == DISCOVER:
            return await self._discover(ctx)
        node = self.graph.get(key.name)
        if node is None:
            return done()
        if node.is_virtual:
            return await self._verify(ctx, node)
        try:
            if is_orphaning_dependents(node.obj):
                return await self._orphan(ctx, node)
            if is_deleting_dependents(node.obj):
                return await self._finish_foreground(ctx, node)
            return await self._collect(ctx, node)
        except NotFound:
            self._forget(node.obj)
            return done()
        except Conflict:
            return requeue(after_seconds=0.01)  # it has changed: decide again on its newer state

    async def _verify(self, ctx: Context, node: Node) -> Result:
        """An owner known by reference only: does it exist?"""
        try:
            found = await self._live(ctx, node.obj["apiVersion"], node.obj["kind"], node.obj["metadata"])
        except NamespacedOwner:
            for uid in list(node.dependents):
                self._wake(Key("", uid))  # they tell of it
            return done()
        if found is None:
            for uid in self.graph.never_was(uid_of(node.obj)):
                self._wake(Key("", uid))
        return done()

    async def _live(self, ctx: Context, api_version: str, kind: str, meta: Object) -> Object | None:
        """The object of this identity as the server has it, or None.

        NamespacedOwner for one that a cluster-scoped object cannot have; ReconcileError while the server does not serve its kind.
        """
        resource = self._kinds.get((api_version.rpartition("/")[0], kind))
        if resource is None:
            raise ReconcileError(f"no kind {kind} in {api_version}")
        if resource.namespaced and not meta.get("namespace"):
            raise NamespacedOwner
        try:
            found = await ctx.client.get(resource, meta["name"], meta.get("namespace") if resource.namespaced else None)
        except NotFound:
            return None
        return found if uid_of(found) == meta["uid"] else None

    async def _owner_state(self, ctx: Context, obj: Object, ref: Object) -> OwnerState:
        namespace = namespace_of(obj)
        known = self.graph.get(ref["uid"])
        if known is not None and not known.is_virtual and names(ref, namespace, known):
            return owner_state(known.obj)
        if identity_of(ref, namespace) in self.graph.absent_owners:
            return OwnerState.DANGLING
        meta = {"name": ref["name"], "namespace": namespace, "uid": ref["uid"]}
        found = await self._live(ctx, ref["apiVersion"], ref["kind"], meta)
        if found is not None:
            return owner_state(found)
        self.graph.absent_owners.add(identity_of(ref, namespace))
        return OwnerState.DANGLING

    def _tell_misplaced(self, ctx: Context, node: Node) -> None:
        """An owner of another namespace is none; an event says so where it exists."""
        assert node.resource is not None, "virtual nodes have no owners"
        namespace = namespace_of(node.obj)
        for ref in owner_references(node.obj):
            known = self.graph.get(ref["uid"])
            owner = node_identity(known) if known is not None and not known.is_virtual else None
            if owner is not None and owner.namespace not in ("", namespace):
                kind = f"{ref['apiVersion']}/{ref['kind']}, namespace: {namespace}, name: {ref['name']}, uid: {ref['uid']}"
                message = f'ownerRef [{kind}] does not exist in namespace "{namespace}"'
                ctx.recorder.event(node.obj, node.resource, "Warning", "OwnerRefInvalidNamespace", message)

    async def _collect(self, ctx: Context, node: Node) -> Result:
        """Delete the object if it has lost all its owners, or take the lost ones out of its references."""
        obj = node.obj
        self._tell_misplaced(ctx, node)
        try:
            owners = {ref["uid"]: await self._owner_state(ctx, obj, ref) for ref in owner_references(obj)}
        except NamespacedOwner:
            return done()  # no retry resolves it, and nothing is deleted for it
        action = plan_item(obj, owners, [dependent.obj for dependent in self.graph.dependents(node)])
        if isinstance(action, DropOwners):
            await self._patch(ctx, node, without_owners(obj, action.uids))
        elif isinstance(action, Delete):
            if action.unblock:
                obj = await self._patch(ctx, node, unblocked(obj))
            await self._delete(ctx, node, obj, action.policy)
        return done()

    async def _finish_foreground(self, ctx: Context, node: Node) -> Result:
        """Let the object go once no blocking dependent is left; until then see that they go."""
        uid = uid_of(node.obj)
        blocking = [dependent for dependent in self.graph.dependents(node) if blocks(dependent.obj, uid)]
        if not blocking:
            await self._patch(ctx, node, without_finalizer(node.obj, FINALIZER_FOREGROUND))
            return done()
        for dependent in blocking:
            if not is_deleting_dependents(dependent.obj):
                self._wake(Key("", uid_of(dependent.obj)))
        return done()

    async def _orphan(self, ctx: Context, node: Node) -> Result:
        """Take the object out of its dependents' references, then let it go."""
        uid = uid_of(node.obj)
        dependents = self.graph.dependents(node)
        raise_first(await all_settled([self._drop_owner(ctx, dependent, uid) for dependent in dependents]))
        await self._patch(ctx, node, without_finalizer(node.obj, FINALIZER_ORPHAN))
        return done()

    async def _drop_owner(self, ctx: Context, dependent: Node, owner_uid: str) -> None:
        try:
            await self._patch(ctx, dependent, without_owners(dependent.obj, (owner_uid,)))
        except NotFound:
            return

    async def _patch(self, ctx: Context, node: Node, patch: Object) -> Object:
        assert node.resource is not None, "virtual nodes are not written"
        meta = node.obj["metadata"]
        return await ctx.client.patch(node.resource, meta["name"], patch, meta.get("namespace"), patch_type=PatchType.MERGE)

    async def _delete(self, ctx: Context, node: Node, obj: Object, policy: str) -> None:
        """Delete exactly this object in exactly this state: a new owner reference must not be overlooked."""
        assert node.resource is not None, "virtual nodes are not written"
        meta = obj["metadata"]
        options = {"propagationPolicy": policy, "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
        await ctx.client.delete(node.resource, meta["name"], meta.get("namespace"), options=options)
        log.debug("deleted", kind=node.resource.kind, namespace=meta.get("namespace"), name=meta["name"], policy=policy)


def build(config: Config) -> GarbageCollector:
    return GarbageCollector(config.concurrent_gc_syncs)
