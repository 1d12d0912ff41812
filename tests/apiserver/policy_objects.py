"""Admission policies and bindings as tests write them."""

from __future__ import annotations

from typing import Any

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
