"""PersistentVolumeClaims of a StatefulSet's pods: made before the pod, and owned as the retention policy says.

Imitates stateful_pod_control.go and the claim parts of stateful_set_utils.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.meta import Key, controller_ref, is_deleting, uid_of
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Object
from kubecosm.client.controller import Context

from .identity import claims, is_in_range, ordinal_of


class ClaimNotReady(Exception):
    """The claim belongs to an earlier pod or is being deleted; its going will bring the next sync."""


def _retention(statefulset: Object) -> tuple[bool, bool]:
    """(delete claims with the StatefulSet, delete claims on scale-down)."""
    policy = statefulset["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") == "Delete", policy.get("whenScaled") == "Delete"


def plan_claim_owners(statefulset: Object, pod: Object, claim: Object) -> list[Object] | None:
    """The ownerReferences the claim shall have by the retention policy; None if it has them already.

    Condemned pods own their claims when scale-down deletes; else the StatefulSet owns them when its deletion deletes.
    """
    when_deleted, when_scaled = _retention(statefulset)
    condemned = not is_in_range(statefulset, ordinal_of(pod))
    by_pod = when_scaled and condemned
    by_set = when_deleted and not by_pod
    current: list[Object] = claim["metadata"].get("ownerReferences") or []
    others = [ref for ref in current if ref["uid"] not in (uid_of(statefulset), uid_of(pod))]
    wanted = list(others)
    if by_set:
        wanted.append(controller_ref(statefulset, STATEFULSETS))
    if by_pod and uid_of(pod):
        wanted.append(controller_ref(pod, PODS))
    return None if {ref["uid"] for ref in wanted} == {ref["uid"] for ref in current} else wanted


async def create_claims(ctx: Context, statefulset: Object, pod: Object) -> None:
    """Create the pod's claims that are missing; ClaimNotReady if one is on its way out."""
    for body in claims(statefulset, ordinal_of(pod)):
        meta = body["metadata"]
        existing = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(meta["namespace"], meta["name"]))
        if existing is None:
            await _create_claim(ctx, statefulset, pod, body)
        elif is_deleting(existing):
            raise ClaimNotReady(f"pvc {meta['name']} is being deleted")


async def _create_claim(ctx: Context, statefulset: Object, pod: Object, body: Object) -> None:
    if owners := plan_claim_owners(statefulset, pod, body):
        body["metadata"]["ownerReferences"] = owners
    names = f"Claim {body['metadata']['name']} {{}}Pod {pod['metadata']['name']} in StatefulSet {statefulset['metadata']['name']}"
    try:
        ctx.expect_written(await ctx.client.create(PERSISTENTVOLUMECLAIMS, body, body["metadata"]["namespace"]))
    except AlreadyExists:
        return  # the cache was behind
    except ApiError as error:
        ctx.recorder.event(statefulset, STATEFULSETS, "Warning", "FailedCreate", f"create {names.format('for ')} failed error: {error}")
        raise
    ctx.recorder.event(statefulset, STATEFULSETS, "Normal", "SuccessfulCreate", f"create {names.format('')} success")


async def fix_claim_owners(ctx: Context, statefulset: Object, pods: Sequence[Object]) -> None:
    """Bring the owners of existing claims in line with the retention policy."""
    for pod in pods:
        for body in claims(statefulset, ordinal_of(pod)):
            claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(body["metadata"]["namespace"], body["metadata"]["name"]))
            owners = None if claim is None else plan_claim_owners(statefulset, pod, claim)
            if claim is not None and owners is not None:
                updated = {**claim, "metadata": {**claim["metadata"], "ownerReferences": owners}}
                ctx.expect_written(await ctx.client.update(PERSISTENTVOLUMECLAIMS, updated))
