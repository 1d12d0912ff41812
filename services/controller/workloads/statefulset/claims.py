"""PersistentVolumeClaims of a StatefulSet's pods: made before the pod, and owned as the retention policy says.

Imitates stateful_pod_control.go and the claim parts of stateful_set_utils.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.meta import Key, controller_ref, is_deleting, uid_of
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Object, Resource
from kubecosm.client.controller import Context, ReconcileError

from .identity import claims, is_in_range, ordinal_of


class ClaimNotReady(ReconcileError):
    """A claim could not be made, or is on its way out: the pod must wait."""


def _retention(statefulset: Object) -> tuple[bool, bool]:
    """(delete claims with the StatefulSet, delete claims on scale-down)."""
    policy = statefulset["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") == "Delete", policy.get("whenScaled") == "Delete"


def _references(claim: Object) -> list[Object]:
    found: list[Object] = claim["metadata"].get("ownerReferences") or []
    return found


def _names(ref: Object, obj: Object, resource: Resource) -> bool:
    """The reference is to an object of this kind and name, whatever its uid."""
    return (ref.get("apiVersion"), ref["kind"], ref["name"]) == (resource.api_version, resource.kind, obj["metadata"]["name"])


def _is_stale(claim: Object, obj: Object, resource: Resource) -> bool:
    """The claim belongs to an earlier object of this name."""
    first = next((ref for ref in _references(claim) if _names(ref, obj, resource)), None)
    return first is not None and first["uid"] != uid_of(obj)


def has_conflict(statefulset: Object, pod: Object, claim: Object) -> bool:
    """Somebody else controls a claim that the retention policy wants to manage (hasUnexpectedController)."""
    if not any(_retention(statefulset)):
        return False
    for ref in _references(claim):
        if _names(ref, statefulset, STATEFULSETS):
            foreign = ref["uid"] != uid_of(statefulset)
        elif _names(ref, pod, PODS):
            foreign = ref["uid"] != uid_of(pod)
        else:
            foreign = bool(ref.get("controller"))
        if foreign:
            return True
    return False


def plan_claim_owners(statefulset: Object, pod: Object, claim: Object) -> list[Object] | None:
    """The ownerReferences the claim shall have by the retention policy; None if they are right, or not ours to change.

    Condemned pods own their claims when scale-down deletes; else the StatefulSet owns them when its deletion deletes.
    """
    if _is_stale(claim, statefulset, STATEFULSETS) or _is_stale(claim, pod, PODS):
        return None
    current = _references(claim)
    ours = {uid_of(statefulset), uid_of(pod)} - {""}
    others = [ref for ref in current if not _names(ref, statefulset, STATEFULSETS) and not _names(ref, pod, PODS)]
    if has_conflict(statefulset, pod, claim):
        return others if any(ref["uid"] in ours for ref in current) else None
    when_deleted, when_scaled = _retention(statefulset)
    by_pod = when_scaled and not is_in_range(statefulset, ordinal_of(pod))
    wanted = [controller_ref(statefulset, STATEFULSETS)] if when_deleted and not by_pod else []
    wanted += [controller_ref(pod, PODS)] if by_pod and uid_of(pod) else []
    right = all(ref.get("controller") for ref in current if ref["uid"] in ours)
    if right and {ref["uid"] for ref in wanted} == {ref["uid"] for ref in current if ref["uid"] in ours}:
        return None
    return [*others, *wanted]


def _existing(ctx: Context, statefulset: Object, pod: Object) -> Iterator[Object]:
    """The pod's claims that the cache has."""
    for body in claims(statefulset, ordinal_of(pod)):
        claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(body["metadata"]["namespace"], body["metadata"]["name"]))
        if claim is not None:
            yield claim


def is_claim_stale(ctx: Context, statefulset: Object, pod: Object) -> bool:
    """A claim of this new pod goes with the pod of its name that was scaled down, so the pod must not begin with it."""
    if not _retention(statefulset)[1]:
        return False
    return any(_is_stale(claim, pod, PODS) for claim in _existing(ctx, statefulset, pod))


async def create_claims(ctx: Context, statefulset: Object, pod: Object) -> None:
    """Create the pod's claims that are missing; ClaimNotReady if that fails or one is on its way out."""
    failures: list[str] = []
    for body in claims(statefulset, ordinal_of(pod)):
        meta = body["metadata"]
        existing = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(meta["namespace"], meta["name"]))
        if existing is None:
            await _create_claim(ctx, statefulset, pod, body, failures.append)
        elif is_deleting(existing):
            failures.append(f"pvc {meta['name']} is being deleted")
    if failures:
        raise ClaimNotReady(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")


async def _create_claim(ctx: Context, statefulset: Object, pod: Object, body: Object, fail: Callable[[str], None]) -> None:
    if owners := plan_claim_owners(statefulset, pod, body):
        body["metadata"]["ownerReferences"] = owners
    name = body["metadata"]["name"]
    names = f"Claim {name} {{}}Pod {pod['metadata']['name']} in StatefulSet {statefulset['metadata']['name']}"
    try:
        ctx.expect_written(await ctx.client.create(PERSISTENTVOLUMECLAIMS, body, body["metadata"]["namespace"]))
    except AlreadyExists:
        return  # the cache was behind
    except ApiError as error:
        ctx.recorder.event(statefulset, STATEFULSETS, "Warning", "FailedCreate", f"create {names.format('for ')} failed error: {error}")
        fail(f"failed to create PVC {name}: {error}")
        return
    ctx.recorder.event(statefulset, STATEFULSETS, "Normal", "SuccessfulCreate", f"create {names.format('')} success")


def are_claims_settled(ctx: Context, statefulset: Object, pod: Object) -> bool:
    """The pod's claims are owned as the retention policy says."""
    return all(plan_claim_owners(statefulset, pod, claim) is None for claim in _existing(ctx, statefulset, pod))


async def fix_claim_owners(ctx: Context, statefulset: Object, pod: Object) -> None:
    """Bring the owners of existing claims in line with the retention policy; an event tells of claims that others control."""
    for claim in _existing(ctx, statefulset, pod):
        if has_conflict(statefulset, pod, claim):
            message = (
                f"PersistentVolumeClaim {claim['metadata']['name']} has a conflicting OwnerReference that acts as a managing controller, "
                "the retention policy is ignored for this claim"
            )
            ctx.recorder.event(statefulset, STATEFULSETS, "Warning", "ConflictingController", message)
        owners = plan_claim_owners(statefulset, pod, claim)
        if owners is not None:
            updated = {**claim, "metadata": {**claim["metadata"], "ownerReferences": owners}}
            ctx.expect_written(await ctx.client.update(PERSISTENTVOLUMECLAIMS, updated))
