"""What OpenAPI says of paths that are no resources: version, discovery, and how others check ServiceAccount tokens.

Imitates what k8s.io/apiserver installs besides the resources. Left out: /logs, which this server does not serve.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.resources import CustomResource, Resource
from kubecosm.api.schema.model import META

from .operations import JSON_TYPES, Operation, group_name, tag_of, version_name

_JSON = ("application/json",)
_NO_KIND = ("", "", "")


def _get(name: str, identity: str, tag: str, text: str, answer: str = "", produces: tuple[str, ...] = JSON_TYPES) -> Operation:
    return Operation(f"/{name}/", "get", "", identity, _NO_KIND, tag, answer=answer, produces=produces, description=text)


_FIXED = {
    ".well-known/openid-configuration": _get(
        ".well-known/openid-configuration", "getServiceAccountIssuerOpenIDConfiguration", "WellKnown",
        "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'", produces=_JSON,
    ),
    "api": _get("api", "getCoreAPIVersions", "core", "get available API versions", f"{META}APIVersions"),
    "apis": _get("apis", "getAPIVersions", "apis", "get available API versions", f"{META}APIGroupList"),
    "openid/v1/jwks": _get(
        "openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", "openid",
        "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
        produces=("application/jwk-set+json",),
    ),
    "version": _get(
        "version", "getCodeVersion", "version", "get the version information for this server", "apimachinery.pkg.version.Info", _JSON
    ),
}  # fmt: skip


def documents(rows: Iterable[Resource]) -> dict[str, Operation]:
    """Name in the index of /openapi/v3 → the one operation of that document; groups of custom resources have none."""
    groups = sorted({row.group for row in rows if row.group and not isinstance(row, CustomResource)})
    found = dict(_FIXED)
    for group in groups:
        name = group_name(group)
        found[f"apis/{group}"] = _get(
            f"apis/{group}", f"get{name}APIGroup", tag_of(group), "get information of a group", f"{META}APIGroup"
        )
    return found


def resource_lists(rows: Iterable[Resource]) -> list[Operation]:
    """The discovery of each group and version, which stands in the document of its resources; not for custom resources."""
    built_in = {row.prefix: row for row in rows if not isinstance(row, CustomResource)}
    return [
        _get(prefix[1:], f"get{group_name(row.group)}{version_name(row.version)}APIResources", tag_of(row.group, row.version),
             "get available resources", f"{META}APIResourceList")
        for prefix, row in built_in.items()
    ]  # fmt: skip
