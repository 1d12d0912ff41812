"""The cells of dynamic resource allocation and of gang scheduling. Imitates pkg/printers/internalversion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecosm.api.resources import Object

from .texts import NONE, age, condition, name_of, part, since


def resource_claims(obj: Object, now: datetime) -> list[Any]:
    is_deleted = bool(obj["metadata"].get("deletionTimestamp"))
    states = ["deleted"] if is_deleted else []
    status = obj.get("status") or {}
    if status.get("allocation") is None:
        states += [] if is_deleted else ["pending"]
    else:
        states += ["allocated", "reserved"] if status.get("reservedFor") else ["allocated"]
    return [name_of(obj), ",".join(states), age(obj, now)]


def resource_slices(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    return [name_of(obj), spec.get("nodeName") or "", spec.get("driver", ""), part(spec, "pool", "name") or "", age(obj, now)]


def device_taint_rules(obj: Object, now: datetime) -> list[Any]:
    taint = part(obj, "spec", "taint") or {}
    added = taint.get("timeAdded")
    return [name_of(obj), *(taint.get(name, "") for name in ("key", "value", "effect")), since(added, now) if added else "", age(obj, now)]


_POOL_COUNTS = ("totalDevices", "availableDevices", "allocatedDevices", "unavailableDevices")


def resource_pool_status_requests(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status")
    complete, failed = condition(obj, "Complete"), condition(obj, "Failed")
    word, finished = "Pending", NONE
    counts: list[Any] = ["-"] * (len(_POOL_COUNTS) + 1)
    pools: list[Object] = (status or {}).get("pools") or []
    total = (status or {}).get("poolCount") or 0
    if complete is not None and complete.get("status") == "True":
        word, finished = "Complete", since(complete.get("lastTransitionTime"), now)
        if total > len(pools):
            word = f"Complete ({len(pools)}/{total} pools)"
    elif failed is not None and failed.get("status") == "True":
        word = "Failed"
    if status is not None and word != "Failed":
        counts = [sum(pool.get(name) or 0 for pool in pools) for name in _POOL_COUNTS]
        counts.append(sum(pool.get("validationError") is not None for pool in pools))
    return [name_of(obj), part(obj, "spec", "driver") or "", *counts, total, word, finished]


def pod_groups(obj: Object, now: datetime) -> list[Any]:
    policy = "Basic" if part(obj, "spec", "schedulingPolicy", "gang") is None else "Gang"
    scheduled, disrupted = condition(obj, "PodGroupScheduled"), condition(obj, "DisruptionTarget")
    word = "Pending" if scheduled is None else "Scheduled" if scheduled.get("status") == "True" else "Unschedulable"
    if disrupted is not None:
        word = disrupted.get("reason", "")
    reference = part(obj, "spec", "podGroupTemplateRef")
    workload = NONE if reference is None else part(reference, "workload", "workloadName") or ""
    return [name_of(obj), policy, workload, word, age(obj, now)]
