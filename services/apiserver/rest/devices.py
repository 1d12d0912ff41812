"""Kinds of resource.k8s.io between v1beta1 and the stored v1: requests and devices lie one level deeper in one of them.

Imitates pkg/apis/resource/v1beta1/conversion.go.
"""

from __future__ import annotations

from collections.abc import Callable

from kubecosm.api.resources import Object

V1, V1BETA1 = "resource.k8s.io/v1", "resource.k8s.io/v1beta1"
_EXACT = ("deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity")
"""Fields of a v1beta1 request that v1 holds in `exactly`."""

Convert = Callable[[Object], Object]


def _request_to_v1(request: Object) -> Object:
    exactly = {field: request[field] for field in _EXACT if field in request}
    rest = {field: value for field, value in request.items() if field not in _EXACT}
    # A request of alternatives has none of these fields, or empty ones.
    return {**rest, "exactly": exactly} if any(exactly.values()) else rest


def _request_from_v1(request: Object) -> Object:
    rest = {field: value for field, value in request.items() if field != "exactly"}
    return {**rest, **(request.get("exactly") or {})}


def _device_to_v1(device: Object) -> Object:
    return {**{field: value for field, value in device.items() if field != "basic"}, **(device.get("basic") or {})}


def _device_from_v1(device: Object) -> Object:
    return {"name": device.get("name", ""), "basic": {field: value for field, value in device.items() if field != "name"}}


def _in_devices(spec: Object, convert: Convert) -> Object:
    """A claim's spec with its requests converted."""
    devices = spec.get("devices")
    if not devices or not devices.get("requests"):
        return spec
    return {**spec, "devices": {**devices, "requests": [convert(request) for request in devices["requests"]]}}


def _claims(version: str, convert: Convert) -> Convert:
    return lambda obj: {**obj, "apiVersion": version, "spec": _in_devices(obj.get("spec") or {}, convert)}


def _templates(version: str, convert: Convert) -> Convert:
    def run(obj: Object) -> Object:
        spec = obj.get("spec") or {}
        return {**obj, "apiVersion": version, "spec": {**spec, "spec": _in_devices(spec.get("spec") or {}, convert)}}

    return run


def _slices(version: str, convert: Convert) -> Convert:
    def run(obj: Object) -> Object:
        spec = dict(obj.get("spec") or {})
        if spec.get("devices"):
            spec["devices"] = [convert(device) for device in spec["devices"]]
        return {**obj, "apiVersion": version, "spec": spec}

    return run


CONVERSIONS: dict[str, tuple[Convert, Convert]] = {
    "resourceclaims": (_claims(V1, _request_to_v1), _claims(V1BETA1, _request_from_v1)),
    "resourceclaimtemplates": (_templates(V1, _request_to_v1), _templates(V1BETA1, _request_from_v1)),
    "resourceslices": (_slices(V1, _device_to_v1), _slices(V1BETA1, _device_from_v1)),
}
"""plural → (v1beta1 to v1, back)."""
