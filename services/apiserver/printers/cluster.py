"""The cells of nodes, namespaces, events, configuration and the cluster's small objects. Imitates pkg/printers/internalversion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecosm.api.names import LABEL_NODE_ROLE_OLD, LABEL_NODE_ROLE_PREFIX
from kubecosm.api.resources import Object

from .texts import NONE, UNKNOWN, age, condition, name_of, part, since


def just_age(obj: Object, now: datetime) -> list[Any]:
    """Kinds that show no more than a name and an age."""
    return [name_of(obj), age(obj, now)]


def namespaces(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), part(obj, "status", "phase") or "", age(obj, now)]


def config_maps(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age(obj, now)]


def secrets(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or ()), age(obj, now)]


def nodes(obj: Object, now: datetime) -> list[Any]:
    ready = condition(obj, "Ready")
    status = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if part(obj, "spec", "unschedulable"):
        status += ",SchedulingDisabled"
    info = part(obj, "status", "nodeInfo") or {}
    kernel = info.get("kernelVersion") or UNKNOWN
    if info.get("architecture"):
        kernel += f" ({info['architecture']})"
    return [
        name_of(obj), status, _roles(obj["metadata"].get("labels") or {}), age(obj, now), info.get("kubeletVersion", ""),
        _address(obj, "InternalIP"), _address(obj, "ExternalIP"), info.get("osImage") or UNKNOWN, kernel,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]  # fmt: skip


def _roles(labels: dict[str, str]) -> str:
    prefix = LABEL_NODE_ROLE_PREFIX
    roles = {key.removeprefix(prefix) if key.startswith(prefix) else value for key, value in labels.items() if _is_role(key)}
    return ",".join(sorted(roles - {""})) or NONE


def _is_role(label: str) -> bool:
    return label == LABEL_NODE_ROLE_OLD or label.startswith(LABEL_NODE_ROLE_PREFIX)


def _address(node: Object, kind: str) -> str:
    addresses: list[Object] = part(node, "status", "addresses") or []
    return next((address.get("address", "") for address in addresses if address.get("type") == kind), NONE)


def events(obj: Object, now: datetime) -> list[Any]:
    first_time = obj.get("firstTimestamp") or obj.get("eventTime")
    last_time = obj.get("lastTimestamp") or first_time
    count = obj.get("count") or 1
    if (series := obj.get("series")) is not None:
        last_time, count = series.get("lastObservedTime"), series.get("count", 0)
    about = obj.get("involvedObject") or {}
    target = about.get("kind", "").lower()
    if about.get("name"):
        target += f"/{about['name']}"
    return [
        since(last_time, now), obj.get("type", ""), obj.get("reason", ""), target, about.get("fieldPath", ""), _source(obj),
        obj.get("message", "").strip(), since(first_time, now), count, name_of(obj),
    ]  # fmt: skip


def _source(event: Object) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component


def component_statuses(obj: Object, now: datetime) -> list[Any]:
    healthy: Object | None = next((c for c in obj.get("conditions") or () if c.get("type") == "Healthy"), None)
    if healthy is None:
        return [name_of(obj), "Unknown", "", ""]
    word = "Healthy" if healthy.get("status") == "True" else "Unhealthy"
    return [name_of(obj), word, healthy.get("message", ""), healthy.get("error", "")]


def resource_quotas(obj: Object, now: datetime) -> list[Any]:
    hard, used = part(obj, "status", "hard") or {}, part(obj, "status", "used") or {}
    limits = [name for name in sorted(hard) if name.startswith("limits.")]
    columns = [[name for name in sorted(hard) if name not in limits], limits]
    texts = [", ".join([f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names]) for names in columns]
    return [name_of(obj), *texts, age(obj, now)]


def priority_classes(obj: Object, now: datetime) -> list[Any]:
    policy = obj.get("preemptionPolicy") or ""
    return [name_of(obj), obj.get("value", 0), bool(obj.get("globalDefault")), age(obj, now), policy]


def runtime_classes(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), obj.get("handler", ""), age(obj, now)]


def leases(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), part(obj, "spec", "holderIdentity") or "", age(obj, now)]


def lease_candidates(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    return [name_of(obj), *(spec.get(name, "") for name in ("leaseName", "binaryVersion", "emulationVersion")), age(obj, now)]
