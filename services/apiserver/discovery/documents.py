"""Discovery documents out of the resource table: /api, /apis, per group and version, and aggregated.

Imitates k8s.io/apiserver/pkg/endpoints/discovery. Pure functions; `handlers` serves them.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence

from kubecosm.api.resources import Object, Resource

GroupVersion = tuple[str, str]
GroupVersions = Mapping[str, Sequence[str]]
"""group → versions in order of preference."""
StorageHash = Callable[[Resource], str]


def group_versions(rows: Iterable[Resource]) -> dict[str, list[str]]:
    """group → versions, both in table order; the first version is the preferred one."""
    found: dict[str, list[str]] = {}
    for row in rows:
        versions = found.setdefault(row.group, [])
        if row.version not in versions:
            versions.append(row.version)
    return found


def api_versions(server_address: str) -> Object:
    """/api."""
    return {
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    }  # fmt: skip


def api_group(group: str, versions: Sequence[str]) -> Object:
    """One entry of /apis, and with kind and apiVersion the answer of /apis/<group>."""
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def api_group_list(versions: GroupVersions) -> Object:
    """/apis."""
    groups = [api_group(group, found) for group, found in versions.items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_resource_list(rows: Sequence[Resource], storage_hash: StorageHash) -> Object:
    """/api/v1 or /apis/<group>/<version>; `rows` are those of that version."""
    resources: list[Object] = []
    for row in sorted(rows, key=lambda r: r.plural):
        resources.append(_resource_entry(row, storage_hash))
        resources += [_subresource_entry(row, sub.name, sub.kind, sub.group, sub.version, sub.verbs) for sub in row.subresources]
    document: Object = {"kind": "APIResourceList"}
    if rows[0].group:
        document["apiVersion"] = "v1"
    return {**document, "groupVersion": rows[0].api_version, "resources": resources}


def _resource_entry(row: Resource, storage_hash: StorageHash) -> Object:
    entry: Object = {
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind, "verbs": list(row.verbs),
    }  # fmt: skip
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if digest := storage_hash(row):
        entry["storageVersionHash"] = digest
    return entry


def _subresource_entry(row: Resource, name: str, kind: str, group: str, version: str, verbs: Sequence[str]) -> Object:
    entry: Object = {"name": f"{row.plural}/{name}", "singularName": "", "namespaced": row.namespaced}
    if version and (group, version) != (row.group, row.version):
        entry |= {"group": group, "version": version}
    return {**entry, "kind": kind, "verbs": list(verbs)}


def storage_version_hash(stored: Resource) -> str:
    """Tells clients when the stored version of a resource changes (discovery.StorageVersionHash)."""
    text = f"{stored.group}/{stored.version}/{stored.kind}"
    return b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def aggregated(rows: Iterable[Resource], versions: GroupVersions, remote: Mapping[GroupVersion, Object], *, core: bool) -> Object:
    """APIGroupDiscoveryList v2 of the core group (/api) or of all others (/apis).

    `remote`: what extension servers serve, as APIVersionDiscovery; `versions` tells the order of everything.
    """
    by_version: dict[GroupVersion, list[Resource]] = {}
    for row in rows:
        by_version.setdefault((row.group, row.version), []).append(row)
    items: list[Object] = []
    for group, names in versions.items():
        if (group == "") != core:
            continue
        entries = [remote.get((group, name)) or _version_entry(name, by_version.get((group, name))) for name in names]
        items.append({"metadata": {"name": group} if group else {}, "versions": entries})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _version_entry(version: str, rows: Sequence[Resource] | None) -> Object:
    """What is served here; an extension server that has never answered is stale and empty."""
    if rows is None:
        return {"version": version, "freshness": "Stale"}
    resources = [_discovery_entry(row) for row in sorted(rows, key=lambda r: r.plural)]
    return {"version": version, "resources": resources, "freshness": "Current"}


def _discovery_entry(row: Resource) -> Object:
    entry: Object = {
        "resource": row.plural, "responseKind": {"group": "", "version": "", "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster", "singularResource": row.singular, "verbs": list(row.verbs),
    }  # fmt: skip
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if row.subresources:
        entry["subresources"] = [
            {"subresource": sub.name, "responseKind": _response_kind(row, sub.kind, sub.group, sub.version), "verbs": list(sub.verbs)}
            for sub in row.subresources
        ]
    return entry


def _response_kind(row: Resource, kind: str, group: str, version: str) -> Object:
    same = (group, version) == (row.group, row.version)
    return {"group": "" if same else group, "version": "" if same else version, "kind": kind}
