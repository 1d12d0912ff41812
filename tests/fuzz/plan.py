"""Which request comes next: an operation of the served OpenAPI documents, with parameters and a body."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tests.fuzz.values import NASTY, Values

JSON, MERGE, JSON_PATCH, STRATEGIC, APPLY = (
    "application/json", "application/merge-patch+json", "application/json-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)  # fmt: skip
ACCEPTS = (
    "application/json", "", "*/*", "application/yaml", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf,application/json",
    "text/html", ";;q=x",
)  # fmt: skip
ONLY_DRY = (
    "/apis/admissionregistration.k8s.io/", "/apis/apiregistration.k8s.io/", "/apis/flowcontrol.apiserver.k8s.io/",
    "/apis/apiextensions.k8s.io/", "/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1/ipaddresses",
)  # fmt: skip
"""What would change the server itself, and so what the other requests meet."""
METHODS = ("get", "post", "put", "patch", "delete")
NAMES = 3


@dataclass(frozen=True)
class Operation:
    """One method of one path of the API."""

    template: str
    method: str
    kind: Mapping[str, str]
    action: str

    @property
    def names_one(self) -> bool:
        return "{name}" in self.template

    @property
    def subresource(self) -> str:
        """What follows the name."""
        return self.template.partition("{name}")[2].strip("/")


@dataclass(frozen=True)
class Planned:
    """One request."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes | None
    operation: Operation

    @property
    def is_dry(self) -> bool:
        """Options in a body hide those of the URL."""
        if self.method != "DELETE" or not self.body:
            return "dryRun=" in self.query
        try:
            options = json.loads(self.body.decode("utf-8", "replace"))
        except ValueError:
            return False
        return isinstance(options, dict) and bool(options.get("dryRun"))

    def __str__(self) -> str:
        return f"{self.method} {self.path}?{self.query} {self.headers} {self.body!r}"[:3000]


def operations(documents: list[Mapping[str, Any]]) -> list[Operation]:
    """Every operation on objects, in a fixed order. Legacy watch paths have `?watch` for the same."""
    found = [
        Operation(template, method, item[method]["x-kubernetes-group-version-kind"], item[method].get("x-kubernetes-action", ""))
        for document in documents
        for template, item in document["paths"].items()
        for method in METHODS
        if method in item and "x-kubernetes-group-version-kind" in item[method] and "/watch/" not in template
    ]
    return sorted(found, key=lambda operation: (operation.template, operation.method))


class Planner:
    """Plans the requests of one worker, who has a namespace and names of its own."""

    def __init__(self, worker: int, rng: random.Random, operations: list[Operation], values: Values) -> None:
        self.namespace, self._rng, self._values = f"fuzz-{worker}", rng, values
        self._names = [f"f{worker}-{n}" for n in range(NAMES)]
        weights = {"post": 8, "put": 3, "patch": 4, "get": 2, "delete": 1}
        self._operations, self._weights = operations, [weights[operation.method] for operation in operations]
        self.seen: dict[str, Any] = {}
        """path → the newest object an answer showed, which updates and patches start from."""

    def next(self) -> Planned:
        rng = self._rng
        (operation,) = rng.choices(self._operations, self._weights)
        name = rng.choice(self._names) if rng.random() < 0.97 else str(rng.choice(NASTY))
        if operation.method == "delete" and not name:
            name = self._names[0]  # without a name it is everybody's objects that go
        path = operation.template.replace("{namespace}", self.namespace).replace("{name}", quote(name, safe="", errors="replace"))
        path = path.replace("{path}", rng.choice(("", "a", "a/b", "%2e%2e/x")))
        query = self._query(operation)
        headers = {"Accept": rng.choice(ACCEPTS if rng.random() < 0.3 else ACCEPTS[:1])}
        body = None
        if operation.method in ("post", "put", "patch"):
            content_type, body = self._content(operation, path, name)
            headers["Content-Type"] = content_type
        elif operation.method == "delete" and rng.random() < 0.4:
            headers["Content-Type"] = JSON
            body = self._values.encoded(self._delete_options())
        return Planned(operation.method.upper(), path, urlencode(query), headers, body, operation)

    def _query(self, operation: Operation) -> dict[str, str]:
        rng, query = self._rng, {}
        if operation.method == "get" and operation.action == "list":
            if rng.random() < 0.3:
                query["limit"] = str(rng.choice((0, 1, 3, 500, -1, "x")))
            if rng.random() < 0.2:
                query["labelSelector"] = rng.choice(("a=b", "a in (b,c)", "!a", "a notin ()", "=,", "a>1", "ü"))
            if rng.random() < 0.2:
                query["fieldSelector"] = rng.choice(("metadata.name=x", "metadata.namespace!=y", "nope=1", "=", "status.phase=Running"))
            if rng.random() < 0.1:
                query["continue"] = rng.choice(("x", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0", ""))
            if rng.random() < 0.1:
                query["resourceVersion"] = rng.choice(("0", "1", "x", "-1"))
                query["resourceVersionMatch"] = rng.choice(("Exact", "NotOlderThan", "Nope", ""))
            if rng.random() < 0.02:
                query |= {"watch": "true", "timeoutSeconds": "1", "sendInitialEvents": rng.choice(("true", "false", "x"))}
        if operation.method != "get":
            if any(operation.template.startswith(prefix) for prefix in ONLY_DRY) or rng.random() < 0.05:
                query["dryRun"] = "All"
            if rng.random() < 0.5:
                query["fieldValidation"] = rng.choice(("Strict", "Warn", "Ignore", "Nope"))
            if rng.random() < 0.3:
                query["fieldManager"] = rng.choice(("a", "b", "x" * 200, "\n"))
            if operation.action == "deletecollection" and "{namespace}" not in operation.template:
                query["labelSelector"] = f"fuzz={self.namespace}"
        if operation.method == "patch" and rng.random() < 0.5:
            query["force"] = rng.choice(("true", "false"))
        return query

    def _content(self, operation: Operation, path: str, name: str) -> tuple[str, bytes]:
        rng, values = self._rng, self._values
        known = self.seen.get(path.removesuffix("/" + operation.subresource) if operation.subresource else path)
        if operation.method != "patch":
            goes_on = known is not None and operation.method == "put" and rng.random() < 0.8
            body = self._bytes(known if goes_on else values.body(operation.kind, name))
            return JSON if rng.random() < 0.97 else rng.choice(("application/yaml", "text/plain", "")), body
        kind = rng.choice((MERGE, JSON_PATCH, STRATEGIC, APPLY, APPLY))
        start = known if known is not None and rng.random() < 0.8 else values.body(operation.kind, name)
        if kind == JSON_PATCH:
            return kind, values.encoded(values.json_patch(start))
        if isinstance(start, dict) and kind == APPLY:
            start = json.loads(json.dumps(start))
            if isinstance(start.get("metadata"), dict):
                start["metadata"].pop("managedFields", None)
        return kind, self._bytes(start)

    def _bytes(self, start: Any) -> bytes:
        for _bend in range(self._rng.choice((0, 1, 1, 3))):
            start = self._values.bent(start)
        return self._values.encoded(start)

    def _delete_options(self) -> Any:
        rng = self._rng
        options = {
            "gracePeriodSeconds": rng.choice((0, 1, -1, "x")),
            "propagationPolicy": rng.choice(("Background", "Orphan", "Foreground", "Nope")),
            "preconditions": {"uid": "x"}, "orphanDependents": True, "dryRun": ["All"], "unknown": 1,
        }  # fmt: skip
        return {name: value for name, value in options.items() if rng.random() < 0.2}
