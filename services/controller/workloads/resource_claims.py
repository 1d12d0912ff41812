"""Resource claim controller: makes the claims of pods from templates, and takes claims back from pods that are done.

Watches Pods and ResourceClaims. Writes ResourceClaims, their status, and the status of Pods. Imitates pkg/controller/resourceclaim. Work
items are `pod:<name>` and `claim:<name>`. Left out: claims for extended resources, and reservations for pods that were placed by hand.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.meta import Key, annotations_of, controller_ref, is_controlled_by, is_deleting, key_of, uid_of
from kubecosm.api.names import ANNOTATION_POD_CLAIM_NAME, FINALIZER_RESOURCE_CLAIM
from kubecosm.api.resources import PODS, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, Object
from kubecosm.client.controller import OWNER_INDEXERS, Context, ControllerSpec, Reader, ReconcileError, Result, done
from kubecosm.client.http import PatchType

from ..common.pods import is_terminal, node_of

POD, CLAIM = "pod:", "claim:"


def templated(pod: Object) -> list[Object]:
    """The entries of spec.resourceClaims that name a template."""
    return [wanted for wanted in pod["spec"].get("resourceClaims") or () if wanted.get("resourceClaimTemplateName")]


def generated(pod: Object) -> dict[str, str]:
    """Entry of spec.resourceClaims → name of the claim that was made for it."""
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    return {status["name"]: status.get("resourceClaimName") or "" for status in statuses}


def claim_names(pod: Object) -> set[str]:
    """Every claim that the pod uses."""
    named = {wanted["resourceClaimName"] for wanted in pod["spec"].get("resourceClaims") or () if wanted.get("resourceClaimName")}
    named |= {name for name in generated(pod).values() if name}
    extended = extended_claim_name(pod)
    return named | {extended} if extended else named


def extended_claim_name(pod: Object) -> str:
    """The claim that the scheduler has made for the pod's extended resources; empty if there is none."""
    name: str = ((pod.get("status") or {}).get("extendedResourceClaimStatus") or {}).get("resourceClaimName") or ""
    return name


def is_done(pod: Object) -> bool:
    """The pod does not use its devices any more, or never will."""
    return is_terminal(pod) or (is_deleting(pod) and not node_of(pod))


def plan_claim(pod: Object, wanted: Object, template: Object) -> Object:
    """The claim of one entry of spec.resourceClaims."""
    meta = (template["spec"].get("metadata")) or {}
    return {
        "apiVersion": RESOURCECLAIMS.api_version,
        "kind": RESOURCECLAIMS.kind,
        "metadata": {
            "generateName": f"{pod['metadata']['name']}-{wanted['name']}-",
            "namespace": pod["metadata"]["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), ANNOTATION_POD_CLAIM_NAME: wanted["name"]},
            "ownerReferences": [controller_ref(pod, PODS)],
        },
        "spec": template["spec"]["spec"],
    }


async def reconcile(ctx: Context, key: Key) -> Result:
    kind, _, name = key.name.partition(":")
    if kind == POD.rstrip(":"):
        await _sync_pod(ctx, Key(key.namespace, name))
    else:
        await _sync_claim(ctx, Key(key.namespace, name))
    return done()


# ---- claims from templates


async def _sync_pod(ctx: Context, key: Key) -> None:
    pod = ctx.cache(PODS).get(key)
    if pod is None or is_deleting(pod) or is_terminal(pod):
        return
    known = generated(pod)
    made: list[Object] = []
    for wanted in templated(pod):
        name = known.get(wanted["name"], "")
        existing = ctx.cache(RESOURCECLAIMS).get(Key(key.namespace, name)) if name else None
        if existing is None:
            made.append({"name": wanted["name"], "resourceClaimName": await _ensure(ctx, pod, wanted)})
        elif not is_controlled_by(existing, pod):
            raise ReconcileError(f"ResourceClaim {key.namespace}/{name} was not created for pod {key} (pod is not owner)")
    if made:
        body = {"metadata": {"uid": uid_of(pod)}, "status": {"resourceClaimStatuses": made}}
        patched = await ctx.client.patch(PODS, key.name, body, key.namespace, patch_type=PatchType.STRATEGIC, subresource="status")
        ctx.expect_written(patched)


async def _ensure(ctx: Context, pod: Object, wanted: Object) -> str:
    """The name of the pod's claim for one entry: one that was made before (and not written down), or a new one."""
    for claim in ctx.owned(RESOURCECLAIMS, pod):
        if annotations_of(claim).get(ANNOTATION_POD_CLAIM_NAME) == wanted["name"] and not is_deleting(claim):
            return str(claim["metadata"]["name"])
    namespace, template_name = pod["metadata"]["namespace"], wanted["resourceClaimTemplateName"]
    template = ctx.cache(RESOURCECLAIMTEMPLATES).get(Key(namespace, template_name))
    try:
        if template is None:
            missing = f'resourceclaimtemplate.resource.k8s.io "{template_name}" not found'
            raise ReconcileError(f'resource claim template "{template_name}": {missing}')
        created = await ctx.client.create(RESOURCECLAIMS, plan_claim(pod, wanted, template), namespace)
    except (ApiError, ReconcileError) as error:
        message = f"PodResourceClaim {wanted['name']}: {error}"
        ctx.recorder.event(pod, PODS, "Warning", "FailedResourceClaimCreation", message)
        raise
    ctx.expect_written(created)
    return str(created["metadata"]["name"])


# ---- reservations


async def _sync_claim(ctx: Context, key: Key) -> None:
    claim = ctx.cache(RESOURCECLAIMS).get(key)
    if claim is None:
        return
    status = claim.get("status") or {}
    reserved = status.get("reservedFor") or []
    kept = [user for user in reserved if await _still_uses(ctx, key.namespace, user)]
    releases = len(kept) < len(reserved) or bool(status.get("allocation") and not reserved and is_deleting(claim))
    if releases:
        claim = await _release(ctx, claim, kept)
    if kept or not (releases or is_deleting(claim)) or (claim.get("status") or {}).get("allocation"):
        return  # a scheduler that is about to allocate writes the finalizer first: it must stay
    if FINALIZER_RESOURCE_CLAIM in (claim["metadata"].get("finalizers") or ()):
        claim = await _remove_finalizer(ctx, claim)
    if not is_deleting(claim) and _owner_is_done(ctx, claim):
        try:
            await ctx.client.delete(RESOURCECLAIMS, key.name, key.namespace, options={"preconditions": {"uid": uid_of(claim)}})
        except NotFound:
            return


async def _still_uses(ctx: Context, namespace: str, user: Object) -> bool:
    """Users that are no pods are others' business. A pod that the cache does not know is asked for: the cache may be behind."""
    if user.get("resource") != "pods" or user.get("apiGroup"):
        return True
    pod = ctx.cache(PODS).get(Key(namespace, user["name"]))
    if pod is None:
        try:
            pod = await ctx.client.get(PODS, user["name"], namespace)
        except NotFound:
            return False
    return uid_of(pod) == user.get("uid") and not is_done(pod)


async def _release(ctx: Context, claim: Object, kept: list[Object]) -> Object:
    """Without users the devices are free again."""
    status: Object = {"reservedFor": kept or None}
    if not kept:
        status["allocation"] = status["devices"] = None
    return await _patch(ctx, claim, {"status": status}, "status")


async def _remove_finalizer(ctx: Context, claim: Object) -> Object:
    left = [name for name in claim["metadata"]["finalizers"] if name != FINALIZER_RESOURCE_CLAIM]
    return await _patch(ctx, claim, {"metadata": {"finalizers": left or None}}, "")


async def _patch(ctx: Context, claim: Object, change: Object, subresource: str) -> Object:
    """A merge patch of exactly this version of the claim; the claim afterwards."""
    meta = claim["metadata"]
    body = {**change, "metadata": {**change.get("metadata", {}), "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    patched = await ctx.client.patch(
        RESOURCECLAIMS, meta["name"], body, meta["namespace"], patch_type=PatchType.MERGE, subresource=subresource
    )
    ctx.expect_written(patched)
    return patched


def _owner_is_done(ctx: Context, claim: Object) -> bool:
    """The pod that the claim was made for has ended; where it is gone altogether, the garbage collector takes the claim."""
    for reference in claim["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference["kind"] == PODS.kind:
            pod = ctx.cache(PODS).get(Key(claim["metadata"]["namespace"], reference["name"]))
            return pod is not None and uid_of(pod) == reference["uid"] and is_done(pod)
    return False


# ---- what concerns whom


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """The pod while claims are to be made for it, and its claims when it is done or gone."""
    if not pod["spec"].get("resourceClaims") and not extended_claim_name(pod):
        return
    key = key_of(pod)
    if templated(pod):
        yield Key(key.namespace, f"{POD}{key.name}")
    for name in claim_names(pod):
        yield Key(key.namespace, f"{CLAIM}{name}")


def map_claim(reader: Reader, claim: Object) -> Iterable[Key]:
    """The claim, and the pod that it was made for: if the claim is deleted, the pod gets another."""
    key = key_of(claim)
    yield Key(key.namespace, f"{CLAIM}{key.name}")
    for reference in claim["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference["kind"] == PODS.kind:
            yield Key(key.namespace, f"{POD}{reference['name']}")


SPEC = ControllerSpec(
    name="resource_claim",
    component="resource_claim",
    watches={PODS: map_pod, RESOURCECLAIMS: map_claim},
    reads=(RESOURCECLAIMTEMPLATES,),
    indexers={RESOURCECLAIMS: OWNER_INDEXERS},
    cares={PODS: lambda old, new: is_done(old) != is_done(new) or generated(old) != generated(new)},
    workers=10,
)
