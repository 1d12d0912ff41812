"""The APIServices that this server keeps for what it serves itself, and which writes bring the stored ones in line.

Imitates kube-aggregator's autoregister controller and the priorities of pkg/controlplane (aggregator.go). Pure decisions on data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kubecosm.api.names import LABEL_AUTOMANAGED
from kubecosm.api.resources import APISERVICES, Object

GroupVersion = tuple[str, str]
ON_START, ALWAYS = "onstart", "true"
"""Values of LABEL_AUTOMANAGED: brought in line when a server starts (built-in kinds), or whenever they differ (custom resources)."""
CUSTOM_PRIORITY = (1000, 100)
GROUP_PRIORITIES = {
    "": 18000, "events.k8s.io": 17750, "apps": 17800, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600, "autoscaling": 17500,
    "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100, "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700, "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200, "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100, "internal.apiserver.k8s.io": 16000, "storagemigration.k8s.io": 15800,
}  # fmt: skip
VERSION_PRIORITIES: Mapping[GroupVersion, int] = {
    ("", "v1"): 1, ("autoscaling", "v2"): 30, ("certificates.k8s.io", "v1alpha1"): 1, ("storage.k8s.io", "v1alpha1"): 1,
    ("admissionregistration.k8s.io", "v1beta1"): 12, ("admissionregistration.k8s.io", "v1alpha1"): 9,
    ("coordination.k8s.io", "v1beta1"): 13, ("coordination.k8s.io", "v1alpha2"): 12, ("resource.k8s.io", "v1"): 20,
    ("resource.k8s.io", "v1beta2"): 15, ("resource.k8s.io", "v1alpha3"): 1, ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    ("internal.apiserver.k8s.io", "v1alpha1"): 9, ("storagemigration.k8s.io", "v1beta1"): 9, ("scheduling.k8s.io", "v1alpha2"): 9,
}  # fmt: skip
"""Where the priority is not that of the version's kind: v1 15, a beta 9, an alpha 1."""


class Plan(NamedTuple):
    """The writes that are due: objects to create, (stored object, wanted spec) to update, objects to delete."""

    create: list[Object]
    update: list[tuple[Object, Object]]
    delete: list[Object]


def priority_of(group: str, version: str) -> tuple[int, int]:
    """(groupPriorityMinimum, versionPriority) of what this server serves itself."""
    if group not in GROUP_PRIORITIES:
        return CUSTOM_PRIORITY
    by_kind = 9 if "beta" in version else 1 if "alpha" in version else 15
    return GROUP_PRIORITIES[group], VERSION_PRIORITIES.get((group, version), by_kind)


def builtin_services(served: Iterable[GroupVersion]) -> Iterator[Object]:
    """The APIServices of the built-in groups and versions; the group that describes the others has none."""
    for group, version in served:
        if group in GROUP_PRIORITIES:
            yield _service(group, version, ON_START, *priority_of(group, version))


def served_versions(crd: Object) -> tuple[GroupVersion, ...]:
    """What a CustomResourceDefinition serves."""
    return tuple((crd["spec"]["group"], version["name"]) for version in crd["spec"].get("versions") or () if version.get("served"))


def custom_services(served: Iterable[GroupVersion]) -> Iterator[Object]:
    """The APIServices of groups and versions of custom resources."""
    return (_service(group, version, ALWAYS, *CUSTOM_PRIORITY) for group, version in served)


def _service(group: str, version: str, managed: str, group_priority: int, version_priority: int) -> Object:
    spec = {"group": group, "version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority}
    name = f"{version}.{group}"
    return {
        "kind": APISERVICES.kind, "apiVersion": APISERVICES.api_version,
        "metadata": {"name": name, "labels": {LABEL_AUTOMANAGED: managed}}, "spec": {key: value for key, value in spec.items() if value},
    }  # fmt: skip


def plan(wanted: Mapping[str, Object], stored: Mapping[str, Object], *, starting: bool) -> Plan:
    """What to write, both by name. `starting`: the one time that those marked `onstart` are looked at.

    Objects without the label are somebody else's and left alone, whatever they say.
    """
    result = Plan([], [], [])
    for name, service in wanted.items():
        if _mark(service) == ON_START and not starting:
            continue
        present = stored.get(name)
        if present is None:
            result.create.append(service)
        elif _is_ours(present, starting) and present["spec"] != service["spec"]:
            result.update.append((present, service["spec"]))
    result.delete.extend(present for name, present in stored.items() if name not in wanted and _is_ours(present, starting))
    return result


def _mark(service: Object) -> str:
    return str((service["metadata"].get("labels") or {}).get(LABEL_AUTOMANAGED, ""))


def _is_ours(present: Object, starting: bool) -> bool:
    mark = _mark(present)
    return mark == ALWAYS or (mark == ON_START and starting)
