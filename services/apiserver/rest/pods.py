"""Subresources of pods that are writes: binding and eviction. Imitates pkg/registry/core/pod/storage."""

from __future__ import annotations

from dataclasses import replace

from kubecosm.api import errors
from kubecosm.api.errors import ApiError, BadRequest, Conflict, Forbidden, InternalError, TooManyRequests
from kubecosm.api.field import FieldError, invalid_kind, not_supported, required
from kubecosm.api.meta import get_condition
from kubecosm.api.resources import BINDINGS, PODDISRUPTIONBUDGETS, PODS, Object
from kubecosm.api.selectors import from_label_selector
from kubecosm.api.times import format_time

from ..cache.selection import Selection
from ..http.request import Request
from ..http.response import Answer
from .admitting import admit_create
from .body import decode_body
from .options import DeleteOptions, delete_options, write_options
from .represent import answer_object
from .store import Caller, ResourceStore

SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
EVICTION_RETRY_SECONDS = 10
DISRUPTED_PODS_MAX = 2000
"""Evictions that a budget may have under way before its controller has seen them."""
TERMINAL_PHASES = ("Succeeded", "Failed")


async def bind(store: ResourceStore, request: Request) -> Answer:
    """POST pods/<name>/binding, and POST bindings with the pod's name in the body."""
    options = write_options(request, "CreateOptions")
    info = request.info
    binding = decode_body(PODS, request, await request.read(), options.field_validation, subresource=PODS.subresource("binding"))
    name = info.name or binding["metadata"].get("name", "")
    if binding["metadata"].setdefault("name", name) != name:
        raise BadRequest(f"the name of the object ({binding['metadata']['name']}) does not match the name on the URL ({name})")
    caller = Caller(request.user, options.dry_run, options=options, notes=request)
    row, subresource = (store.row, "binding") if info.name else (BINDINGS, "")
    await admit_create(store.state, row, subresource, info.namespace, name, binding, caller)
    _check_binding(binding, name)

    def assign(pod: Object) -> Object:
        _assign(pod, binding, format_time(store.state.clock.now()))
        return pod

    await store.change_system_fields(info.namespace, name, assign, caller)
    return answer_object(request, SUCCESS, 201)


def _check_binding(binding: Object, name: str) -> None:
    target = binding.get("target") or {}
    complaints: list[FieldError] = []
    if target.get("kind") not in (None, "", "Node"):
        complaints.append(not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        complaints.append(required("target.name"))
    if complaints:
        raise invalid_kind("", "Binding", name, complaints)


def _assign(pod: Object, binding: Object, now: str) -> None:
    """setPodNodeAndMetadata: once and for all. Raises Conflict, BadRequest."""
    meta, wanted, spec = pod["metadata"], binding["metadata"], pod["spec"]
    name, node = meta["name"], binding["target"]["name"]
    for what, key in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        if wanted.get(key) and wanted[key] != meta.get(key):
            why = f"Precondition failed: {what} in precondition: {wanted[key]}, {what} in object meta: {meta.get(key, '')}"
            raise errors.conflict(PODS, name, why)
    if meta.get("deletionTimestamp"):
        raise _binding_conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise _binding_conflict(name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise _binding_conflict(name, f"pod {name} has non-empty .spec.schedulingGates")
    spec["nodeName"] = node
    for field in ("annotations", "labels"):
        if wanted.get(field):
            meta[field] = {**(meta.get(field) or {}), **wanted[field]}
    pod.setdefault("status", {}).pop("nominatedNodeName", None)  # ClearingNominatedNodeNameAfterBinding
    _set_scheduled(pod, now)


def _set_scheduled(pod: Object, now: str) -> None:
    _set_condition(pod, {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now})


def _set_condition(pod: Object, condition: Object) -> None:
    """podutil.UpdatePodCondition: in the place of the one of its type; with an equal status the old transition time stays."""
    status = pod.setdefault("status", {})
    before = get_condition(pod, condition["type"])
    if before is not None and before.get("status") == condition["status"]:
        condition["lastTransitionTime"] = before.get("lastTransitionTime", condition["lastTransitionTime"])
    if pod["metadata"].get("generation"):
        condition["observedGeneration"] = pod["metadata"]["generation"]
    status["conditions"] = [*(c for c in status.get("conditions") or () if c.get("type") != condition["type"]), condition]


def _binding_conflict(name: str, why: str) -> Conflict:
    message = f'Operation cannot be fulfilled on pods/binding "{name}": {why}'
    return Conflict(message, details={"name": name, "kind": "pods/binding"})


EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}


async def evict(store: ResourceStore, request: Request) -> Answer:
    """POST pods/<name>/eviction: a delete that respects PodDisruptionBudgets."""
    options = write_options(request, "CreateOptions")
    info = request.info
    eviction = decode_body(PODS, request, await request.read(), options.field_validation, subresource=PODS.subresource("eviction"))
    if eviction["metadata"].get("name", "") != info.name:
        raise BadRequest("name in URL does not match name in Eviction object")
    deletion = delete_options(request, eviction.get("deleteOptions") or {})
    caller = Caller(request.user, options.dry_run or deletion.dry_run, options=options, notes=request)
    await admit_create(store.state, store.row, "eviction", info.namespace, info.name, eviction, caller)
    pod = store.entry(info.namespace, info.name).decode()
    unspent = await _spend_budget(store, pod, caller) if needs_budget(pod) else None
    pinned = unspent is not None and deletion.resource_version is None
    if pinned:
        deletion = replace(deletion, resource_version=pod["metadata"]["resourceVersion"])
    try:
        deletion = await _mark_disrupted(store, pod, deletion, caller)
        await store.delete(info.namespace, info.name, deletion, caller, is_admitted=True)
    except Conflict as conflict:
        if unspent is None or not pinned:
            raise
        raise _not_settled(unspent) from conflict  # it may be ready by now
    return answer_object(request, SUCCESS, 201)


async def _mark_disrupted(store: ResourceStore, pod: Object, deletion: DeleteOptions, caller: Caller) -> DeleteOptions:
    """Tell in a condition why the pod goes, unless a precondition forbids that it does; the precondition moves on to the marked pod."""
    meta = pod["metadata"]
    if deletion.uid not in (None, meta["uid"]) or deletion.resource_version not in (None, meta["resourceVersion"]):
        return deletion
    now = format_time(store.state.clock.now())

    def mark(found: Object) -> Object:
        _set_condition(found, {**EVICTED, "lastProbeTime": None, "lastTransitionTime": now})
        return found

    marked = await store.change_system_fields(meta["namespace"], meta["name"], mark, caller)
    return deletion if deletion.resource_version is None else replace(deletion, resource_version=str(marked.revision))


def needs_budget(pod: Object) -> bool:
    """Pods that are finished, pending or already going do not count against a budget."""
    return (pod.get("status") or {}).get("phase") not in (*TERMINAL_PHASES, "Pending") and not pod["metadata"].get("deletionTimestamp")


async def _spend_budget(store: ResourceStore, pod: Object, caller: Caller) -> Object | None:
    """Take the eviction from the pod's budget. Answers a budget that need not be spent, as the pod is not healthy anyway."""
    budgets_store = store.state.store(PODDISRUPTIONBUDGETS.group, PODDISRUPTIONBUDGETS.version, PODDISRUPTIONBUDGETS.plural)
    labels = pod["metadata"].get("labels") or {}
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    matching = [
        budget
        for entry in budgets_store.cache.page(Selection(namespace)).entries
        if from_label_selector((budget := entry.decode())["spec"].get("selector")).matches(labels)
    ]
    if not matching:
        return None
    if len(matching) > 1:
        raise InternalError(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.", reason=""
        )  # fmt: skip
    if _is_unhealthy_and_free(pod, matching[0]):
        return matching[0]
    now = format_time(store.state.clock.now())

    def spend(budget: Object) -> Object:
        spend_disruption(budget, name, now)
        return budget

    await budgets_store.change_system_fields(namespace, matching[0]["metadata"]["name"], spend, caller)
    return None


def _is_unhealthy_and_free(pod: Object, budget: Object) -> bool:
    """Pods that are not ready may go if the policy says so, or if the budget is met without them."""
    ready = get_condition(pod, "Ready")
    if ready is not None and ready.get("status") == "True":
        return False
    status = budget.get("status") or {}
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    return bool(status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0)


def spend_disruption(budget: Object, pod_name: str, now: str) -> None:
    """checkAndDecrement: take one from disruptionsAllowed. Raises TooManyRequests, Forbidden."""
    status, meta = budget.setdefault("status", {}), budget["metadata"]
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        raise _not_settled(budget)
    if status.get("disruptionsAllowed", 0) < 0:
        raise _forbidden(budget, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or {}) > DISRUPTED_PODS_MAX:
        raise _forbidden(budget, "DisruptedPods map too big - too many evictions not confirmed by PDB controller")
    if status.get("disruptionsAllowed", 0) == 0:
        raise _budget_error(f"The disruption budget {meta['name']} {_why_not(budget)}")
    status["disruptionsAllowed"] -= 1
    if not status["disruptionsAllowed"]:
        _say_insufficient(status, now)
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod_name: now}


def _why_not(budget: Object) -> str:
    """Why a budget allows no disruption now."""
    status = budget["status"]
    needs, has = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    condition = get_condition(budget, "DisruptionAllowed") or {}
    explained = condition.get("status") == "False" and condition.get("message")
    if explained and condition["reason"] == "SyncFailed":
        return f"does not allow evicting pods currently because it failed sync: {condition['message']}"
    if has <= needs:
        return f"needs {needs} healthy pods and has {has} currently"
    told = f" ({condition['reason']}): {condition['message']}" if explained else ""
    return f"does not allow evicting pods currently{told}"


def _say_insufficient(status: Object, now: str) -> None:
    """UpdateDisruptionAllowedCondition for a budget that is spent."""
    conditions = status.get("conditions") or []
    new = {"type": "DisruptionAllowed", "status": "False", "observedGeneration": status.get("observedGeneration", 0)}
    old = next((condition for condition in conditions if condition["type"] == new["type"]), None)
    kept = old["lastTransitionTime"] if old is not None and old["status"] == "False" else now
    new |= {"lastTransitionTime": kept, "reason": "InsufficientPods", "message": ""}
    status["conditions"] = [new if condition is old else condition for condition in conditions] if old is not None else [*conditions, new]


def _not_settled(budget: Object) -> ApiError:
    why = f"The disruption budget {budget['metadata']['name']} is still being processed by the server."
    return _budget_error(why, retry_after_seconds=EVICTION_RETRY_SECONDS)


def _budget_error(why: str, retry_after_seconds: int | None = None) -> ApiError:
    return TooManyRequests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        details={"causes": [{"reason": "DisruptionBudget", "message": why}]}, retry_after_seconds=retry_after_seconds,
    )  # fmt: skip


def _forbidden(budget: Object, why: str) -> ApiError:
    name = budget["metadata"]["name"]
    details = {"name": name, "group": "policy", "kind": "poddisruptionbudget"}
    return Forbidden(f'poddisruptionbudget.policy "{name}" is forbidden: {why}', details=details)
