"""Pod templates are printed as Go prints them: hashes of real clusters come out."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.hashing import fnv32a, safe_encode
from kubecosm.api.resources import Object
from kubecosm.services.controller.common.gotext import template_hash, template_text


def template(labels: Object, container: Object, **spec: Any) -> Object:
    """A template as the API server completes it."""
    defaults = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
    pod = {
        "containers": [{**defaults, **container}], "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst", "securityContext": {}, "schedulerName": "default-scheduler", **spec,
    }  # fmt: skip
    return {"metadata": {"labels": labels}, "spec": pod}


def probe(path: str, port: str, **fields: Any) -> Object:
    action = {"path": path, "port": port, "scheme": "HTTP"}
    return {"httpGet": action, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, **fields}


NGINX = template({"app": "nginx"}, {"name": "nginx", "image": "nginx", "resources": {}, "imagePullPolicy": "Always"})
"""What `kubectl create deployment nginx --image=nginx` makes."""

_PORTS = {"dns": 53, "dns-tcp": 53, "metrics": 9153, "liveness-probe": 8080, "readiness-probe": 8181}
_ANTI_AFFINITY = {
    "weight": 100,
    "podAffinityTerm": {
        "labelSelector": {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]},
        "topologyKey": "kubernetes.io/hostname",
    },
}
COREDNS = template(
    {"k8s-app": "kube-dns"},
    {
        "name": "coredns", "image": "registry.k8s.io/coredns/coredns:v1.13.1", "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"name": n, "containerPort": p, "protocol": "UDP" if n == "dns" else "TCP"} for n, p in _PORTS.items()],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "volumeMounts": [{"name": "config-volume", "readOnly": True, "mountPath": "/etc/coredns"}],
        "livenessProbe": probe("/health", "liveness-probe", initialDelaySeconds=60, timeoutSeconds=5, failureThreshold=5),
        "readinessProbe": probe("/ready", "readiness-probe"),
        "securityContext": {
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}, "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
        },
    },
    volumes=[{"name": "config-volume", "configMap": {
        "name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}], "defaultMode": 420,
    }}],
    dnsPolicy="Default", nodeSelector={"kubernetes.io/os": "linux"}, serviceAccountName="coredns", serviceAccount="coredns",
    affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_ANTI_AFFINITY]}},
    tolerations=[
        {"key": "CriticalAddonsOnly", "operator": "Exists"}, {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
    ],
    priorityClassName="system-cluster-critical",
)  # fmt: skip
"""The Deployment that kubeadm 1.35 makes."""


def test_nginx_has_the_hash_it_has_in_a_cluster_of_1_36() -> None:
    assert template_hash(NGINX) == "7f8fbb96d"


@pytest.mark.parametrize(("made", "known"), [(NGINX, "56c45fd5ff"), (COREDNS, "7d764666f9")], ids=["nginx", "coredns"])
def test_with_the_one_field_of_1_35_that_was_replaced_hashes_are_those_of_1_35(made: Object, known: str) -> None:
    text = template_text(made).replace("SchedulingGroup:(*v1.PodSchedulingGroup)", "WorkloadRef:(*v1.WorkloadReference)")
    assert safe_encode(str(fnv32a(text.encode()))) == known


def test_a_collision_count_changes_the_hash() -> None:
    assert len({template_hash(NGINX), template_hash(NGINX, 0), template_hash(NGINX, 1)}) == 3


def test_order_and_emptiness_make_no_difference() -> None:
    spec = dict(reversed(NGINX["spec"].items()))
    same = {"spec": {**spec, "volumes": [], "nodeSelector": {}}, "metadata": {"creationTimestamp": None, **NGINX["metadata"]}}
    assert template_hash(same) == template_hash(NGINX)


@pytest.mark.parametrize(
    ("quantity", "value", "scale", "kept", "form"),
    [
        ("0", 0, 0, "0", ""),
        ("1", 1, 0, "1", "DecimalSI"),
        ("100m", 100, -3, "100m", "DecimalSI"),
        ("1k", 1, 3, "1k", "DecimalSI"),
        ("1e3", 1, 3, "1e3", "DecimalExponent"),
        ("170Mi", 170 << 20, 0, "170Mi", "BinarySI"),
        ("64Mi", 64 << 20, 0, "", "BinarySI"),
        ("1Gi", 1 << 30, 0, "1Gi", "BinarySI"),
        ("-1.5", -15, -1, "", "DecimalSI"),
    ],
)
def test_quantities_show_what_parsing_made_of_them(quantity: str, value: int, scale: int, kept: str, form: str) -> None:
    shown = (
        f"cpu:{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} "
        f"d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} s:(string){kept} Format:(resource.Format){form}}}"
    )
    container = {**NGINX["spec"]["containers"][0], "resources": {"limits": {"cpu": quantity}}}
    text = template_text({**NGINX, "spec": {**NGINX["spec"], "containers": [container]}})
    assert f"Limits:(v1.ResourceList)map[{shown}] Requests:(v1.ResourceList)<nil>" in text


@pytest.mark.parametrize(
    ("quantity", "words", "scale", "form"),
    [
        ("100Ti", "109951162777600", 0, "BinarySI"),
        ("20Ei", "9223372036854775807", 0, "BinarySI"),
        ("1234567890123456789", "1234567890123456789", 0, "DecimalSI"),
        ("12345678901234567890", "5097733592002180096 669260594", 9, "DecimalSI"),
    ],
)
def test_quantities_of_many_digits_are_decimals_of_any_length(quantity: str, words: str, scale: int, form: str) -> None:
    number = f"unscaled:(big.Int){{neg:(bool)false abs:(big.nat)[{words}]}} scale:(inf.Scale){scale}"
    shown = f"Dec:(*inf.Dec){{{number}}}}} s:(string) Format:(resource.Format){form}}}"
    container = {**NGINX["spec"]["containers"][0], "resources": {"requests": {"memory": quantity}}}
    assert shown in template_text({**NGINX, "spec": {**NGINX["spec"], "containers": [container]}})


def test_embedded_structs_stand_in_braces_of_their_own() -> None:
    volume = {"name": "disk", "rbd": {"monitors": ["m"], "image": "i"}}
    text = template_text({**NGINX, "spec": {**NGINX["spec"], "volumes": [volume]}})
    assert "Volumes:([]v1.Volume)[{Name:(string)disk VolumeSource:(v1.VolumeSource){HostPath:(*v1.HostPathVolumeSource)<nil> " in text
    assert "RBD:(*v1.RBDVolumeSource){CephMonitors:([]string)[m] RBDImage:(string)i FSType:(string) RBDPool:(string) " in text
