"""CustomResourceDefinitions that exist for one test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.conformance.wire import Wire
from tests.conftest import wait_for

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANYTHING: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True)
class Custom:
    """A served definition."""

    wire: Wire
    definition: dict[str, Any]

    @property
    def group(self) -> str:
        return str(self.definition["spec"]["group"])

    @property
    def path(self) -> str:
        return f"{CRDS}/{self.definition['metadata']['name']}"

    def collection(self, namespace: str, version: str = "v1") -> str:
        return f"/apis/{self.group}/{version}/namespaces/{namespace}/{self.definition['spec']['names']['plural']}"

    def object(self, name: str, version: str = "v1", **content: Any) -> dict[str, Any]:
        kind = self.definition["spec"]["names"]["kind"]
        return {"apiVersion": f"{self.group}/{version}", "kind": kind, "metadata": {"name": name}, **content}


def definition(schema: dict[str, Any], *versions: str, group: str = "", kind: str = "Foo", **version: Any) -> dict[str, Any]:
    """A definition of versions with the same schema; the first is stored. A group of its own unless one is given."""
    group = group or f"g{uuid.uuid4().hex[:8]}.example.com"
    names = {"plural": f"{kind.lower()}s", "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    told = [
        {"name": name, "served": True, "storage": n == 0, "schema": {"openAPIV3Schema": schema}, **version}
        for n, name in enumerate(versions or ("v1",))
    ]
    metadata = {"name": f"{names['plural']}.{group}"}
    return {"metadata": metadata, "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": told}}


@contextmanager
def custom(wire: Wire, wanted: dict[str, Any]) -> Iterator[Custom]:
    """The definition, served until the end of the block."""
    made = Custom(wire, wire.create(CRDS, wanted))
    wait_for(lambda: is_established(wire.get(made.path)), "the definition is served")
    try:
        yield made
    finally:
        wire.send("DELETE", made.path)


def is_established(found: dict[str, Any]) -> bool:
    conditions = found.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
