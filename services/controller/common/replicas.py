"""The engine that ReplicaSets and ReplicationControllers share: so many pods of one template, and a status that counts them.

Imitates pkg/controller/replicaset/{replica_set,replica_set_utils}.go, where the ReplicationController too is an adapter over ReplicaSets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.meta import controller_of, is_deleting, labels_of, uid_of
from kubecosm.api.resources import PODS, Object, Resource
from kubecosm.client.controller import INDEX_CONTROLLER_UID, Context, Result, done, requeue
from kubecosm.client.metrics import HISTOGRAM, Family

from .adoption import claim, plan_claim
from .batches import all_settled, errors_of, slow_start
from .conditions import find, make, without
from .echoes import Echoes
from .pods import created_at, is_active, is_available, is_ready, is_terminating, rank_for_deletion, seconds_until_available
from .status import Patience, update_status
from .templates import create_pod, delete_pod, is_namespace_terminating, pod_from_template

BURST_REPLICAS = 500
"""At most so many pods are created or deleted by one sync."""
REST_SECONDS_PER_POD = 40e-6
"""Counting a thousand pods after each single change would cost more than creating them: a big owner takes changes in batches."""


AGE_RATIO = Family(
    "replicaset_controller_sorting_deletion_age_ratio", HISTOGRAM,
    "Ages of ready pods that a scale-down chose, each divided by the age of the youngest ready pod there was; should be below 2.",
    (), tuple(0.25 * 2**exponent for exponent in range(6)),
)  # fmt: skip
GROWTH_PATIENCE_SECONDS = 0.25
"""A status that says no more than that new pods exist waits so long for the first of them to be ready: one write instead of two."""


@dataclass(frozen=True)
class ReplicaKind:
    """What differs between the two kinds, and what one run of the controller remembers."""

    resource: Resource
    matcher: Callable[[Object], Callable[[Object], bool]]
    """From the owner to the predicate on pods that its selector stands for."""
    counts_terminating: bool
    patience: Patience = field(default_factory=lambda: Patience(GROWTH_PATIENCE_SECONDS))
    echoes: Echoes = field(default_factory=Echoes)


@dataclass(frozen=True)
class ReplicaPlan:
    """Create so many pods, delete these."""

    create: int = 0
    delete: tuple[Object, ...] = ()


def plan_replicas(owner: Object, active: Sequence[Object], related: Sequence[Object], now: datetime) -> ReplicaPlan:
    """What brings the number of active pods nearer to spec.replicas, at most BURST_REPLICAS at once; `related` ranks nodes."""
    if is_deleting(owner):
        return ReplicaPlan()
    surplus = len(active) - owner["spec"].get("replicas", 1)
    if surplus < 0:
        return ReplicaPlan(create=min(-surplus, BURST_REPLICAS))
    if surplus == 0:
        return ReplicaPlan()
    count = min(surplus, BURST_REPLICAS)
    ranked = rank_for_deletion(active, related, now) if count < len(active) else active
    return ReplicaPlan(delete=tuple(ranked[:count]))


def age_ratios(active: Sequence[Object], doomed: Sequence[Object], now: datetime) -> list[float]:
    """How much older than the youngest ready pod each ready pod is that goes: how well ages on a logarithmic scale do."""
    youngest = max((created for pod in active if is_ready(pod) and (created := created_at(pod))), default=now)
    ages = [now - created for pod in doomed if is_ready(pod) and (created := created_at(pod))]
    return [age / (now - youngest) if now > youngest else math.inf for age in ages]


def _failure_conditions(owner: Object, active_count: int, error: str | None, now: datetime) -> list[Object]:
    conditions = (owner.get("status") or {}).get("conditions") or []
    failure = find(conditions, "ReplicaFailure")
    if error is not None and failure is None:
        surplus = active_count - owner["spec"].get("replicas", 1)
        reason = "FailedCreate" if surplus < 0 else "FailedDelete" if surplus > 0 else ""
        return [*conditions, make("ReplicaFailure", "True", reason, error, now)]
    if error is None and failure is not None:
        return without(conditions, "ReplicaFailure")
    return list(conditions)


def plan_status(owner: Object, active: Sequence[Object], terminating_count: int | None, error: str | None, now: datetime) -> Object:
    """The status that these pods give; fields in the order of the Go type, zeros left out. None leaves terminatingReplicas out."""
    spec = owner["spec"]
    template_labels = ((spec["template"].get("metadata") or {}).get("labels") or {}).items()
    min_ready_seconds = spec.get("minReadySeconds", 0)
    ready = [pod for pod in active if is_ready(pod)]
    counts = {
        "fullyLabeledReplicas": sum(template_labels <= labels_of(pod).items() for pod in active),
        "readyReplicas": len(ready),
        "availableReplicas": sum(is_available(pod, min_ready_seconds, now) for pod in ready) if min_ready_seconds else len(ready),
    }
    status: Object = {"replicas": len(active), **{name: count for name, count in counts.items() if count}}
    if terminating_count is not None:
        status["terminatingReplicas"] = terminating_count
    if observed := owner["metadata"].get("generation", 0):
        status["observedGeneration"] = observed
    if conditions := _failure_conditions(owner, len(active), error, now):
        status["conditions"] = conditions
    return status


def is_mere_growth(owner: Object, status: Object) -> bool:
    """A change that says no more than that there are new pods, or that the owner was seen."""
    old = owner.get("status") or {}
    same = ("readyReplicas", "availableReplicas", "terminatingReplicas", "conditions")
    if status == old or status["replicas"] < old.get("replicas", 0):
        return False
    return all((old.get(name) or 0) == (status.get(name) or 0) for name in same)


def related_pods(ctx: Context, kind: ReplicaKind, owner: Object) -> list[Object]:
    """Pods of all owners under the same controller: a Deployment's ReplicaSets shrink where its pods are dense. An owner that stands
    alone has none, not even its own, so that nodes do not matter to it."""
    parent = controller_of(owner)
    if parent is None:
        return []
    siblings = ctx.cache(kind.resource).by_index(INDEX_CONTROLLER_UID, parent["uid"])
    return [pod for sibling in siblings for pod in ctx.owned(PODS, sibling)]


async def _apply(ctx: Context, kind: ReplicaKind, owner: Object, plan: ReplicaPlan) -> list[Exception]:
    if plan.create:
        pod = pod_from_template(owner["spec"]["template"], owner, kind.resource)
        _, errors = await slow_start([pod] * plan.create, lambda body: create_pod(ctx, body, owner, kind.resource))
        return [error for error in errors if not is_namespace_terminating(error)]
    return errors_of(await all_settled([delete_pod(ctx, pod, owner, kind.resource) for pod in plan.delete]))


async def sync(ctx: Context, kind: ReplicaKind, owner: Object) -> Result:
    """One reconcile of an owner: claim pods, create or delete, write the status even after a partial failure."""
    now = ctx.clock.now()
    owned = ctx.owned(PODS, owner)
    matches = kind.matcher(owner)
    candidates = [pod for pod in owned if is_active(pod)] + ctx.orphans(PODS, owner["metadata"]["namespace"])
    active = await claim(ctx, kind.resource, owner, PODS, plan_claim(owner, candidates, matches, is_active))
    plan = plan_replicas(owner, active, (), now)
    if plan.delete and len(plan.delete) < len(active):
        plan = plan_replicas(owner, active, related_pods(ctx, kind, owner), now)
        for ratio in age_ratios(active, plan.delete, now):
            ctx.meter.observe(AGE_RATIO, ratio)
    errors = await _apply(ctx, kind, owner, plan)
    terminating = sum(is_terminating(pod) and matches(pod) for pod in owned) if kind.counts_terminating else None
    told = f"{'unable to delete pods: ' if plan.delete else ''}{errors[0]}" if errors else None
    status = plan_status(owner, active, terminating, told, now)
    unwritten_seconds = 0.0
    if is_mere_growth(owner, status):
        unwritten_seconds = kind.patience.seconds_left(uid_of(owner), ctx.clock.monotonic())
    if unwritten_seconds <= 0:
        kind.patience.forget(uid_of(owner))
        await update_status(ctx, kind.resource, owner, status, kind.echoes)
    if errors:
        raise errors[0]
    if plan.create == BURST_REPLICAS or len(plan.delete) == BURST_REPLICAS:
        return requeue(after_seconds=0)
    waits = [seconds_until_available(active, owner["spec"].get("minReadySeconds", 0), now), unwritten_seconds or None]
    seconds = [wait for wait in waits if wait is not None]
    rest = REST_SECONDS_PER_POD * len(owned)
    return requeue(after_seconds=min(seconds), rest_seconds=rest) if seconds else done(rest_seconds=rest)
