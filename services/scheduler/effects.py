"""The scheduler's effects on the API: bindings, status patches, deletions, events."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from kubecosm.api.errors import NotFound
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, RESOURCECLAIMS, Object
from kubecosm.client.http import ApiClient, PatchType
from kubecosm.client.series import SeriesRecorder

from .state.podinfo import PodInfo


class RealEffects:
    """An ApiEffects over the client; events go out under the name of the pod's scheduler."""

    def __init__(self, client: ApiClient, recorders: Mapping[str, SeriesRecorder]) -> None:
        self._client = client
        self._recorders = recorders

    async def bind(self, pod: PodInfo, node_name: str) -> None:
        binding = {
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": node_name},
        }  # fmt: skip
        await self._client.create(PODS, binding, pod.namespace, name=pod.name, subresource="binding")

    async def patch_status(self, pod: PodInfo, patch: Object) -> None:
        body = {"metadata": {"uid": pod.uid}, "status": patch}
        await self._client.patch(PODS, pod.name, body, pod.namespace, patch_type=PatchType.STRATEGIC, subresource="status")

    async def delete_pod(self, pod: PodInfo) -> None:
        await self._client.delete(PODS, pod.name, pod.namespace, options={"preconditions": {"uid": pod.uid}})

    async def patch_claim(self, namespace: str, name: str, patch: Object) -> None:
        await self._client.patch(PERSISTENTVOLUMECLAIMS, name, patch, namespace, patch_type=PatchType.MERGE)

    async def patch_volume(self, name: str, patch: Object) -> None:
        await self._client.patch(PERSISTENTVOLUMES, name, patch, patch_type=PatchType.MERGE)

    async def patch_resource_claim(self, namespace: str, name: str, patch: Object, subresource: str) -> Object:
        return await self._client.patch(RESOURCECLAIMS, name, patch, namespace, patch_type=PatchType.MERGE, subresource=subresource)

    async def create_resource_claim(self, claim: Object) -> Object:
        return await self._client.create(RESOURCECLAIMS, claim)

    async def delete_resource_claim(self, namespace: str, name: str, uid: str) -> None:
        with contextlib.suppress(NotFound):
            await self._client.delete(RESOURCECLAIMS, name, namespace, options={"preconditions": {"uid": uid}})

    def event(
        self, regarding: PodInfo, type: str, reason: str, action: str, note: str, *, related: PodInfo | None = None, once: bool = False
    ) -> None:
        recorder = self._recorders.get(regarding.scheduler_name) or next(iter(self._recorders.values()))
        about = (related.pod, PODS) if related is not None else None
        recorder.event(regarding.pod, PODS, type, reason, action, note, related=about, once=once)
