"""LimitRanges: defaults for containers that say nothing, bounds for those that do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.wire import Wire
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

Object = dict[str, Any]
LIMITS = {
    "type": "Container",
    "min": {"cpu": "50m", "memory": "100Mi", "ephemeral-storage": "100Gi"},
    "max": {"cpu": "500m", "memory": "500Mi", "ephemeral-storage": "500Gi"},
    "defaultRequest": {"cpu": "100m", "memory": "200Mi", "ephemeral-storage": "200Gi"},
    "default": {"cpu": "300m", "memory": "300Mi", "ephemeral-storage": "300Gi"},
}


def pod(name: str, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> Object:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "pause", "resources": resources}]}}


@promise("LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied.")
def test_pods_get_the_defaults_and_keep_within_the_bounds(wire: Wire, namespace: str) -> None:
    path, pods = f"/api/v1/namespaces/{namespace}/limitranges", f"/api/v1/namespaces/{namespace}/pods"
    with wire.watch(path, labelSelector="is=mine") as watching:
        made = wire.create(path, {"metadata": {"name": "limits", "labels": {"is": "mine"}}, "spec": {"limits": [LIMITS]}})
        assert watching.take(1) == [("ADDED", "limits")]
    assert made["spec"]["limits"] == [LIMITS]
    silent = wire.create(pods, pod("silent"))["spec"]["containers"][0]["resources"]
    assert silent == {"requests": LIMITS["defaultRequest"], "limits": LIMITS["default"]}
    partly = wire.create(pods, pod("partly", {"cpu": "300m", "memory": "150Mi"}, {"cpu": "300m", "ephemeral-storage": "400Gi"}))
    assert partly["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "300m", "memory": "150Mi", "ephemeral-storage": "400Gi"},  # a limit is a request where none is given
        "limits": {"cpu": "300m", "memory": "300Mi", "ephemeral-storage": "400Gi"},
    }
    assert "minimum cpu usage per Container is 50m" in wire.expect(403, "POST", pods, pod("little", {"cpu": "10m"}))["message"]
    assert "maximum cpu usage per Container is 500m" in wire.expect(403, "POST", pods, pod("much", {}, {"cpu": "600m"}))["message"]
    lower = made["spec"] | {"limits": [LIMITS | {"min": {"cpu": "9m", "memory": "100Mi", "ephemeral-storage": "100Gi"}}]}
    assert wire.put(f"{path}/limits", made | {"spec": lower})["spec"] == lower
    wire.create(pods, pod("little", {"cpu": "10m"}))
    assert "maximum memory usage" in wire.expect(403, "POST", pods, pod("big", {}, {"memory": "600Mi"}))["message"]
    wire.delete(f"{path}/limits")
    wait_for(lambda: wire.get(path)["items"] == [], "the limits are gone")
    assert wire.create(pods, pod("free", {}, {"memory": "600Mi"}))["spec"]["containers"][0]["resources"]["limits"] == {"memory": "600Mi"}


@promise("LimitRange should list, patch and delete a LimitRange by collection")
def test_limit_ranges_are_listed_patched_and_deleted_by_label(wire: Wire, namespace: str) -> None:
    other = f"{namespace}-other"
    wire.create("/api/v1/namespaces", {"metadata": {"name": other}})
    label = f"limits-of={namespace}"
    body = {"metadata": {"name": "limits", "labels": {"limits-of": namespace}}, "spec": {"limits": [LIMITS]}}
    for place in (namespace, other):
        wire.create(f"/api/v1/namespaces/{place}/limitranges", body)
    assert len(wire.get("/api/v1/limitranges", labelSelector=label)["items"]) == 2
    own = f"/api/v1/namespaces/{namespace}/limitranges"
    spec = {"limits": [LIMITS | {"max": LIMITS["max"] | {"cpu": "1"}}]}  # type: ignore[operator]
    patched = wire.patch(f"{own}/limits", {"metadata": {"labels": {"patched": namespace}}, "spec": spec})
    assert patched["spec"]["limits"][0]["max"]["cpu"] == "1"
    wire.delete(own, labelSelector=f"patched={namespace}")
    wait_for(lambda: wire.get(own)["items"] == [], "one is gone")
    left = wire.get("/api/v1/limitranges", labelSelector=label)["items"]
    assert [item["metadata"]["namespace"] for item in left] == [other]
    wire.delete(f"/api/v1/namespaces/{other}")
