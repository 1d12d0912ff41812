"""What is remembered of a template's pods never lets another spec pass."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from kubecosm.api.managedfields import on_create, update
from kubecosm.api.resources import PODS, Object
from kubecosm.api.schema import prune
from kubecosm.services.apiserver.registry.core import templates
from kubecosm.services.apiserver.registry.core.pod import PodStrategy
from kubecosm.services.apiserver.registry.core.templates import KnownSpecs


def pod(token: str = "kube-api-access-abcde", **spec: Any) -> Object:
    mount = {"name": token, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
    source = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    volume = {"name": token, "projected": {"sources": [source], "defaultMode": 420}}
    container = {
        "name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePath": "/t", "terminationMessagePolicy": "File",
        "resources": {}, "volumeMounts": [mount],
    }  # fmt: skip
    usual = {
        "containers": [container], "volumes": [volume], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "s",
        "terminationGracePeriodSeconds": 30, "securityContext": {}, "serviceAccountName": "default",
    }  # fmt: skip
    return {"metadata": {"name": "p"}, "spec": {**usual, **spec}}


def fields(strategy: PodStrategy, obj: Object) -> list[str]:
    return [error.field for error in strategy.validate(obj)]


def test_right_specs_are_looked_at_once_whatever_their_token_volume_is_called() -> None:
    strategy = PodStrategy(PODS)
    assert fields(strategy, pod()) == []
    assert KnownSpecs.key(pod()["spec"]) == KnownSpecs.key(pod("kube-api-access-zz999")["spec"])
    assert strategy._known.holds(KnownSpecs.key(pod("kube-api-access-zz999")["spec"]), {})
    assert not strategy._known.holds(KnownSpecs.key(pod(restartPolicy="Never")["spec"]), {})


def test_what_is_wrong_stays_wrong_beside_right_ones() -> None:
    strategy = PodStrategy(PODS)
    for _ in range(2):
        assert fields(strategy, pod()) == []
        assert "spec.volumes[0].name" in fields(strategy, pod("kube-api-access-ABCDE"))
        assert fields(strategy, pod(restartPolicy="Sometimes")) == ["spec.restartPolicy"]
        assert fields(strategy, pod(serviceAccountName="")) == ["spec.volumes[0].projected.sources[0].serviceAccountToken"]
        assert fields(strategy, pod(nodeName="n", schedulingGates=[{"name": "g"}])) == ["spec.nodeName"]
        bad_mount = pod()
        bad_mount["spec"]["containers"][0]["volumeMounts"][0]["name"] = "kube-api-access-other"
        assert fields(strategy, bad_mount) == ["spec.containers[0].volumeMounts[0].name"]
        marked = pod()
        marked["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        assert fields(strategy, marked) == ["metadata.annotations[kubernetes.io/config.mirror]"]


def test_every_pod_is_stored_without_empty_lists() -> None:
    strategy = PodStrategy(PODS)
    for spec in ({}, {}, {"tolerations": []}, {"tolerations": []}, {}):
        obj = {"apiVersion": "v1", "kind": "Pod", **pod(**spec)}
        obj["metadata"]["labels"] = {}
        assert strategy.validate(obj) == []
        expected = copy.deepcopy(obj)
        prune(expected)
        strategy.prune(obj)
        assert obj == expected
        assert "labels" not in obj["metadata"]
        assert "tolerations" not in obj["spec"]


def test_claims_named_after_the_pod_are_looked_at_every_time() -> None:
    volume = {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}}
    assert KnownSpecs.key(pod(volumes=[volume])["spec"]) is None


def test_the_memory_of_specs_is_bounded() -> None:
    known = KnownSpecs()
    for n in range(templates.SPECS_REMEMBERED_MAX + 10):
        known.add(b"%d" % n, is_pruned=True)
        known.add(None, is_pruned=True)
    assert len(known._right) <= templates.SPECS_REMEMBERED_MAX
    assert KnownSpecs.key(pod(hostname="x" * templates.SPEC_BYTES_MAX)["spec"]) is None


def test_creators_of_equal_specs_own_equal_fields_and_share_none_of_the_rest() -> None:
    first, second, third = (copy.deepcopy(pod()) for _ in range(3))
    third["spec"]["hostname"] = "other"
    for n, obj in enumerate((first, second, third)):
        obj.update(apiVersion="v1", kind="Pod")
        obj["metadata"]["labels"] = {f"l{n}": "x"}
        on_create(PODS, obj, "me", datetime(2026, 11, 21, tzinfo=UTC))
    owned = [obj["metadata"]["managedFields"][0]["fieldsV1"] for obj in (first, second, third)]
    assert owned[0]["f:spec"] == owned[1]["f:spec"]
    assert set(owned[2]["f:spec"]) - set(owned[0]["f:spec"]) == {"f:hostname"}
    assert [list(one["f:metadata"]["f:labels"]) for one in owned] == [[".", f"f:l{n}"] for n in range(3)]
    known = update.facts_of(PODS).known
    assert known is not None
    assert len(known._known) <= update.SPECS_REMEMBERED_MAX
