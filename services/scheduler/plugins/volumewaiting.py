"""Waiting until the volume controller has bound what VolumeBinding decided, or it is clear that it never will (checkBindings)."""

from __future__ import annotations

from kubecosm.api.meta import annotations_of
from kubecosm.api.resources import Object

from ..state.cluster import ClusterState
from ..state.volumes import VolumeState, node_affinity_of, selected_node_of


class BoundVolumes:
    """What is waited for on behalf of one pod; each question answers empty when all is well, else what went wrong."""

    def __init__(self, volumes: VolumeState, cluster: ClusterState, node: str) -> None:
        self._volumes, self._cluster, self._node = volumes, cluster, node

    async def static(self, key: str, volume_name: str) -> str:
        """An existing volume was reserved for the claim."""
        seen = False
        while True:
            claim = self._volumes.claims.get(key)
            if claim is None:
                return f'failed to check binding: could not find v1.PersistentVolumeClaim "{key}": not found'
            volume = self._volumes.volumes.get(volume_name)
            if volume is None:
                return f'failed to check binding: could not find v1.PersistentVolume "{volume_name}": not found'
            reserved = bool((volume["spec"].get("claimRef") or {}).get("uid"))
            if seen and not reserved:
                return f'ClaimRef got reset for pv "{volume_name}"'
            seen = seen or reserved
            if self._is_bound(claim):
                return self._misplaced(claim)
            await self._volumes.wait_claim_changed(key)

    async def provisioned(self, key: str) -> str:
        """A provisioner was told the node, by annotation; it takes that back if it fails."""
        told = False
        while True:
            claim = self._volumes.claims.get(key)
            if claim is None:
                return f'failed to check provisioning pvc: could not find v1.PersistentVolumeClaim "{key}": not found'
            if self._is_bound(claim):
                return self._misplaced(claim)
            chosen, name = selected_node_of(claim), claim["metadata"]["name"]
            if told and chosen != self._node:
                if not annotations_of(claim):
                    return f'selectedNode annotation reset for PVC "{name}"'
                return f'provisioning failed for PVC "{name}"'
            told = told or chosen == self._node
            await self._volumes.wait_claim_changed(key)

    def _is_bound(self, claim: Object) -> bool:
        return bool(self._volumes.sort_claims([claim]).bound)

    def _misplaced(self, claim: Object) -> str:
        """The volume that came of it cannot be used on the node."""
        name = claim["spec"]["volumeName"]
        volume = self._volumes.volumes.get(name)
        row = self._cluster.nodes.row_of.get(self._node)
        affinity = node_affinity_of(volume) if volume is not None else None
        if affinity is None or row is None or self._cluster.matcher.mask(affinity)[row]:
            return ""
        return f'pv "{name}" node affinity doesn\'t match node "{self._node}": no matching NodeSelectorTerms'
