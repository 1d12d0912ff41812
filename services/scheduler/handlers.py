"""From informers to cluster state and queue: what each change of an object means for scheduling (eventhandlers.go)."""

from __future__ import annotations

from collections.abc import Callable

from kubecosm.api.resources import (
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
    STORAGECLASSES,
    Object,
    Resource,
)
from kubecosm.client.informer import InformerFactory

from .changes import node_action, nominated_node_of, pod_action, same_for_scheduling, same_generation, started_between
from .dra.extended import asks_for_extended
from .framework.events import (
    ASSIGNED_POD_ADD,
    ASSIGNED_POD_DELETE,
    NODE_ADD,
    NODE_DELETE,
    Action,
    ClusterEvent,
    EventResource,
    changes,
)
from .ondemand import OnDemand, on_demand
from .scheduler import Scheduler
from .state.podinfo import PodInfo, compile_pod
from .watched import pods_of

TERMINAL_PHASES = ("Succeeded", "Failed")
NOTHING = Action(0)


class EventHandlers:
    """Keeps a Scheduler informed."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._cluster = scheduler.cluster
        self._queue = scheduler.queue
        self._storage: OnDemand | None = None
        self._devices: OnDemand | None = None
        """None without informers."""

    def attach(self, factory: InformerFactory) -> None:
        """Register with the informers of all watched resources; what they hold already is announced now."""
        handle = self._scheduler.handle
        self._storage, self._devices = on_demand(factory, self._scheduler, self.attach_storage)
        factory.informer(NODES).add_handler(self.node_added, self.node_updated, self.node_deleted)
        factory.informer(NAMESPACES).add_handler(
            self._cluster.set_namespace, lambda _, new: self._cluster.set_namespace(new),
            lambda obj: self._cluster.remove_namespace(obj["metadata"]["name"]),
        )  # fmt: skip
        workloads = handle.workloads
        factory.informer(SERVICES).add_handler(workloads.set_service, lambda _, new: workloads.set_service(new), workloads.remove_service)
        for resource in (REPLICATIONCONTROLLERS, REPLICASETS, STATEFULSETS):
            self._attach_controllers(factory, resource)
        volumes = handle.volumes
        self.attach_storage(factory, PERSISTENTVOLUMES, EventResource.PERSISTENT_VOLUME, volumes.set_volume, volumes.remove_volume)
        claims = EventResource.PERSISTENT_VOLUME_CLAIM
        self.attach_storage(factory, PERSISTENTVOLUMECLAIMS, claims, volumes.set_claim, volumes.remove_claim)
        self.attach_storage(factory, STORAGECLASSES, EventResource.STORAGE_CLASS, volumes.set_class, volumes.remove_class)
        factory.informer(PODDISRUPTIONBUDGETS).add_handler(self.budget_set, lambda _, new: self.budget_set(new), self.budget_deleted)
        pods_of(factory).add_handler(self.pod_added, self.pod_updated, self.pod_deleted)

    def _attach_controllers(self, factory: InformerFactory, resource: Resource) -> None:
        workloads, kind = self._scheduler.handle.workloads, resource.kind
        factory.informer(resource).add_handler(
            lambda obj: workloads.set_controller(kind, obj), lambda _, new: workloads.set_controller(kind, new),
            lambda obj: workloads.remove_controller(kind, obj),
        )  # fmt: skip

    def attach_storage(
        self, factory: InformerFactory, resource: Resource, kind: EventResource, keep: Callable[[Object], None],
        drop: Callable[[Object], None],
    ) -> None:  # fmt: skip
        """Keep the objects, and try rejected pods again as they come and change."""

        def added(obj: Object) -> None:
            keep(obj)
            self._queue.move(ClusterEvent(kind, Action.ADD, f"{kind}Add"), None, obj)

        def updated(old: Object, new: Object) -> None:
            keep(new)
            self._queue.move(ClusterEvent(kind, Action.UPDATE_OTHER, f"{kind}Update"), old, new)

        def removed(obj: Object) -> None:
            drop(obj)
            self._queue.move(ClusterEvent(kind, Action.DELETE, f"{kind}Delete"), obj, None)

        factory.informer(resource).add_handler(added, updated, removed)

    def budget_set(self, budget: Object) -> None:
        self._scheduler.budgets[_key(budget)] = budget

    def budget_deleted(self, budget: Object) -> None:
        self._scheduler.budgets.pop(_key(budget), None)

    # ---- nodes

    def node_added(self, node: Object) -> None:
        self._cluster.set_node(node)
        self._queue.move(NODE_ADD, None, node)

    def node_updated(self, old: Object, new: Object) -> None:
        before, after = old["metadata"], new["metadata"]
        same = old.get("spec") == new.get("spec") and old.get("status") == new.get("status")
        if same and all(before.get(what) == after.get(what) for what in ("labels", "annotations")):
            return  # a heartbeat
        self._cluster.set_node(new)
        if actions := node_action(old, new):
            for event in changes(EventResource.NODE, actions):
                self._queue.move(event, old, new)

    def node_deleted(self, node: Object) -> None:
        self._cluster.remove_node(node["metadata"]["name"])
        self._queue.move(NODE_DELETE, node, None)

    # ---- pods

    def pod_added(self, pod: Object) -> None:
        if _is_terminal(pod):
            return
        info = compile_pod(pod)
        if info.node_name:
            self._place(info)
        elif info.scheduler_name in self._scheduler.profiles:
            self._pend(info)
            if not self._cluster.is_assumed(info.uid):
                self._queue.add(info)

    def pod_updated(self, old: Object, new: Object) -> None:
        if old["metadata"].get("uid") != new["metadata"].get("uid"):
            self.pod_deleted(old)
            self.pod_added(new)
        elif _is_terminal(new):
            self.pod_deleted(new)
        elif (new["spec"].get("nodeName") or "") and not old["spec"].get("nodeName"):
            assumed = self._assumed_as(new)
            self._place(compile_pod(new) if assumed is None else assumed)
        elif new["spec"].get("nodeName"):
            self._placed_changed(old, new)
        else:
            self._pending_changed(old, new)

    def pod_deleted(self, pod: Object) -> None:
        uid = pod["metadata"].get("uid", "")
        placed = self._cluster.pod(uid)
        pending = self._scheduler.pending.pop(uid, None)
        was_nominated = bool(self._scheduler.nominator.node_of(uid))
        self._scheduler.nominator.remove(uid)
        self._queue.delete(uid)
        if placed is not None and self._cluster.is_assumed(uid):
            self._assumed_deleted(placed)
        elif placed is not None:
            self._cluster.remove_pod(uid)
            self._queue.move(ASSIGNED_POD_DELETE, placed, None)
        elif pending is not None and was_nominated:
            self._queue.move(ASSIGNED_POD_DELETE, pending, None, up_to=pending.priority)

    def _assumed_deleted(self, pod: PodInfo) -> None:
        """A pod goes while it is being bound: its room is free at once, though its binding will take a while to fail."""
        if self._scheduler.waiting.reject(pod.uid, "removed"):
            return  # what it has reserved is given back with its room
        self._cluster.forget(pod)
        self._queue.move(ASSIGNED_POD_DELETE, pod, None)

    def _assumed_as(self, pod: Object) -> PodInfo | None:
        """The pod as it was assumed, if nothing that counts has changed since: most bindings are ours."""
        uid = pod["metadata"].get("uid", "")
        info = self._cluster.pod(uid)
        if info is None or not self._cluster.is_assumed(uid) or info.node_name != pod["spec"]["nodeName"]:
            return None
        if not same_generation(info.pod, pod):
            return None
        info.pod = pod
        return info

    def _place(self, info: PodInfo) -> None:
        """The API server says that the pod has a node: by our binding, somebody else's, or from the start."""
        self._scheduler.pending.pop(info.uid, None)
        self._queue.delete(info.uid)
        self._scheduler.nominator.remove(info.uid)
        if self._cluster.pod(info.uid) is info:
            self._cluster.confirm(info.uid)
        else:
            self._cluster.set_pod(info)
        self._queue.move(ASSIGNED_POD_ADD, None, info)

    def _placed_changed(self, old: Object, new: Object) -> None:
        known = self._cluster.pod(new["metadata"].get("uid", ""))
        if known is None:
            self._place(compile_pod(new))
            return
        if same_for_scheduling(old, new):
            known.pod = new
            if started_between(old, new):
                self._cluster.touch(known.uid)
            if self._scheduler.any_update_matters:
                [update] = changes(EventResource.ASSIGNED_POD, NOTHING)
                self._queue.move(update, known, known)
            return
        info = compile_pod(new)
        self._cluster.set_pod(info)
        for event in changes(EventResource.ASSIGNED_POD, pod_action(known, info)):
            self._queue.move(event, known, info)

    def _pend(self, info: PodInfo) -> None:
        if info.claims and self._storage is not None:
            self._storage.start()
        if self._devices is not None and (info.pod["spec"].get("resourceClaims") or asks_for_extended(info)):
            self._devices.start()
        self._scheduler.pending[info.uid] = info
        self._scheduler.nominator.update(info)

    def _renominate(self, old: Object, info: PodInfo) -> None:
        """Somebody, perhaps we, has written or cleared the pod's status.nominatedNodeName; in-memory nominations outlive other changes."""
        before = nominated_node_of(old)
        if before == info.nominated_node:
            return
        if info.nominated_node:
            self._scheduler.nominator.add(info, info.nominated_node)
        else:
            self._scheduler.nominator.remove(info.uid)
        if before and not self._cluster.is_assumed(info.uid):
            self._queue.move(ASSIGNED_POD_DELETE, info, None, up_to=info.priority)

    def _pending_changed(self, old: Object, new: Object) -> None:
        known = self._scheduler.pending.get(new["metadata"].get("uid", ""))
        if known is None:
            self.pod_added(new)
            return
        if same_for_scheduling(old, new):
            known.pod = new
            known.nominated_node = nominated_node_of(new)
            self._renominate(old, known)
            if self._scheduler.any_update_matters and not self._cluster.is_assumed(known.uid):
                self._queue.update(known, known, changes(EventResource.UNSCHEDULED_POD, NOTHING))
            return
        info = compile_pod(new)
        self._pend(info)
        self._renominate(old, info)
        if not self._cluster.is_assumed(info.uid):
            self._queue.update(known, info, changes(EventResource.UNSCHEDULED_POD, pod_action(known, info)))
        elif info.is_terminating and not known.is_terminating and (assumed := self._cluster.pod(info.uid)) is not None:
            self._assumed_deleted(assumed)


def _is_terminal(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in TERMINAL_PHASES


def _key(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
