"""Dispatches pods from the one watch of the process to their workers, by node; feeds what runtimes and probes report back to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object, Resource
from kubecosm.client.informer import Informer

from ..cri.types import ContainerState, NodeInfo
from ..nodes.power import Power, Powers
from ..probes.manager import ProbeSubject
from .admission import NODE_AFFINITY, NodeBudget, Refusal, Refused, refusal_of
from .changes import has_run
from .context import PodContext
from .events import WARNING
from .phase import is_terminal
from .status import Verdict, refused
from .worker import PodWorker


class NodeObjects(Protocol):
    """The Node objects of the API."""

    def find(self, name: str) -> Object | None:
        """As last heard of; None if nothing is known."""

    async def fetch(self, name: str) -> Object | None:
        """As it is now; None if nobody says."""

    def images_changed(self, name: str) -> None:
        """The node's status is to tell of another image."""


SHUTDOWN_REFUSAL = Refused("NodeShutdown", "Pod was rejected as the node is shutting down.")


class PodManager:
    """Workers by uid, for the pods bound to `nodes` (by name)."""

    def __init__(
        self, nodes: Mapping[str, NodeInfo], new_budget: Callable[[str], NodeBudget], powers: Powers, node_objects: NodeObjects
    ) -> None:
        self._nodes = nodes
        self._powers = powers
        self._node_objects = node_objects
        self._awaited: dict[str, asyncio.Event] = {}
        """Pods whose end somebody waits for."""
        self._new_budget = new_budget
        self._budgets: dict[str, NodeBudget] = {}
        self._context: PodContext | None = None
        self._pods: Informer | None = None
        self._workers: dict[str, PodWorker] = {}
        self._recovering = True
        self._deferred: set[str] = set()
        """Pods whose wish for more resources waits for room."""

    @property
    def context(self) -> PodContext:
        assert self._context is not None, "start() comes first"
        return self._context

    def start(self, context: PodContext, pods: Informer) -> None:
        """Follow the informer from now on. Pods of its first list that ran before are taken up again."""
        self._context, self._pods = context, pods
        for pod in pods.store.list():
            node = self._nodes.get(pod["spec"].get("nodeName") or "")
            if node is not None and has_run(pod) and not is_terminal(pod):
                context.runtime_of(pod).reserve(pod, node)
        pods.add_handler(self._added, lambda _old, new: self._added(new), self._deleted)

    def node_hosted(self, name: str) -> None:
        """A node came to `nodes`: pods that were bound to it before are run now."""
        for pod in self._pods.store.list() if self._pods is not None else ():
            if pod["spec"].get("nodeName") == name:
                self._added(pod)

    def recovered(self) -> None:
        """The first list has been seen: pods that appear from now on are new."""
        self._recovering = False

    def workers(self) -> list[PodWorker]:
        return list(self._workers.values())

    def worker(self, uid: str) -> PodWorker | None:
        return self._workers.get(uid)

    def find(self, namespace: str, name: str, uid: str = "") -> PodWorker | None:
        """The worker of a pod by name; for the kubelet's API."""
        for worker in self._workers.values():
            meta = worker.pod["metadata"]
            if meta["name"] == name and meta["namespace"] == namespace and (not uid or worker.uid == uid):
                return worker
        return None

    # -- from the API ------------------------------------------------------------------------------------------------

    def _added(self, pod: Object, *, rebooted: bool = False) -> None:
        node = self._nodes.get(pod["spec"].get("nodeName") or "")
        if node is None or self._powers.of(node.name) is Power.OFF:
            return
        uid = pod["metadata"]["uid"]
        self.context.statuses.observe(pod)
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            if pod["metadata"].get("annotations"):
                self.context.evictions.consider(pod, node.name)
            return
        is_known = (self._recovering or rebooted) and has_run(pod)
        if is_terminal(pod) and pod["metadata"].get("deletionTimestamp") is None and not is_known:
            return
        worker = self._workers[uid] = PodWorker(self.context, pod, node)
        if pod["metadata"].get("annotations"):
            self.context.evictions.consider(pod, node.name)
        if is_known:
            self._budget(node.name).take(pod)
            self.context.tasks.create_task(worker.recover(rebooted=rebooted), name="pod-recover")
            return
        refusal = self._refusal(pod, node.name)
        if refusal is not None and refusal.reason == NODE_AFFINITY:
            self.context.tasks.create_task(self._look_again(worker), name="pod-admit")
        else:
            self._settle(worker, refusal)

    def _refusal(self, pod: Object, node: str) -> Refused | None:
        """Why a pod that was bound to the node is not let in."""
        if pod["metadata"].get("deletionTimestamp") is not None:
            return None
        if self._powers.of(node) is Power.SHUTTING_DOWN:
            return SHUTDOWN_REFUSAL
        return refusal_of(pod, self._node_objects.find(node), self._budget(node)) or self.context.evictions.refusal(pod, node)

    async def _look_again(self, worker: PodWorker) -> None:
        """The node's labels may be newer than what has been heard of them: they are asked for before a pod is turned down for them."""
        node = await self._node_objects.fetch(worker.node.name)
        self._settle(worker, refusal_of(worker.pod, node, self._budget(worker.node.name)))

    def _settle(self, worker: PodWorker, refusal: Refused | None) -> None:
        """Let a pod in, or turn it down."""
        if refusal is None:
            self._budget(worker.node.name).take(worker.pod)
            worker.wake()
        else:
            self.context.events.pod(worker.pod, WARNING, refusal.reason, refusal.message)
            worker.evict(refused(refusal.reason, refusal.message))

    # -- nodes that are switched off ---------------------------------------------------------------------------------

    def active(self, node: str) -> list[Object]:
        """The pods of a node that run or are to run."""
        return [worker.pod for worker in self._workers.values() if worker.node.name == node and not worker.is_finished]

    async def end(self, pods: Sequence[Object], seconds: int, reason: str, message: str) -> None:
        """End these pods within so many seconds, or less if they ask for less; return when all have ended."""
        waits = []
        for pod in pods:
            worker = self._workers.get(pod["metadata"]["uid"])
            if worker is not None and not worker.is_finished:
                waits.append(self._awaited.setdefault(worker.uid, asyncio.Event()))
                worker.evict(Verdict(reason, message, grace_seconds=seconds, is_disruption=True))
        for wait in waits:
            await wait.wait()
        for pod in pods:
            await self.context.statuses.wait_settled(pod["metadata"]["uid"])

    def switch_off(self, node: str) -> None:
        """Nothing of this node's pods runs any more, and nobody is told."""
        for worker in [worker for worker in self._workers.values() if worker.node.name == node]:
            worker.abandon()
            self.context.statuses.forget(worker.uid)
            self.finished(worker.uid)
        self._budgets.pop(node, None)

    def switch_on(self, node: str) -> None:
        """Run what is bound to the node: what ran before it went off is started again as its restart policy says."""
        for pod in self._pods.store.list() if self._pods is not None else ():
            if pod["spec"].get("nodeName") == node:
                self._added(pod, rebooted=True)

    def evict(self, pod: Object, verdict: Verdict) -> None:
        """The node has no room for this pod any more."""
        worker = self._workers.get(pod["metadata"]["uid"])
        if worker is not None:
            self.context.events.pod(pod, WARNING, verdict.reason, verdict.message)
            worker.evict(verdict)

    # -- what pods take of their nodes -------------------------------------------------------------------------------

    def _budget(self, node: str) -> NodeBudget:
        budget = self._budgets.get(node)
        if budget is None:
            budget = self._budgets[node] = self._new_budget(node)
        return budget

    def forget_node(self, name: str) -> None:
        """The node is gone; a new one of its name may have another size."""
        self._budgets.pop(name, None)

    def ended(self, uid: str) -> None:
        """Everything of a pod has ended: its room is free."""
        worker = self._workers.get(uid)
        if (awaited := self._awaited.pop(uid, None)) is not None:
            awaited.set()
        if worker is not None:
            self._budget(worker.node.name).release(uid)
            self._wake_deferred(worker.node.name)

    def resize(self, pod: Object) -> Refusal | None:
        """Give a pod the resources that it asks for now; who waits for room is asked again when there is more."""
        uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
        self._deferred.discard(uid)
        refusal = self._budget(node).resize(pod)
        if refusal is None:
            self._wake_deferred(node)
        elif refusal.may_come:
            self._deferred.add(uid)
        return refusal

    def _wake_deferred(self, node: str) -> None:
        for uid in tuple(self._deferred):
            worker = self._workers.get(uid)
            if worker is None:
                self._deferred.discard(uid)
            elif worker.node.name == node:
                worker.wake()

    def _deleted(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self.context.statuses.forget(uid)
        worker = self._workers.get(uid)
        if worker is not None:
            worker.remove()

    def finished(self, uid: str) -> None:
        """A removed pod's worker has ended everything."""
        worker = self._workers.pop(uid, None)
        if worker is None:
            return
        context = self.context
        context.probes.forget(uid)
        context.backoff.forget(uid)
        context.image_backoff.forget(uid)
        context.resources.forget(uid)
        context.tasks.create_task(context.runtime_of(worker.pod).remove_pod(uid), name="pod-remove")

    def object_changed(self, resource: Resource, key: Key) -> None:
        """A ConfigMap or Secret changed: volumes show it, and containers that wait for it may start."""
        volumes = self.context.resources.volumes
        for uid in volumes.users_of(resource, key):
            volumes.refresh(uid)
        for uid in list(self.context.waiting_for_objects):
            self.context.waiting_for_objects.discard(uid)
            self.pod_changed(uid)

    # -- from runtimes and probes ------------------------------------------------------------------------------------

    def pod_changed(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()

    def images_changed(self, node: str) -> None:
        self._node_objects.images_changed(node)

    def warn(self, uid: str, container: str, reason: str, message: str) -> None:
        worker = self._workers.get(uid)
        if worker is None:
            return
        kind = worker.kind_of(container)
        self.context.events.container(worker.pod, kind, container, WARNING, reason, message)

    def unhealthy(self, subject: ProbeSubject, reason: str, message: str) -> None:
        if subject.status.state is ContainerState.RUNNING:
            self.context.events.container(subject.pod(), subject.kind, subject.spec["name"], WARNING, reason, message)
