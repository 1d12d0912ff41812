"""Namespace controller: empties a namespace that is being deleted, tells what blocks it, and lets it go.

Watches Namespaces, and Pods for the moment the last one is gone. Deletes objects of every resource; writes the Namespace's conditions and
its finalizers. Imitates pkg/controller/namespace/deletion: pods go first, the rest when no pod is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.errors import ApiError, Conflict, MethodNotAllowed, NotFound
from kubecosm.api.meta import Key, is_deleting, key_of
from kubecosm.api.names import FINALIZER_KUBERNETES
from kubecosm.api.resources import NAMESPACES, PODS, Object, Resource
from kubecosm.api.times import parse_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import TRANSPORT_ERRORS
from kubecosm.client.workqueue import BACKOFF_SECONDS_FIRST

from ..common.batches import all_settled
from ..common.conditions import make, replaced
from ..common.discovery import discover
from ..common.pods import is_terminal

RETRY_SECONDS_FIRST = 0.25
RETRY_SECONDS_MAX = 8.0
"""Content that waits for finalizers or grace is looked for again after a tenth of the time that the namespace has been terminating."""
ERROR_SECONDS_MAX = 60.0
"""The longest back-off of a namespace whose deletion meets errors."""

OK = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
    "NamespaceDeletionContentFailure": ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}
"""Condition type → reason and message while nothing is wrong; in the order they are written."""


@dataclass
class Findings:
    """What one pass over a namespace's content met."""

    discovery_error: str = ""
    stale_groups: int = 0
    """How many group versions the discovery error is about; 0: all of them."""
    delete_errors: list[str] = field(default_factory=list)
    remaining: Counter[str] = field(default_factory=Counter)
    """Objects left, by `plural.group` (the dot stays for the core group)."""
    finalizers: Counter[str] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        return not self.discovery_error and not self.delete_errors and not self.remaining


def plan_conditions(namespace: Object, findings: Findings, now: datetime) -> list[Object]:
    """The Namespace's conditions; all five are written once there is anything to tell, as Kubernetes does."""
    wrong: dict[str, tuple[str, str]] = {}
    if findings.discovery_error:
        prefix = f"Discovery failed for some groups, {findings.stale_groups} failing: " if findings.stale_groups else ""
        wrong["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", prefix + findings.discovery_error)
    if findings.delete_errors:
        told = ", ".join(sorted(findings.delete_errors))
        message = f"Failed to delete all resource types, {len(findings.delete_errors)} remaining: {told}"
        wrong["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if findings.remaining:
        counts = [f"{name} has {count} resource instances" for name, count in sorted(findings.remaining.items())]
        wrong["NamespaceContentRemaining"] = ("SomeResourcesRemain", f"Some resources are remaining: {', '.join(counts)}")
    if findings.finalizers:
        counts = [f"{name} in {count} resource instances" for name, count in sorted(findings.finalizers.items())]
        message = f"Some content in the namespace has finalizers remaining: {', '.join(counts)}"
        wrong["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    conditions = (namespace.get("status") or {}).get("conditions") or []
    for condition_type, ok in OK.items():
        reason, message = wrong.get(condition_type, ok)
        conditions = replaced(conditions, make(condition_type, str(condition_type in wrong), reason, message, now))
    return conditions


def plan_retry_seconds(namespace: Object, now: datetime) -> float:
    """When to look again: soon at first, ever later the longer it takes."""
    return min(max(_age(namespace, now) / 10, RETRY_SECONDS_FIRST), RETRY_SECONDS_MAX)


def count_remaining(findings: Findings, resource: Resource, items: Sequence[Object], namespace: Object, now: datetime) -> None:
    """Add what is left of one resource to the findings; what neither a finalizer nor a grace period holds should not be there."""
    held = False
    for item in items:
        findings.remaining[f"{resource.plural}.{resource.group}"] += 1
        for finalizer in item["metadata"].get("finalizers") or ():
            findings.finalizers[finalizer] += 1
            held = True
    if items and not held and not (resource == PODS and may_still_run(items, namespace, now)):
        gvr = f"{resource.group}/{resource.version}, Resource={resource.plural}"
        findings.delete_errors.append(f"unexpected items still remain in namespace: {namespace['metadata']['name']} for gvr: {gvr}")


def may_still_run(pods: Iterable[Object], namespace: Object, now: datetime) -> bool:
    """Whether the longest grace period of these pods, counted from the namespace's deletion, is not over."""
    graces = [pod["spec"].get("terminationGracePeriodSeconds") or 0 for pod in pods if not is_terminal(pod)]
    return _age(namespace, now) < max(graces, default=0)


def _age(namespace: Object, now: datetime) -> float:
    """Seconds since it was deleted."""
    deleted = namespace["metadata"].get("deletionTimestamp")
    return (now - parse_time(deleted)).total_seconds() if deleted else 0.0


async def _delete_all(ctx: Context, resource: Resource, namespace: str) -> list[Object]:
    """Delete every object of the resource; returns what is still there (terminating, or held by finalizers)."""
    try:
        if "deletecollection" in resource.verbs:
            await ctx.client.delete_collection(resource, namespace, options={"propagationPolicy": "Background"})
        left = (await ctx.client.list(resource, namespace)).get("items") or [] if "list" in resource.verbs else []
    except (NotFound, MethodNotAllowed):
        return []  # the resource has gone meanwhile, or cannot be deleted
    if "deletecollection" in resource.verbs:
        return list(left)
    for item in left:
        try:
            await ctx.client.delete(resource, item["metadata"]["name"], namespace, options={"propagationPolicy": "Background"})
        except NotFound:
            continue
    return list((await ctx.client.list(resource, namespace)).get("items") or []) if left else []


async def _sweep(ctx: Context, resources: Sequence[Resource], namespace: Object, findings: Findings) -> None:
    results = await all_settled([_delete_all(ctx, resource, namespace["metadata"]["name"]) for resource in resources])
    for resource, result in zip(resources, results, strict=True):
        if isinstance(result, Exception):
            findings.delete_errors.append(str(result))
        else:
            count_remaining(findings, resource, result, namespace, ctx.clock.now())


async def _empty(ctx: Context, namespace: Object) -> Findings:
    """Delete the content: pods first, everything else once they are gone."""
    findings = Findings()
    try:
        found = await discover(ctx.client)
    except (ApiError, *TRANSPORT_ERRORS) as error:
        findings.discovery_error = str(error)
        return findings
    findings.discovery_error, findings.stale_groups = found.complaint, len(found.stale)
    resources = [r for r in found.resources if r.namespaced and "delete" in r.verbs]
    await _sweep(ctx, [PODS], namespace, findings)
    if not findings.remaining:
        await _sweep(ctx, [r for r in resources if (r.group, r.plural) != ("", "pods")], namespace, findings)
    return findings


async def _finalize(ctx: Context, namespace: Object) -> None:
    """Take our finalizer away; the server deletes the namespace when none is left."""
    spec: Mapping[str, list[str]] = namespace.get("spec") or {}
    left = [name for name in spec.get("finalizers") or () if name != FINALIZER_KUBERNETES]
    body = {**namespace, "spec": {**spec, "finalizers": left}}
    await ctx.client.update(NAMESPACES, body, subresource="finalize")


async def reconcile(ctx: Context, key: Key) -> Result:
    cached = ctx.cache(NAMESPACES).get(key)
    if cached is None or not is_deleting(cached) or FINALIZER_KUBERNETES not in ((cached.get("spec") or {}).get("finalizers") or ()):
        return done()
    findings = await _empty(ctx, cached)
    now = ctx.clock.now()
    try:
        namespace = await ctx.client.get(NAMESPACES, key.name)
        conditions = plan_conditions(namespace, findings, now)
        if conditions != ((namespace.get("status") or {}).get("conditions") or []):
            status = {**(namespace.get("status") or {}), "phase": "Terminating", "conditions": conditions}
            namespace = await ctx.client.update(NAMESPACES, {**namespace, "status": status}, subresource="status")
        if findings.is_empty:
            await _finalize(ctx, namespace)
            return done()
    except NotFound:
        return done()
    except Conflict:
        return requeue(after_seconds=0)
    return requeue(after_seconds=plan_retry_seconds(namespace, now))


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod that is gone may have been the last one of a terminating namespace."""
    if not is_deleting(pod):
        return ()
    key = Key("", pod["metadata"]["namespace"])
    namespace = reader.cache(NAMESPACES).get(key)
    return (key,) if namespace is not None and is_deleting(namespace) and key_of(pod) not in reader.cache(PODS) else ()


SPEC = ControllerSpec(
    name="namespace", primary=NAMESPACES, watches={PODS: map_pod}, workers=16, retry_seconds=(BACKOFF_SECONDS_FIRST, ERROR_SECONDS_MAX)
)
