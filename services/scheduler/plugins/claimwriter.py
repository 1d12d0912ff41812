"""What DynamicResources writes: whose the claims are, which devices they have, and the claims it makes for extended resources."""

from __future__ import annotations

from typing import Any

from kubecosm.api import names
from kubecosm.api.meta import key_of
from kubecosm.api.resources import Object

from ..deadline import within
from ..dra.binding import failure_of, is_prepared, needs_preparing, preparing_drivers
from ..dra.state import allocation_in, reservations_of
from ..framework.handle import Handle
from ..framework.status import Status, error
from ..state.podinfo import PodInfo
from .deviceclaims import PodClaims

TIMEOUT = "device binding timeout"


class ClaimWriter:
    """Effects on ResourceClaims, and waiting for what drivers write there."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._effects = handle.effects

    def deallocate(self, claim: Object) -> None:
        """Give the devices of an idle claim back, in the background."""
        nothing = {"allocation": None, "reservedFor": None, "devices": None}
        self._later("deallocate", self._patch(claim, {"metadata": _version(claim), "status": nothing}))

    def unreserve(self, claim: Object, pod: PodInfo) -> None:
        """The claim is the pod's no more."""
        others = [user for user in reservations_of(claim) if user.get("uid") != pod.uid]
        self._later("unreserve-claim", self._patch(claim, {"metadata": _version(claim), "status": {"reservedFor": others or None}}))

    def discard(self, claim: Object) -> None:
        """Delete a claim that was made for a pod's extended resources."""
        self._later("delete-claim", self._delete(claim))

    def _later(self, name: str, work: Any) -> None:
        assert self._handle.runner is not None, "plugins run inside a scheduler"
        self._handle.runner.spawn(name, work)

    async def bind_all(self, claims: PodClaims, pod: PodInfo) -> None:
        """Tell the API server whose the claims are and which their devices (bindClaim)."""
        for needs, allocation in zip(claims.reserved_needs, claims.allocations, strict=True):
            claim = needs.claim
            if "name" not in claim["metadata"]:
                claim = claims.created = await self._create(claim)
            claims.reserved.append(await self._bind(claim, pod, allocation))
        if claims.created is not None and claims.mapped is not None:
            claims.created = claims.reserved[-1]
            status = {"requestMappings": list(claims.mapped.mappings), "resourceClaimName": claims.created["metadata"]["name"]}
            await self._effects.patch_status(pod, {"extendedResourceClaimStatus": status})
        for claim in claims.allocated:
            if all(user.get("uid") != pod.uid for user in reservations_of(claim)):
                claims.reserved.append(await self._bind(claim, pod, None))

    async def _create(self, claim: Object) -> Object:
        created = None
        try:
            created = await self._effects.create_resource_claim(claim)
            return created
        finally:
            if self._handle.claim_created is not None:
                self._handle.claim_created("failure" if created is None else "success")

    async def wait_prepared(self, claims: PodClaims, pod: PodInfo, node: str, seconds_max: float) -> Status | None:
        """Until the drivers say that the devices are ready (isPodReadyForBinding)."""
        waiting = {"/".join(key_of(claim)): claim for claim in (*claims.reserved, *claims.allocated) if _is_unprepared(claim)}
        if not waiting:
            return None
        note = f"waiting for binding conditions for device on node {node}"
        self._effects.event(pod, "Normal", "BindingConditionsPending", "Scheduling", note)
        failures: list[str] = []

        async def wait() -> None:
            failures.extend([await self._prepared(key) for key in waiting])

        started = self._handle.clock.monotonic()
        in_time = await within(self._handle.clock, seconds_max, wait())
        why = next(filter(None, failures), "") if in_time else TIMEOUT
        if self._handle.devices_prepared is not None:
            profile = self._handle.framework.name if self._handle.framework is not None else ""
            drivers = {driver for claim in waiting.values() for driver in preparing_drivers(allocation_in(claim))}
            result = ("failure" if why else "success") if in_time else "timeout"
            self._handle.devices_prepared(profile, sorted(drivers), result, self._handle.clock.monotonic() - started)
        return error(why) if why else None

    async def _prepared(self, key: str) -> str:
        """Empty when the claim is ready, else what went wrong."""
        devices = self._handle.devices
        while True:
            claim = devices.claims.get(key)
            if claim is None:
                return f"claim {key} was deleted"
            if why := failure_of(claim):
                return why
            if allocation_in(claim) is not None and is_prepared(claim):
                return ""
            await devices.wait_claim_changed()

    async def _bind(self, claim: Object, pod: PodInfo, allocation: Object | None) -> Object:
        """The claim afterwards. A version that is not the newest is refused, and the pod is tried again."""
        meta = claim["metadata"]
        if allocation is not None and names.FINALIZER_RESOURCE_CLAIM not in (meta.get("finalizers") or ()):
            finalizers = [*(meta.get("finalizers") or ()), names.FINALIZER_RESOURCE_CLAIM]
            claim = await self._write(claim, {"metadata": {**_version(claim), "finalizers": finalizers}}, "")
        user = {"resource": "pods", "name": pod.name, "uid": pod.uid}
        status: Object = {"reservedFor": [*reservations_of(claim), user]}
        if allocation is not None:
            status["allocation"] = allocation
        return await self._write(claim, {"metadata": _version(claim), "status": status}, "status")

    async def _patch(self, claim: Object, patch: Object) -> None:
        await self._write(claim, patch, "status")

    async def _delete(self, claim: Object) -> None:
        meta = claim["metadata"]
        left = [one for one in meta.get("finalizers") or () if one != names.FINALIZER_RESOURCE_CLAIM]
        if len(left) < len(meta.get("finalizers") or ()):
            await self._write(claim, {"metadata": {**_version(claim), "finalizers": left}}, "")
        await self._effects.delete_resource_claim(meta["namespace"], meta["name"], meta.get("uid", ""))

    async def _write(self, claim: Object, patch: Object, subresource: str) -> Object:
        meta = claim["metadata"]
        return await self._effects.patch_resource_claim(meta["namespace"], meta["name"], patch, subresource)


def _is_unprepared(claim: Object) -> bool:
    return needs_preparing(allocation_in(claim)) and not is_prepared(claim)


def _version(claim: Object) -> Object:
    meta = claim["metadata"]
    return {"resourceVersion": meta.get("resourceVersion", ""), "uid": meta.get("uid", "")}
