"""Takes pods out of their Services when their node has fallen silent: their kubelet cannot.

Imitates MarkPodsNotReady of pkg/controller/util/node. A kubelet that says itself that its node is not ready still speaks for its pods.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import uid_of
from kubecosm.api.resources import PODS, Object
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context
from kubecosm.client.http import PatchType

from ...common.batches import all_settled, raise_first
from ...common.pods import is_ready


async def mark_not_ready(ctx: Context, pods: Iterable[Object]) -> None:
    """Those that are ready become not ready, and an event says so. Raises the first error."""
    raise_first(await all_settled([_mark(ctx, pod) for pod in pods if is_ready(pod)]))


async def _mark(ctx: Context, pod: Object) -> None:
    meta = pod["metadata"]
    condition = {"type": "Ready", "status": "False", "lastTransitionTime": format_time(ctx.clock.now())}
    if generation := meta.get("generation"):
        condition["observedGeneration"] = generation
    patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
    try:
        written = await ctx.client.patch(PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC, subresource="status")
    except NotFound:
        return
    ctx.expect_written(written)
    ctx.recorder.event(pod, PODS, "Warning", "NodeNotReady", "Node is not ready")
