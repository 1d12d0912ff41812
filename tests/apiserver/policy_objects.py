"""Admission policies and bindings as tests write them."""

from __future__ import annotations

from typing import Any

from .harness import Api
from .webhook_server import rule

VAP = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
VAPB = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
MAP = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"
MAPB = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings"


def policy(*validations: str | dict[str, Any], rules: Any = None, name: str = "p", **spec: Any) -> dict[str, Any]:
    """A ValidatingAdmissionPolicy; validations may be bare expressions."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules or [rule("configmaps", "CREATE", "UPDATE")]},
            "validations": [{"expression": v} if isinstance(v, str) else v for v in validations], **spec,
        },
    }  # fmt: skip


def binding(*actions: str, name: str = "b", of: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": of, "validationActions": list(actions or ("Deny",)), **spec},
    }  # fmt: skip


def mutating_policy(*mutations: str | dict[str, Any], rules: Any = None, name: str = "m", **spec: Any) -> dict[str, Any]:
    """A MutatingAdmissionPolicy; bare expressions are applied configurations."""
    made = [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": m}} if isinstance(m, str) else m for m in mutations]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules or [rule("configmaps", "CREATE", "UPDATE")]}, "mutations": made,
            "reinvocationPolicy": "Never", **spec,
        },
    }  # fmt: skip


def json_patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def mutating_binding(name: str = "mb", of: str = "m", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": of, **spec},
    }  # fmt: skip


async def install(api: Api, made: dict[str, Any], *bindings: dict[str, Any]) -> None:
    """Create a policy of either kind with its bindings; without any, with one that binds it everywhere."""
    mutates = made["kind"] == "MutatingAdmissionPolicy"
    await api.create(MAP if mutates else VAP, made)
    for each in bindings or (mutating_binding() if mutates else binding(),):
        await api.create(MAPB if mutates else VAPB, each)


async def check_api_operations(api: Api, path: str, kind: str, make: Any) -> None:
    """Discovery, create, get, list, watch, patch, update, delete, deletecollection."""
    group, _, plural = path.rpartition("/")
    assert any(each["name"] == "admissionregistration.k8s.io" for each in (await api.get("/apis"))["groups"])
    found = {resource["name"]: resource for resource in (await api.get(group))["resources"]}[plural]
    assert set(found["verbs"]) >= {"create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"}
    async with api.watch(f"{path}?watch=1") as watch:
        made = await api.create(path, make("a"))
        assert (made["kind"], (await watch.next())["type"]) == (kind, "ADDED")
        assert (await api.get(f"{path}/a"))["metadata"]["uid"] == made["metadata"]["uid"]
        patched = await api.merge(f"{path}/a", {"metadata": {"annotations": {"patched": "true"}}})
        assert (await watch.next())["object"]["metadata"]["annotations"] == {"patched": "true"}
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = await api.put(f"{path}/a", patched)
        assert updated["metadata"]["annotations"]["updated"] == "true"
        assert (await watch.next())["type"] == "MODIFIED"
        await api.delete(f"{path}/a")
        assert (await watch.next())["type"] == "DELETED"
    for name in ("b", "c"):
        await api.create(path, make(name))
    assert [each["metadata"]["name"] for each in (await api.get(path))["items"]] == ["b", "c"]
    await api.delete(path)
    assert (await api.get(path))["items"] == []
