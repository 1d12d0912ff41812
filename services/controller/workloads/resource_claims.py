"""Resource claim controller: makes the claims of pods from templates, and takes claims back from pods that are done.

Watches Pods and ResourceClaims. Writes ResourceClaims, their status, and the status of Pods. Imitates pkg/controller/resourceclaim. Work
items are `pod:<name>` and `claim:<name>`. The scheduler reserves claims for the pods it places; for pods that were placed by hand, this
controller does. Left out: claims of pod groups (alpha).
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.meta import Key, annotations_of, controller_ref, is_controlled_by, is_deleting, key_of, uid_of
from kubecosm.api.names import ANNOTATION_POD_CLAIM_NAME, FINALIZER_RESOURCE_CLAIM
from kubecosm.api.resources import PODS, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, Object
from kubecosm.client.controller import OWNER_INDEXERS, Context, ControllerSpec, Reader, ReconcileError, Result, done
from kubecosm.client.http import PatchType
from kubecosm.client.metrics import COUNTER, Family

from ..common.deviceclaims import INDEX_CLAIM_USER, claim_keys, claim_names, extended_claim_name, generated
from ..common.pods import is_terminal, node_of

POD, CLAIM = "pod:", "claim:"
CREATES = Family(
    "resourceclaim_controller_creates_total", COUNTER,
    "Number of ResourceClaims creation requests, categorized by creation status and admin access", ("status", "admin_access"),
)  # fmt: skip
GENERATED_BASE_MAX = 57
"""What a generated name may be made of, so that a hyphen and five random characters fit behind."""
RESERVED_MAX = 256
"""So many users a claim can have."""


def templated(pod: Object) -> list[Object]:
    """The entries of spec.resourceClaims that name a template."""
    return [wanted for wanted in pod["spec"].get("resourceClaims") or () if wanted.get("resourceClaimTemplateName")]


def is_done(pod: Object) -> bool:
    """The pod does not use its devices any more, or never will."""
    return is_terminal(pod) or (is_deleting(pod) and not node_of(pod))


def generated_base(pod_name: str, entry: str) -> str:
    """generateName of a claim; where it would be too long, both its parts are cut in proportion."""
    base = f"{pod_name}-{entry}-"
    if len(base) <= GENERATED_BASE_MAX:
        return base
    return f"{pod_name[: len(pod_name) * GENERATED_BASE_MAX // len(base)]}-{entry[: len(entry) * GENERATED_BASE_MAX // len(base)]}"


def plan_reservation(pod: Object, claim: Object) -> list[Object] | None:
    """status.reservedFor with a pod that was placed without the scheduler's help; None if it is there, or must not be."""
    status = claim.get("status") or {}
    users = status.get("reservedFor") or []
    if not status.get("allocation") or len(users) >= RESERVED_MAX or any(user.get("uid") == uid_of(pod) for user in users):
        return None
    return [*users, {"resource": PODS.plural, "name": pod["metadata"]["name"], "uid": uid_of(pod)}]


def plan_claim(pod: Object, wanted: Object, template: Object) -> Object:
    """The claim of one entry of spec.resourceClaims."""
    meta = (template["spec"].get("metadata")) or {}
    return {
        "apiVersion": RESOURCECLAIMS.api_version,
        "kind": RESOURCECLAIMS.kind,
        "metadata": {
            "generateName": generated_base(pod["metadata"]["name"], wanted["name"]),
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
        if wanted["name"] in known and not name:
            continue  # it was found that no claim is needed
        existing = ctx.cache(RESOURCECLAIMS).get(Key(key.namespace, name)) if name else None
        if existing is None:
            made.append({"name": wanted["name"], "resourceClaimName": await _ensure(ctx, pod, wanted)})
        elif not is_controlled_by(existing, pod):
            return  # nothing can be done for the pod until that other claim is gone
    if made:
        body = {"metadata": {"uid": uid_of(pod)}, "status": {"resourceClaimStatuses": made}}
        patched = await ctx.client.patch(PODS, key.name, body, key.namespace, patch_type=PatchType.STRATEGIC, subresource="status")
        ctx.expect_written(patched)
    if node_of(pod):
        await _reserve(ctx, pod)


async def _reserve(ctx: Context, pod: Object) -> None:
    for name in sorted(claim_names(pod) - {extended_claim_name(pod)}):
        claim = ctx.cache(RESOURCECLAIMS).get(Key(pod["metadata"]["namespace"], name))
        users = plan_reservation(pod, claim) if claim is not None else None
        if claim is not None and users is not None:
            status = {**claim["status"], "reservedFor": users}
            ctx.expect_written(await ctx.client.update(RESOURCECLAIMS, {**claim, "status": status}, subresource="status"))


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
        created = await _create(ctx, plan_claim(pod, wanted, template), namespace)
    except (ApiError, ReconcileError) as error:
        why = f"create ResourceClaim : {error}" if isinstance(error, ApiError) else str(error)
        message = f"PodResourceClaim {wanted['name']}: {why}"
        ctx.recorder.event(pod, PODS, "Warning", "FailedResourceClaimCreation", message)
        raise
    ctx.expect_written(created)
    return str(created["metadata"]["name"])


async def _create(ctx: Context, claim: Object, namespace: str) -> Object:
    requests = (claim["spec"].get("devices") or {}).get("requests") or ()
    admin, result = any((one.get("exactly") or {}).get("adminAccess") for one in requests), "failure"
    try:
        created = await ctx.client.create(RESOURCECLAIMS, claim, namespace)
        result = "success"
        return created
    finally:
        ctx.meter.add(CREATES, result, str(admin).lower())


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
    if kept:
        return
    unallocated = not (claim.get("status") or {}).get("allocation")
    if (releases or is_deleting(claim)) and unallocated and FINALIZER_RESOURCE_CLAIM in (claim["metadata"].get("finalizers") or ()):
        claim = await _remove_finalizer(ctx, claim)  # else a scheduler is about to allocate, which writes it first
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
    """The pod that the claim was made for has ended, or another has its name. Where there is none, the garbage collector takes it."""
    for reference in claim["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference["kind"] == PODS.kind:
            pod = ctx.cache(PODS).get(Key(claim["metadata"]["namespace"], reference["name"]))
            return pod is not None and (uid_of(pod) != reference["uid"] or is_done(pod))
    return False


# ---- what concerns whom


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """The pod while claims are to be made or reserved for it, and its claims when it is done or gone."""
    if not pod["spec"].get("resourceClaims") and not extended_claim_name(pod):
        return
    key = key_of(pod)
    if templated(pod) or node_of(pod):
        yield Key(key.namespace, f"{POD}{key.name}")
    for name in claim_names(pod):
        yield Key(key.namespace, f"{CLAIM}{name}")


def map_claim(reader: Reader, claim: Object) -> Iterable[Key]:
    """The claim; the pod that it was made for; and pods that may get another one, or that are on nodes without its being reserved."""
    key = key_of(claim)
    yield Key(key.namespace, f"{CLAIM}{key.name}")
    for reference in claim["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference["kind"] == PODS.kind:
            yield Key(key.namespace, f"{POD}{reference['name']}")
    gone = key not in reader.cache(RESOURCECLAIMS)
    for pod in reader.cache(PODS).by_index(INDEX_CLAIM_USER, str(key)):
        if gone or (node_of(pod) and plan_reservation(pod, claim) is not None):
            yield Key(key.namespace, f"{POD}{pod['metadata']['name']}")


def pod_matters(old: Object, new: Object) -> bool:
    if is_done(old) != is_done(new) or generated(old) != generated(new):
        return True
    has_claims = bool(new["spec"].get("resourceClaims"))
    return (has_claims and node_of(old) != node_of(new)) or extended_claim_name(old) != extended_claim_name(new)


SPEC = ControllerSpec(
    name="resource_claim",
    component="resource_claim",
    watches={PODS: map_pod, RESOURCECLAIMS: map_claim},
    reads=(RESOURCECLAIMTEMPLATES,),
    indexers={RESOURCECLAIMS: OWNER_INDEXERS, PODS: {INDEX_CLAIM_USER: claim_keys}},
    cares={PODS: pod_matters},
    metrics=(CREATES,),
    workers=10,
)
