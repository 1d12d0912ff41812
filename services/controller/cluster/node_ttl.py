"""TTL controller: tells every node for how long its kubelet may keep Secrets and ConfigMaps, by the size of the cluster.

Watches Nodes. Writes their annotation node.alpha.kubernetes.io/ttl. Imitates pkg/controller/ttl, which waits for a node's next heartbeat
when the cluster has grown; here all nodes are told at once. A node that has just come is told a moment later than there: while many start,
they have more urgent things to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, annotations_of, key_of
from kubecosm.api.names import ANNOTATION_NODE_TTL
from kubecosm.api.resources import NODES, Object
from kubecosm.client.controller import Context, ControllerSpec, Result, done, requeue
from kubecosm.client.http import PatchType
from kubecosm.client.informer import InformerFactory

from ..common.pods import created_at

UNBOUNDED = 2**31 - 1
AGE_SECONDS_MIN = 2.0
"""A younger node is still starting."""


class Step(NamedTuple):
    """The sizes of a cluster, in nodes, that a TTL is for. Neighbours overlap, so that a node more or less changes nothing."""

    size_min: int
    size_max: int
    ttl_seconds: int


STEPS = (Step(0, 100, 0), Step(90, 500, 15), Step(450, 1000, 30), Step(900, 2000, 60), Step(1800, UNBOUNDED, 300))


def plan_step(step: int, nodes: int) -> int:
    """The step of a cluster that has so many nodes now and was at `step` before."""
    while nodes > STEPS[step].size_max:
        step += 1
    while nodes < STEPS[step].size_min:
        step -= 1
    return step


class NodeTtl:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self.SPEC = ControllerSpec(
            name="ttlcontroller", component="ttl-controller", primary=NODES, cares={NODES: self._cares}, connect=self.connect, workers=5
        )  # fmt: skip
        self._step = 0
        self._wake: Callable[[Key], None] = lambda key: None

    def connect(self, _factory: InformerFactory, wake: Callable[[Key], None]) -> None:
        """The runner's hook: how a work item is woken."""
        self._wake = wake

    @property
    def _wanted(self) -> str:
        return str(STEPS[self._step].ttl_seconds)

    def _cares(self, old: Object, new: Object) -> bool:
        return annotations_of(new).get(ANNOTATION_NODE_TTL) != self._wanted

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        nodes = ctx.cache(NODES)
        step = plan_step(self._step, len(nodes))
        if step != self._step:
            self._step = step
            for each in nodes.list():
                self._wake(key_of(each))
        node = nodes.get(key)
        if node is None or annotations_of(node).get(ANNOTATION_NODE_TTL) == self._wanted:
            return done()
        created = created_at(node)
        age = (ctx.clock.now() - created).total_seconds() if created is not None else AGE_SECONDS_MIN
        if 0 <= age < AGE_SECONDS_MIN:
            return requeue(after_seconds=AGE_SECONDS_MIN - age)
        patch = {"metadata": {"annotations": {ANNOTATION_NODE_TTL: self._wanted}}}
        try:
            ctx.expect_written(await ctx.client.patch(NODES, key.name, patch, patch_type=PatchType.STRATEGIC))
        except NotFound:
            return done()
        return done()


def build(_config: object) -> NodeTtl:
    return NodeTtl()
