"""The downward API: fieldRef and resourceFieldRef as text (pkg/fieldpath, pkg/api/v1/resource)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
NOTHING: Mapping[str, str] = {}


def field_value(pod: Object, path: str, *, pod_ip: str, node_ip: str) -> str:
    """The text of a fieldPath; ValueError if the path is not supported."""
    meta, spec = pod["metadata"], pod["spec"]
    if found := SUBSCRIPT.fullmatch(path):
        return str((meta.get(found[1]) or {}).get(found[2], ""))
    simple = {
        "metadata.name": meta["name"], "metadata.namespace": meta["namespace"], "metadata.uid": meta.get("uid", ""),
        "metadata.labels": format_map(meta.get("labels") or {}), "metadata.annotations": format_map(meta.get("annotations") or {}),
        "spec.nodeName": spec.get("nodeName", ""), "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": node_ip, "status.hostIPs": node_ip, "status.podIP": pod_ip, "status.podIPs": pod_ip,
    }  # fmt: skip
    if path not in simple:
        raise ValueError(f"unsupported fieldPath: {path}")
    return str(simple[path])


def format_map(values: dict[str, str]) -> str:
    """Labels or annotations as the downward API writes them: sorted `key="value"` lines."""
    return "\n".join(f'{key}="{_escape(values[key])}"' for key in sorted(values))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(spec: Object, reference: Object, allocatable: Mapping[str, str] = NOTHING) -> str:
    """The text of a resourceFieldRef: rounded up to whole divisors; limits default to the node's `allocatable`."""
    kind, _, name = reference["resource"].partition(".")
    resources = spec.get("resources") or {}
    amount = (resources.get(kind) or {}).get(name)
    if amount is None and kind == "limits":
        amount = allocatable.get(name, "0")
    divisor = Quantity.of(str(reference.get("divisor") or "1"))
    if divisor.nanos == 0:
        divisor = Quantity.of("1")
    return str(-(-Quantity.of(str(amount or "0")).nanos // divisor.nanos))
