"""Makes equal parts of different pods one object in memory: pods of one template differ in little more than their names.

Received objects are frozen, so sharing is safe. It halves the memory of a large cluster's kubelet for a few microseconds a pod.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.resources import Object

SHARED_PARTS_MAX = 50_000
"""Beyond this everything is forgotten and sharing begins anew."""

SPEC_PARTS = ("tolerations", "affinity", "nodeSelector", "securityContext", "topologySpreadConstraints", "imagePullSecrets", "dnsConfig")
CONTAINER_PARTS = (
    "ports", "env", "envFrom", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "securityContext", "command",
    "args",
)  # fmt: skip
STATUS_PARTS = ("allocatedResources", "resources", "user", "state", "lastState")


class Sharer:
    """`share` is an informer's transform: it may change the object that it is given, which nobody else has yet."""

    def __init__(self) -> None:
        self._parts: dict[bytes, Any] = {}

    def share(self, pod: Object) -> Object:
        pod["metadata"].pop("managedFields", None)
        spec = pod["spec"]
        self._share_fields(spec, SPEC_PARTS)
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind) or ():
                self._share_fields(container, CONTAINER_PARTS)
        for volume in spec.get("volumes") or ():
            self._share_fields(volume, ("projected",))
        status = pod.get("status") or {}
        conditions = status.get("conditions")
        if conditions:
            status["conditions"] = [self._canonical(condition) for condition in conditions]
        for entry in status.get("containerStatuses") or ():
            self._share_fields(entry, STATUS_PARTS)
        return pod

    def _share_fields(self, owner: Object, names: tuple[str, ...]) -> None:
        for name in names:
            if value := owner.get(name):
                owner[name] = self._canonical(value)

    def _canonical(self, value: Any) -> Any:
        if len(self._parts) > SHARED_PARTS_MAX:
            self._parts.clear()
        return self._parts.setdefault(orjson.dumps(value), value)
