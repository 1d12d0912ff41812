"""From a definition to rows of the resource table. Pure."""

from __future__ import annotations

import re

from kubecosm.api.resources import CustomResource, Object, Subresource

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
ENDING_VERBS = ("delete", "deletecollection", "get", "list", "watch")
"""What discovery still tells of once the definition is being deleted; updates and patches are served none the less."""
SUBRESOURCE_VERBS = ("get", "patch", "update")

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?$")
_LEVELS = {None: 2, "beta": 1, "alpha": 0}


def version_priority(version: str) -> tuple[int, int, int, int, str]:
    """Sorts v10 before v2 before v1 before v11beta2 before v1alpha1, and these before all other names (CompareKubeAwareVersionStrings)."""
    match = _VERSION.match(version)
    if match is None:
        return (1, 0, 0, 0, version)
    return (0, -_LEVELS[match[2]], -int(match[1]), -int(match[3] or 0), version)


def deprecation_of(spec: Object, version: Object) -> str:
    """What those are warned of who use a version that is deprecated; empty for one that is not."""
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning") is not None:
        return str(version["deprecationWarning"])
    group, kind = spec["group"], spec["names"]["kind"]
    better = [
        other["name"] for other in spec["versions"]
        if other.get("served") and not other.get("deprecated") and version_priority(other["name"]) < version_priority(version["name"])
    ]  # fmt: skip
    instead = f"; use {group}/{min(better, key=version_priority)} {kind}" if better else ""
    return f"{group}/{version['name']} {kind} is deprecated{instead}"


def rows_of(crd: Object, names: Object) -> tuple[list[CustomResource], CustomResource]:
    """(a row for each served version, best first; the row of the version that is stored) of a definition with accepted names."""
    versions = sorted(crd["spec"]["versions"], key=lambda version: version_priority(version["name"]))
    rows = {version["name"]: _row(crd["spec"], version, names) for version in versions}
    stored = next(rows[version["name"]] for version in versions if version.get("storage"))
    return [rows[version["name"]] for version in versions if version.get("served")], stored


def _row(spec: Object, version: Object, names: Object) -> CustomResource:
    parts = version.get("subresources") or {}
    subresources: list[Subresource] = []
    if "status" in parts:
        subresources.append(Subresource("status", names["kind"], spec["group"], version["name"], SUBRESOURCE_VERBS))
    if "scale" in parts:
        subresources.append(Subresource("scale", "Scale", "autoscaling", "v1", SUBRESOURCE_VERBS))
    return CustomResource(
        spec["group"], version["name"], names["kind"], names["plural"], names.get("singular", ""), spec["scope"] == "Namespaced",
        VERBS, tuple(names.get("shortNames") or ()), tuple(names.get("categories") or ()), tuple(subresources),
        schema=(version.get("schema") or {}).get("openAPIV3Schema") or {}, scale=parts.get("scale"),
        columns=tuple(version.get("additionalPrinterColumns") or ()), listed_as=names.get("listKind", ""),
        deprecation=deprecation_of(spec, version),
    )  # fmt: skip


def selectable_paths(versions: list[Object]) -> tuple[str, ...]:
    """The selectableFields of some versions."""
    found = (field["jsonPath"] for version in versions for field in version.get("selectableFields") or ())
    return tuple(dict.fromkeys(found))
