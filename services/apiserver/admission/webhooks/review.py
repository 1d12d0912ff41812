"""AdmissionReviews: what a webhook is asked, and what its answer says. Pure.

Imitates apiserver/pkg/admission/plugin/webhook/{request,errors}. Only admission.k8s.io/v1 is spoken.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from kubecosm.api.errors import ApiError, BadRequest
from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object, Resource
from kubecosm.api.schema.gojson import syntax_problem

from ...authn.user import user_info
from ...rest.options import DeleteOptions, WriteOptions
from ...webhook.failures import CallFailed
from ..chain import Attributes

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
_OPTIONS_KIND = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
_PATCH_TYPE = "JSONPatch"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A webhook's answer, checked. `patch` is a JSON patch, or empty."""

    allowed: bool
    status: Object
    warnings: tuple[str, ...]
    annotations: dict[str, str]
    patch: bytes = b""


def request_of(attributes: Attributes, row: Resource, obj: Object | None, old: Object | None, uid: str) -> Object:
    """An AdmissionRequest; objects are in the version of `row`, which the webhook wants."""
    asked, own = attributes.resource, row.subresource(attributes.subresource) if attributes.subresource else None
    request: Object = {
        "uid": uid,
        "kind": _kind(own.group, own.version, own.kind) if own else _kind(row.group, row.version, row.kind),
        "resource": _resource(row),
    }
    if attributes.subresource:
        request["subResource"] = attributes.subresource
    request |= {"requestKind": _kind(*attributes.kind), "requestResource": _resource(asked)}
    if attributes.subresource:
        request["requestSubResource"] = attributes.subresource
    if attributes.name:
        request["name"] = attributes.name
    namespace = attributes.name if asked.plural == "namespaces" and not asked.group else attributes.namespace
    if namespace:
        request["namespace"] = namespace
    return request | {
        "operation": attributes.operation, "userInfo": user_info(attributes.user), "object": obj, "oldObject": old,
        "dryRun": attributes.dry_run, "options": options_of(attributes),
    }  # fmt: skip


def _kind(group: str, version: str, kind: str) -> Object:
    return {"group": group, "version": version, "kind": kind}


def _resource(row: Resource) -> Object:
    return {"group": row.group, "version": row.version, "resource": row.plural}


def options_of(attributes: Attributes) -> Object | None:
    """The options of the operation as the API words them; patches show the options of what they come to."""
    given = attributes.options
    kind = _OPTIONS_KIND.get(attributes.operation)
    if kind is None:
        return None
    options: Object = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
    if isinstance(given, DeleteOptions):
        options |= _delete_options(given)
    elif isinstance(given, WriteOptions):
        if given.field_manager:
            options["fieldManager"] = given.field_manager
        if given.field_validation != "Warn":
            options["fieldValidation"] = given.field_validation
    if attributes.dry_run:
        options["dryRun"] = ["All"]
    return options


def _delete_options(given: DeleteOptions) -> Object:
    preconditions = {"uid": given.uid, "resourceVersion": given.resource_version}
    fields = {
        "gracePeriodSeconds": given.grace_period_seconds,
        "preconditions": {name: value for name, value in preconditions.items() if value is not None} or None,
        "orphanDependents": given.orphan_dependents, "propagationPolicy": given.propagation_policy,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value is not None}


def encode_review(request: Object) -> bytes:
    return orjson.dumps({"kind": KIND, "apiVersion": API_VERSION, "request": request})


def read_verdict(body: bytes, uid: str, *, mutating: bool) -> Verdict:
    """The checked answer. Raises CallFailed in the words of VerifyAdmissionResponse."""
    review = _decode(body)
    response = review.get("response")
    if response is None:
        raise _invalid("webhook response was absent")
    _check_shape(response)
    if response.get("uid") != uid:
        raise _invalid(f"expected response.uid={go_quote(uid)}, got {go_quote(response.get('uid') or '')}")
    patch, patch_type = _patch_of(response), response.get("patchType")
    if mutating:
        if patch_type is not None and not patch_type:
            raise _invalid(f"webhook returned invalid response.patchType of {go_quote(str(patch_type))}")
        if patch and patch_type is None:
            raise _invalid("webhook returned response.patch but not response.patchType")
        if patch_type is not None and not patch:
            raise _invalid("webhook returned response.patchType but not response.patch")
        if patch and patch_type != _PATCH_TYPE:
            raise CallFailed(f"unsupported patch type {go_quote(str(patch_type))}")
    elif patch:
        raise _invalid("validating webhook may not return response.patch")
    elif patch_type is not None:
        raise _invalid("validating webhook may not return response.patchType")
    return Verdict(
        response.get("allowed") is True, response.get("status") or {}, tuple(response.get("warnings") or ()),
        response.get("auditAnnotations") or {}, patch,
    )  # fmt: skip


_RESPONSE = {"uid": str, "allowed": bool, "patch": str, "patchType": str, "warnings": list, "auditAnnotations": dict, "status": dict}
_STATUS = {"message": str, "reason": str, "code": int, "details": dict, "metadata": dict, "status": str}
_GO_TYPES: dict[type, tuple[str, str]] = {
    str: ("string", "string"), bool: ("bool", "bool"), int: ("number", "int32"), float: ("number", "float64"), list: ("array", "[]string"),
    dict: ("object", "map[string]string"),
}  # fmt: skip
"""What JSON and Go call the types."""


def _check_shape(response: Any) -> None:
    """Raises CallFailed as encoding/json does for a field of the wrong type."""
    if not isinstance(response, dict):
        raise _mistyped(response, "AdmissionReview.response", "v1.AdmissionResponse")
    _check_fields(response, _RESPONSE, "AdmissionResponse.response")
    _check_fields(response.get("status") or {}, _STATUS, "Status.response.status")
    texts = {"warnings": response.get("warnings") or (), "auditAnnotations": (response.get("auditAnnotations") or {}).values()}
    for name, values in texts.items():
        for value in values:
            if not isinstance(value, str):
                raise _mistyped(value, f"AdmissionResponse.response.{name}", "string")


def _check_fields(fields: Object, known: dict[str, type], where: str) -> None:
    for name, wanted in known.items():
        value = fields.get(name)
        if value is not None and type(value) is not wanted:
            raise _mistyped(value, f"{where}.{name}", _GO_TYPES[wanted][1])


def _mistyped(value: Any, field: str, wanted: str) -> CallFailed:
    found = _GO_TYPES.get(type(value), ("null", ""))[0]
    return CallFailed(f"failed to call webhook: json: cannot unmarshal {found} into Go struct field {field} of type {wanted}")


def _decode(body: bytes) -> Object:
    """An AdmissionReview. Raises CallFailed as client-go does for what it cannot decode."""
    try:
        review: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        why = syntax_problem(body.decode("utf-8", "replace"))
        raise CallFailed(f"failed to call webhook: couldn't get version/kind; json parse error: {why}") from None
    if not isinstance(review, dict):
        found = _GO_TYPES.get(type(review), ("null", ""))[0]
        why = f"json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string; Kind string }}"
        raise CallFailed(f"failed to call webhook: couldn't get version/kind; json parse error: {why}")
    for name in ("apiVersion", "kind"):
        if not isinstance(review.get(name, ""), str):
            raise _mistyped(review[name], name, "string")
    version, kind = review.get("apiVersion", ""), review.get("kind", "")
    if (version, kind) != (API_VERSION, KIND):
        group, _, plain = version.rpartition("/")
        raise _invalid(f"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{plain}, Kind={kind}")
    return review


def _patch_of(response: Object) -> bytes:
    try:
        return base64.b64decode(response.get("patch") or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise CallFailed("failed to call webhook: illegal base64 data in response.patch") from None


def _invalid(why: str) -> CallFailed:
    return CallFailed(f"received invalid webhook response: {why}")


def denied(hook: str, status: Object) -> ApiError:
    """ToStatusErr: the webhook's own Status, completed."""
    by = f'admission webhook "{hook}" denied the request'
    if status.get("message"):
        message = f"{by}: {status['message']}"
    elif status.get("reason"):
        message = f"{by}: {status['reason']}"
    else:
        message = f"{by} without explanation"
    code = status.get("code")
    is_failure = isinstance(code, int) and code >= BadRequest.code  # whoever refuses cannot say that all is well
    reason, details = status.get("reason") or "", status.get("details")
    error = ApiError(message, code=code if is_failure else BadRequest.code, reason=reason, details=details)
    error.metadata = status.get("metadata") or {}
    return error
