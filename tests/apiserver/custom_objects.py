"""A custom resource for tests of admission, in two versions that differ in their name alone."""

from __future__ import annotations

from typing import Any

from .test_customresources import version

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CUSTOM = "/apis/stable.example.com/v1/namespaces/default/e2etests"


def custom_definition(properties: dict[str, Any] | None = None) -> dict[str, Any]:
    """A definition with versions v1 (stored) and v2, whose instances have `data`."""
    data: dict[str, Any] = {"type": "object", "properties": properties} if properties else {
        "type": "object", "additionalProperties": {"type": "string"},
    }  # fmt: skip
    schema = {"type": "object", "properties": {"data": data}}
    names = {"plural": "e2etests", "kind": "E2ETest"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "e2etests.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced", "names": names,
            "versions": [version("v1", schema=schema), version("v2", schema=schema, storage=False)],
        },
    }  # fmt: skip


def custom(name: str, data: dict[str, str], api: str = "v1") -> dict[str, Any]:
    return {"apiVersion": f"stable.example.com/{api}", "kind": "E2ETest", "metadata": {"name": name}, "data": data}
