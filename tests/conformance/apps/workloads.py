"""The workloads of one namespace, seen from the wire: templates, collections, and waiting for what controllers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.wire import MERGE, Wire
from tests.conftest import wait_for

Object = dict[str, Any]
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"

COLLECTIONS = {
    "pods": "/api/v1", "replicationcontrollers": "/api/v1", "services": "/api/v1", "resourcequotas": "/api/v1",
    "deployments": "/apis/apps/v1", "replicasets": "/apis/apps/v1", "statefulsets": "/apis/apps/v1", "daemonsets": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1", "jobs": "/apis/batch/v1", "cronjobs": "/apis/batch/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
}  # fmt: skip
"""Plural → the prefix of its group and version."""


def pod_template(labels: dict[str, str], *, image: str = IMAGE, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    """A template of one container; `spec` adds to or replaces fields of the pod's spec, `command` those of the container."""
    container: Object = {"name": "main", "image": image}
    for field in ("command", "readinessProbe", "ports"):
        if field in spec:
            container[field] = spec.pop(field)
    metadata: Object = {"labels": labels} | ({"annotations": annotations} if annotations else {})
    return {"metadata": metadata, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec}}


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


class Workloads:
    """Objects are named by `kind/name` with the kind in plural, as kubectl does."""

    def __init__(self, wire: Wire, namespace: str) -> None:
        self.wire, self.namespace = wire, namespace

    def path(self, what: str, subresource: str = "") -> str:
        """`deployments`, `deployments/web`."""
        plural, _, name = what.partition("/")
        parts = [COLLECTIONS[plural], "namespaces", self.namespace, plural, name, subresource]
        return "/".join(part for part in parts if part)

    def create(self, what: str, spec: Object, *, labels: dict[str, str] | None = None) -> Object:
        plural, _, name = what.partition("/")
        made: Object = self.wire.create(self.path(plural), {"metadata": {"name": name, "labels": labels or {}}, "spec": spec})
        return made

    def get(self, what: str, subresource: str = "") -> Object:
        found: Object = self.wire.get(self.path(what, subresource))
        return found

    def list(self, plural: str, selector: str = "") -> list[Object]:
        items: list[Object] = self.wire.get(self.path(plural), labelSelector=selector)["items"]
        return items

    def patch(self, what: str, body: Any, subresource: str = "", *, kind: str = MERGE) -> Object:
        patched: Object = self.wire.patch(self.path(what, subresource), body, kind)
        return patched

    def put(self, what: str, change: Callable[[Object], None], subresource: str = "") -> Object:
        """Read, change, replace; again when somebody was faster."""
        for _ in range(20):
            obj = self.get(what, subresource)
            change(obj)
            reply = self.wire.send("PUT", self.path(what, subresource), obj)
            if reply.status != 409:
                assert reply.status == 200, reply.data
                replaced: Object = reply.json
                return replaced
        raise AssertionError(f"{what} never came to rest")

    def delete(self, what: str, **options: Any) -> None:
        self.wire.delete(self.path(what), options or None)

    def delete_all(self, plural: str, selector: str) -> None:
        self.wire.delete(self.path(plural), labelSelector=selector)

    def exists(self, what: str) -> bool:
        return self.wire.exists(self.path(what))

    def pods(self, selector: str) -> list[Object]:
        """Those that are not on their way out."""
        return [pod for pod in self.list("pods", selector) if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, selector: str) -> list[Object]:
        return [pod for pod in self.pods(selector) if condition(pod, "Ready") == "True"]

    def wait_ready(self, selector: str, count: int) -> list[Object]:
        """Exactly so many pods, all ready."""
        wait_for(lambda: len(self.pods(selector)) == len(self.ready_pods(selector)) == count, f"{count} ready pods of {selector}")
        return self.ready_pods(selector)

    def wait_status(self, what: str, **fields: Any) -> Object:
        """The object once its status has these values (0 for a field that is not there)."""

        def has_come() -> bool:
            status = self.get(what).get("status") or {}
            return all(status.get(name, 0) == value for name, value in fields.items())

        wait_for(has_come, f"{what} with {fields}")
        return self.get(what)

    def wait_condition(self, what: str, kind: str, reason: str = "") -> Object:
        """The object once it has the condition, with the reason if one is given."""

        def has_come() -> bool:
            obj = self.get(what)
            return condition(obj, kind) == "True" and (not reason or condition(obj, kind, "reason") == reason)

        wait_for(has_come, f"{what} {kind} {reason}")
        return self.get(what)


def condition(obj: Object, kind: str, field: str = "status") -> str:
    """A field of a condition; empty if there is none of that type."""
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found["type"] == kind:
            return str(found.get(field, ""))
    return ""


def owner_uid(obj: Object) -> str:
    """The uid of what controls an object; empty if nothing does."""
    return next((ref["uid"] for ref in obj["metadata"].get("ownerReferences") or () if ref.get("controller")), "")
