"""Bodies: objects made from the served OpenAPI schemas, known good ones, and what becomes of both when they are bent.

Everything comes out of one random.Random, so that a seed repeats a run.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**64, -(2**63) - 1, 1.5, 1e300,
    "", " ", "a", "A_b", "-", "x" * 300, "ünïcödé \u0000 \U0001f600 \ud83d", "2026-01-01T00:00:00Z", "1e1000", "100Gi", "-5m", "50%", "*",
    "/../..", "{{", "${x}", [], {}, [None], [[]], {"": None}, {"a": {"a": {}}}, ["a", "a"],
)  # fmt: skip
DEPTH_MAX = 5
ITEMS_MAX = 3
CONTAINERS = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}]}]}
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": CONTAINERS}
SELECTOR = {"matchLabels": {"app": "x"}}
GOOD: dict[str, dict[str, Any]] = {
    "ConfigMap": {"data": {"a": "b"}, "binaryData": {"c": "aGk="}},
    "Secret": {"stringData": {"a": "b"}, "type": "Opaque"},
    "Pod": {"spec": {**CONTAINERS, "restartPolicy": "Never", "tolerations": [{"operator": "Exists"}]}},
    "Service": {"spec": {"selector": {"app": "x"}, "ports": [{"port": 80, "name": "http"}], "type": "ClusterIP"}},
    "ReplicationController": {"spec": {"replicas": 1, "selector": {"app": "x"}, "template": TEMPLATE}},
    "Deployment": {"spec": {"replicas": 1, "selector": SELECTOR, "template": TEMPLATE, "strategy": {"type": "RollingUpdate"}}},
    "ReplicaSet": {"spec": {"replicas": 1, "selector": SELECTOR, "template": TEMPLATE}},
    "StatefulSet": {"spec": {"serviceName": "s", "selector": SELECTOR, "template": TEMPLATE}},
    "DaemonSet": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "Job": {"spec": {"template": {"spec": {**CONTAINERS, "restartPolicy": "Never"}}, "completions": 2, "parallelism": 1}},
    "CronJob": {
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {**CONTAINERS, "restartPolicy": "Never"}}}}}
    },
    "PersistentVolumeClaim": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    "PersistentVolume": {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp"}}},
    "PodTemplate": {"template": TEMPLATE},
    "Namespace": {"spec": {}},
    "Node": {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
    "ServiceAccount": {"automountServiceAccountToken": False},
    "LimitRange": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}},
    "ResourceQuota": {"spec": {"hard": {"count/none.example.com": "100"}}},
    "Endpoints": {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
    "Lease": {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 30}},
    "ControllerRevision": {"revision": 1, "data": {"a": 1}},
    "NetworkPolicy": {"spec": {"podSelector": SELECTOR, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}},
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "IngressClass": {"spec": {"controller": "example.com/c"}},
    "PodDisruptionBudget": {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    "RuntimeClass": {"handler": "test"},
    "PriorityClass": {"value": 10},
    "StorageClass": {"provisioner": "example.com/none"},
    "CSIDriver": {"spec": {"attachRequired": False}},
    "CSINode": {"spec": {"drivers": []}},
    "Role": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    "ClusterRole": {"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]},
    "RoleBinding": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": []},
    "ClusterRoleBinding": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}, "subjects": []},
    "HorizontalPodAutoscaler": {"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}},
    "Event": {"reason": "R", "type": "Normal", "message": "m"},
    "Binding": {"target": {"kind": "Node", "name": "n"}},
    "Eviction": {},
    "Scale": {"spec": {"replicas": 2}},
    "TokenRequest": {"spec": {"audiences": []}},
    "SubjectAccessReview": {"spec": {"user": "u", "nonResourceAttributes": {"path": "/", "verb": "get"}}},
}  # fmt: skip


class Values:
    """`schemas` are the components of OpenAPI documents by their names."""

    def __init__(self, rng: random.Random, schemas: Mapping[str, Any]) -> None:
        self.rng, self._schemas = rng, schemas
        self._by_kind = {
            (kind["group"], kind["version"], kind["kind"]): schema
            for schema in schemas.values()
            for kind in schema.get("x-kubernetes-group-version-kind", ())
        }

    def body(self, kind: Mapping[str, str], name: str) -> Any:
        """An object of a kind: half of the time one that is known to be good, often bent."""
        group, version, word = kind["group"], kind["version"], kind["kind"]
        good = GOOD.get(word)
        if good is not None and self.rng.random() < 0.6:
            made: Any = copy.deepcopy(good)
        else:
            made = self.value(self._by_kind.get((group, version, word), {"type": "object"}), 0)
            made = made if isinstance(made, dict) else {}
            if self.rng.random() < 0.7:
                made.pop("metadata", None)
        metadata = made.setdefault("metadata", {})
        if isinstance(metadata, dict) and self.rng.random() < 0.95:
            metadata["name"] = name
        made["apiVersion"], made["kind"] = f"{group}/{version}".lstrip("/"), word
        for _bend in range(self.rng.choice((0, 0, 0, 1, 1, 2, 5))):
            made = self.bent(made)
        return made

    def value(self, schema: Mapping[str, Any], depth: int) -> Any:
        """Something that a schema describes, mostly."""
        rng = self.rng
        if rng.random() < 0.02:
            return copy.deepcopy(rng.choice(NASTY))
        if "allOf" in schema:
            schema = schema["allOf"][0]
        if "$ref" in schema:
            schema = self._schemas.get(schema["$ref"].rpartition("/")[2], {})
        if "enum" in schema:
            return rng.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            count = rng.randrange(ITEMS_MAX) if depth < DEPTH_MAX else 0
            return [self.value(schema.get("items", {}), depth + 1) for _item in range(count)]
        if kind == "string":
            return rng.choice(("a", "web", "b-1", "", "10.0.0.1", "1Gi", "50%", "2026-01-01T00:00:00Z", "aGk=", "example.com/x", "Always"))
        if kind in ("integer", "number"):
            return rng.choice((0, 1, 2, 80, 443, 30000, -1, 2**31 - 1))
        if kind == "boolean":
            return rng.random() < 0.5
        return copy.deepcopy(rng.choice(NASTY))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        rng, properties, required = self.rng, schema.get("properties", {}), schema.get("required", ())
        chance = 0.5 if depth < 2 else 0.25
        chosen = [name for name in properties if depth < DEPTH_MAX and (name in required or rng.random() < chance)]
        made = {name: self.value(properties[name], depth + 1) for name in chosen}
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping) and depth < DEPTH_MAX:
            made |= {rng.choice(("a", "b.c/d", "cpu", "")): self.value(more, depth + 1) for _entry in range(rng.randrange(ITEMS_MAX))}
        return made

    def bent(self, value: Any) -> Any:
        """The value with one place of it changed, taken away or doubled."""
        rng = self.rng
        if isinstance(value, dict) and value and rng.random() < 0.9:
            name = rng.choice(sorted(value))
            deed = rng.random()
            if deed < 0.7:
                return {**value, name: self.bent(value[name])}
            if deed < 0.85:
                return {key: inner for key, inner in value.items() if key != name}
            return {**value, rng.choice(("unknown", "", name.upper(), "$patch", "$setElementOrder/x")): copy.deepcopy(rng.choice(NASTY))}
        if isinstance(value, list) and value and rng.random() < 0.9:
            at = rng.randrange(len(value))
            return [*value[:at], self.bent(value[at]), *value[at + rng.randrange(2) :]]
        return copy.deepcopy(rng.choice(NASTY))

    def json_patch(self, obj: Any) -> list[dict[str, Any]]:
        """Operations on places that an object has, or nearly has."""
        return [self._operation(obj) for _operation in range(self.rng.randrange(1, 4))]

    def _operation(self, obj: Any) -> dict[str, Any]:
        rng, path, place = self.rng, "", obj
        while isinstance(place, dict | list) and place and rng.random() < 0.8:
            key: Any = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
            path, place = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}", place[key]
        if rng.random() < 0.1:
            path += rng.choice(("/-", "/99", "/x", "~", "//"))
        made = {"op": rng.choice(("add", "remove", "replace", "test", "copy", "move", "nope")), "path": path}
        if rng.random() < 0.8:
            made["value"] = self.bent(place) if rng.random() < 0.5 else copy.deepcopy(rng.choice(NASTY))
        if rng.random() < 0.4:
            made["from"] = rng.choice(("/metadata/name", "/metadata/labels", "/spec", "", path))
        return made

    def encoded(self, value: Any) -> bytes:
        """JSON of a value; rarely cut off, with a key twice or with bytes that are no text."""
        text = json.dumps(value, ensure_ascii=self.rng.random() < 0.5).encode("utf-8", "surrogatepass")
        deed = self.rng.random()
        if deed < 0.02:
            return text[: self.rng.randrange(len(text))]
        if deed < 0.04 and text.startswith(b"{"):
            return b'{"metadata":{"name":"twice"},"metadata":{},' + text[1:]
        if deed < 0.05:
            at = self.rng.randrange(len(text))
            return text[:at] + self.rng.randbytes(3) + text[at:]
        return text
