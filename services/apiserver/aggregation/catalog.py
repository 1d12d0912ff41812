"""What extension servers add to discovery: their resources by group and version, and the order of all groups by priority.

Discovery reads it; `upkeep` fills it. Imitates kube-aggregator's discovery manager and the order of its group handlers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubecosm.api.resources import Object, Resource

from .localservices import GroupVersion, priority_of

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STABILITY = {"": 2, "beta": 1, "alpha": 0}


@dataclass
class Catalog:
    """`generation` grows with every change, so that documents made from it are made again."""

    generation: int = 0
    aggregations: int = 0
    """How often aggregated discovery was put together."""
    priorities: dict[GroupVersion, tuple[int, int]] = field(default_factory=dict)
    """(groupPriorityMinimum, versionPriority) of the APIServices that have a Service behind them."""
    documents: dict[GroupVersion, Object] = field(default_factory=dict)
    """Their entries in aggregated discovery (APIVersionDiscovery), as soon as they are known."""

    def publish(self, key: GroupVersion, document: Object) -> None:
        if self.documents.get(key) != document:
            self.documents[key] = document
            self.generation += 1

    def set_priority(self, key: GroupVersion, priority: tuple[int, int]) -> None:
        if self.priorities.get(key) != priority:
            self.priorities[key] = priority
            self.generation += 1

    def withdraw(self, key: GroupVersion) -> None:
        self.priorities.pop(key, None)
        self.documents.pop(key, None)
        self.generation += 1

    def group_versions(self, rows: Iterable[Resource]) -> dict[str, list[str]]:
        """group → versions in the order of discovery, those of extension servers included; the first version is the preferred one."""
        found: dict[str, list[str]] = {}
        for group, version in [*((row.group, row.version) for row in rows), *self.priorities]:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        if not self.priorities:
            return found
        for group, versions in found.items():
            if any((group, version) in self.priorities for version in versions):
                versions.sort(key=lambda version: (-self._priority((group, version))[1], version_rank(version)))
        top = {group: max(self._priority((group, version))[0] for version in versions) for group, versions in found.items()}
        return {group: found[group] for group in sorted(found, key=lambda group: (*_fixed_place(group), -top[group], group))}

    def _priority(self, key: GroupVersion) -> tuple[int, int]:
        return self.priorities.get(key) or priority_of(*key)


def _fixed_place(group: str) -> tuple[int]:
    """The group of the APIServices themselves comes first, whatever others say of their priority."""
    return (0 if group == "" else 1 if group == "apiregistration.k8s.io" else 2,)


def version_rank(version: str) -> tuple[int, int, int, int, str]:
    """Sorts versions as Kubernetes does: v2, v1, v2beta1, v1beta2, v1alpha1, then other names."""
    parsed = _VERSION.fullmatch(version)
    if parsed is None:
        return (1, 0, 0, 0, version)
    return (0, -_STABILITY[parsed[2] or ""], -int(parsed[1]), -int(parsed[3] or 0), version)


def resources_of_aggregated(document: Mapping[str, object], group: str, version: str) -> list[Object] | None:
    """The resources of one group and version in an extension's own aggregated discovery; None if it does not tell of them."""
    items = document.get("items")
    for item in items if isinstance(items, list) else ():
        if ((item.get("metadata") or {}).get("name") or "") == group:
            for entry in item.get("versions") or ():
                if entry.get("version") == version:
                    return list(entry.get("resources") or ())
    return None


def resources_of_list(document: Mapping[str, object], group: str, version: str) -> list[Object]:
    """The same out of an APIResourceList, for extensions that know no aggregated discovery."""
    found: dict[str, Object] = {}
    listed = document.get("resources")
    for entry in listed if isinstance(listed, list) else ():
        name, _, subresource = str(entry.get("name", "")).partition("/")
        kind = {"group": entry.get("group") or group, "version": entry.get("version") or version, "kind": entry.get("kind", "")}
        verbs = list(entry.get("verbs") or ())
        if subresource:
            parent = found.setdefault(name, {"resource": name, "scope": "Namespaced" if entry.get("namespaced") else "Cluster"})
            parent.setdefault("subresources", []).append({"subresource": subresource, "responseKind": kind, "verbs": verbs})
            continue
        row = found.setdefault(name, {})
        row |= {
            "resource": name, "responseKind": kind, "scope": "Namespaced" if entry.get("namespaced") else "Cluster",
            "singularResource": entry.get("singularName", ""), "verbs": verbs,
        }  # fmt: skip
        for field_name in ("shortNames", "categories"):
            if entry.get(field_name):
                row[field_name] = list(entry[field_name])
    return list(found.values())
