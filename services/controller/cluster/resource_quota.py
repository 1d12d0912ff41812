"""ResourceQuota controller: counts what a namespace uses of its quotas.

Watches ResourceQuotas and everything that is counted. Writes status.hard and status.used. Imitates pkg/controller/resourcequota and
pkg/quota/v1/evaluator/core. Refusing what exceeds a quota is admission's part. Leaves out scopes by priority class and volume attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from kubecosm.api.meta import Key, key_of
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import (
    CONFIGMAPS,
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
    STATEFULSETS,
    Object,
    Resource,
)
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.pods import is_terminal
from ..common.status import update_status

COUNTED: tuple[Resource, ...] = (
    PODS, SERVICES, SECRETS, CONFIGMAPS, PERSISTENTVOLUMECLAIMS, REPLICATIONCONTROLLERS, RESOURCEQUOTAS, DEPLOYMENTS, REPLICASETS,
    STATEFULSETS, DAEMONSETS, JOBS, CRONJOBS,
)  # fmt: skip
PLAIN = {r.plural: r for r in (PODS, SERVICES, SECRETS, CONFIGMAPS, PERSISTENTVOLUMECLAIMS, REPLICATIONCONTROLLERS, RESOURCEQUOTAS)}
"""Resources that a quota may name without `count/`."""
SERVICE_TYPES = {"services.nodeports": ("NodePort", "LoadBalancer"), "services.loadbalancers": ("LoadBalancer",)}
REST_SECONDS = 0.25
"""Counting follows a burst of changes a few times a second."""

Objects = Mapping[Resource, Iterable[Object]]
"""What a namespace holds of each counted resource."""


def is_best_effort(pod: Object) -> bool:
    """No container asks for or is limited in anything."""
    spec = pod["spec"]
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return not any((c.get("resources") or {}).get(kind) for c in containers for kind in ("requests", "limits"))


def in_scope(quota: Object, pod: Object) -> bool:
    """The pod is of the kind that the quota's scopes are about."""
    terminating = pod["spec"].get("activeDeadlineSeconds") is not None
    verdicts = {
        "BestEffort": is_best_effort(pod),
        "NotBestEffort": not is_best_effort(pod),
        "Terminating": terminating,
        "NotTerminating": not terminating,
    }
    return all(verdicts.get(scope, True) for scope in quota["spec"].get("scopes") or ())


def pod_amount(pod: Object, kind: str, resource: str) -> Quantity:
    """What the pod's containers ask for (kind `requests`) or are limited to (`limits`): the sum, or the largest init container."""
    spec = pod["spec"]

    def amount(container: Object) -> Quantity:
        return Quantity.of(((container.get("resources") or {}).get(kind) or {}).get(resource, 0))

    total = _sum(amount(container) for container in spec.get("containers") or ())
    return max([total, *(amount(container) for container in spec.get("initContainers") or ())])


def _sum(amounts: Iterable[Quantity]) -> Quantity:
    total = Quantity.of(0)
    for amount in amounts:
        total = total + amount
    return total


def _pods_used(quota: Object, name: str, pods: Iterable[Object]) -> str:
    counted = [pod for pod in pods if not is_terminal(pod) and in_scope(quota, pod)]
    if name in ("pods", "count/pods"):
        return str(len(counted))
    kind, _, resource = name.partition(".") if name.startswith(("requests.", "limits.")) else ("requests", "", name)
    return str(_sum(pod_amount(pod, kind, resource) for pod in counted))


def _claims_used(name: str, claims: Iterable[Object]) -> str:
    class_name, found, _ = name.partition(".storageclass.storage.k8s.io/")
    chosen = [c for c in claims if not found or c["spec"].get("storageClassName") == class_name]
    if name.endswith("persistentvolumeclaims"):
        return str(len(chosen))
    return str(_sum(Quantity.of(((c["spec"].get("resources") or {}).get("requests") or {}).get("storage", 0)) for c in chosen))


def plan_used(quota: Object, objects: Objects) -> dict[str, str]:
    """status.used for every resource of spec.hard that is understood."""
    used: dict[str, str] = {}
    by_count = {f"count/{resource.group_resource}": resource for resource in COUNTED}
    for name in quota["spec"].get("hard") or {}:
        resource = PLAIN.get(name) or by_count.get(name)
        if name in SERVICE_TYPES:
            types = Counter(service["spec"].get("type", "ClusterIP") for service in objects[SERVICES])
            used[name] = str(sum(types[kind] for kind in SERVICE_TYPES[name]))
        elif name == "requests.storage" or ".storageclass.storage.k8s.io/" in name:
            used[name] = _claims_used(name, objects[PERSISTENTVOLUMECLAIMS])
        elif resource == PODS or resource is None:
            used[name] = _pods_used(quota, name, objects[PODS])
        else:
            used[name] = str(sum(1 for _ in objects[resource]))
    return used


async def reconcile(ctx: Context, key: Key) -> Result:
    quota = ctx.cache(RESOURCEQUOTAS).get(key)
    if quota is None:
        return done()
    objects = {resource: ctx.cache(resource).list(key.namespace) for resource in COUNTED}
    hard = quota["spec"].get("hard") or {}
    status = {**(quota.get("status") or {}), "hard": hard, "used": plan_used(quota, objects)}
    await update_status(ctx, RESOURCEQUOTAS, quota, status)
    return done(rest_seconds=REST_SECONDS)


def map_counted(reader: Reader, obj: Object) -> Iterable[Key]:
    """The quotas of the namespace."""
    return [key_of(quota) for quota in reader.cache(RESOURCEQUOTAS).list(obj["metadata"]["namespace"])]


def amount_matters(old: Object, new: Object) -> bool:
    return is_terminal(old) != is_terminal(new) or old["spec"] != new["spec"]


def never(old: Object, new: Object) -> bool:
    """The number of objects does not change with their content."""
    return False


SPEC = ControllerSpec(
    name="resource_quota_controller_resource_changes",
    component="resourcequota-controller",
    primary=RESOURCEQUOTAS,
    watches={resource: map_counted for resource in COUNTED if resource != RESOURCEQUOTAS},
    cares={
        **{resource: never for resource in COUNTED if resource != RESOURCEQUOTAS},
        PODS: amount_matters,
        SERVICES: amount_matters,
        PERSISTENTVOLUMECLAIMS: amount_matters,
    },
    workers=5,
)
