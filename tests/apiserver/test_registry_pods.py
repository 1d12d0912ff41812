"""Pods get the defaults of Kubernetes, are refused in its words, and change only where it lets them."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import PODS

from .kinds import NAME_PART, SUBDOMAIN, causes, created, strategy, update_causes, updated


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "image": "web:1", **(container or {})}], **spec}}


def test_a_small_pod_gets_its_defaults():
    assert created(PODS, pod())["spec"] == {
        "containers": [
            {
                "name": "c", "image": "web:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst", "enableServiceLinks": True, "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "securityContext": {}, "terminationGracePeriodSeconds": 30,
    }  # fmt: skip


def test_a_new_pod_is_pending_with_its_class_of_service_and_generation():
    limits = {"cpu": "1", "memory": "1Gi"}
    cases = [(None, "BestEffort"), ({"requests": {"cpu": "1"}}, "Burstable"), ({"limits": limits}, "Guaranteed")]
    for resources, quality in cases:
        new = created(PODS, pod({"resources": resources} if resources else None) | {"status": {"phase": "Running"}})
        assert new["status"] == {"phase": "Pending", "qosClass": quality}
        assert new["metadata"]["generation"] == 1


@pytest.mark.parametrize(("image", "policy"), [
    ("web", "Always"), ("web:latest", "Always"), ("web:1", "IfNotPresent"), ("host:5000/web", "Always"),
    ("web@sha256:" + "0" * 64, "IfNotPresent"),
])  # fmt: skip
def test_the_pull_policy_follows_the_tag(image, policy):
    assert created(PODS, pod({"image": image}))["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize(("field", "given", "stored"), [
    ("ports", [{"containerPort": 80}], [{"containerPort": 80, "protocol": "TCP"}]),
    ("env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
     [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}]),
    ("resources", {"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}}),
    ("readinessProbe", {"httpGet": {"port": 80}},
     {"failureThreshold": 3, "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "periodSeconds": 10, "successThreshold": 1,
      "timeoutSeconds": 1}),
    ("livenessProbe", {"grpc": {"port": 80, "service": None}},
     {"failureThreshold": 3, "grpc": {"port": 80, "service": ""}, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1}),
    ("lifecycle", {"preStop": {"httpGet": {"port": "web"}}}, {"preStop": {"httpGet": {"path": "/", "port": "web", "scheme": "HTTP"}}}),
])  # fmt: skip
def test_containers_get_their_defaults(field, given, stored):
    assert created(PODS, pod({field: given}))["spec"]["containers"][0][field] == stored


@pytest.mark.parametrize(("given", "stored"), [
    ({"configMap": {"name": "m"}}, {"configMap": {"name": "m", "defaultMode": 420}}),
    ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
    ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
    ({}, {"emptyDir": {}}),
    ({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
     {"projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3600, "path": "t"}}]}}),
    ({"nfs": {"server": "s", "path": "/"}}, {"nfs": {"server": "s", "path": "/"}}),
])  # fmt: skip
def test_volumes_get_their_defaults(given, stored):
    assert created(PODS, pod(volumes=[{"name": "v", **given}], serviceAccountName="s"))["spec"]["volumes"] == [{"name": "v", **stored}]


def test_host_networks_open_their_ports_on_the_host():
    ports = created(PODS, pod({"ports": [{"containerPort": 80}]}, hostNetwork=True))["spec"]["containers"][0]["ports"]
    assert ports == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


_POLICIES = 'supported values: "Always", "IfNotPresent", "Never"'
BAD_CONTAINERS = [
    ({"name": ""}, ["spec.containers[0].name: Required value"]),
    ({"image": ""}, ["spec.containers[0].image: Required value"]),
    ({"image": " web"}, ['spec.containers[0].image: Invalid value: " web": must not have leading or trailing whitespace']),
    ({"imagePullPolicy": "Maybe"}, [f'spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": {_POLICIES}']),
    ({"ports": [{"containerPort": 0}]}, ["spec.containers[0].ports[0].containerPort: Required value"]),
    ({"ports": [{"containerPort": 70000}]},
     ["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
    ({"ports": [{"containerPort": 1, "name": "p"}, {"containerPort": 2, "name": "p"}]},
     ['spec.containers[0].ports[1].name: Duplicate value: "p"']),
    ({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
     ["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"]),
    ({"env": [{"name": "A", "valueFrom": {}}]},
     ["spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
      "`secretKeyRef` or `fileKeyRef`"]),
    ({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}},
     ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
    ({"resources": {"requests": {"cpu": "-1"}}},
     ['spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
    ({"livenessProbe": {}}, ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]),
    ({"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
     ["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"]),
    ({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}, ['spec.containers[0].volumeMounts[0].name: Not found: "none"']),
    ({"securityContext": {"runAsUser": -1}},
     ["spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"]),
    ({"lifecycle": {"preStop": {}}}, ["spec.containers[0].lifecycle.preStop: Required value: must specify a handler type"]),
]  # fmt: skip


@pytest.mark.parametrize(("container", "expected"), BAD_CONTAINERS)
def test_bad_containers_are_refused(container, expected):
    assert causes(PODS, pod(container)) == expected


BAD_SPECS = [
    ({"restartPolicy": "Sometimes"},
     ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"']),
    ({"dnsPolicy": "Mine"},
     ['spec.dnsPolicy: Unsupported value: "Mine": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"']),
    ({"dnsPolicy": "None"}, ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
    ({"activeDeadlineSeconds": 0}, ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"]),
    ({"nodeSelector": {"a b": "c"}},
     [f'spec.nodeSelector: Invalid value: "a b": {NAME_PART}']),
    ({"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]},
     ['spec.tolerations[0].operator: Invalid value: {"Key":"k","Operator":"Exists","Value":"v","Effect":"","TolerationSeconds":null}: '
      "value must be empty when `operator` is 'Exists'"]),
    ({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]},
     ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]),
    ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}, ['spec.volumes[1].name: Duplicate value: "v"']),
    ({"hostname": "a.b"}, ['spec.hostname: Invalid value: "a.b": must not contain dots']),
    ({"serviceAccountName": "A"},
     [f'spec.serviceAccountName: Invalid value: "A": {SUBDOMAIN}']),
    ({"hostNetwork": True, "initContainers": [{"name": "c", "image": "i"}]}, ['spec.initContainers[0].name: Duplicate value: "c"']),
    ({"initContainers": [{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]},
     ["spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"]),
    ({"ephemeralContainers": [{"name": "e", "image": "i"}]}, ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
    ({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "DoNotSchedule"}]},
     ["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
      "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty"]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), BAD_SPECS)
def test_bad_specs_are_refused(spec, expected):
    assert causes(PODS, pod(**spec)) == expected


SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["v"]}
COMPANY = {"topologyKey": "zone", "matchLabelKeys": ["v"]}


def with_label_keys(selector: dict[str, Any] | None) -> dict[str, Any]:
    """A pod labelled v=1 that names the key in a spread constraint and in a term of affinity, both with this selector."""
    own = {} if selector is None else {"labelSelector": selector}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{**COMPANY, **own}]}}
    labelled = {"metadata": {"name": "p", "labels": {"app": "x", "v": "1"}}}
    return pod(topologySpreadConstraints=[{**SPREAD, **own}], affinity=affinity) | labelled


def test_label_keys_become_part_of_their_selectors():
    spec = created(PODS, with_label_keys({"matchLabels": {"app": "x"}}))["spec"]
    merged = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "v", "operator": "In", "values": ["1"]}]}
    assert spec["topologySpreadConstraints"][0]["labelSelector"] == merged
    assert spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"] == merged
    assert causes(PODS, with_label_keys({"matchLabels": {"app": "x"}})) == []


def test_label_keys_must_not_be_in_the_selector_already_and_need_one():
    twice = "exists in both matchLabelKeys and labelSelector"
    assert [cause.rpartition(": ")[2] for cause in causes(PODS, with_label_keys({"matchLabels": {"v": "1"}}))] == [twice, twice]
    alone = "must not be specified when labelSelector is not set"
    assert [cause.rpartition(": ")[2] for cause in causes(PODS, with_label_keys(None))] == [alone, alone]


def test_all_causes_come_at_once_and_in_order():
    spec = {"containers": [{"name": "A"}], "restartPolicy": "x", "volumes": [{"name": "B_"}]}
    assert [cause.partition(":")[0] for cause in causes(PODS, {"spec": spec})] == [
        "spec.volumes[0].name", "spec.containers[0].name", "spec.containers[0].image", "spec.restartPolicy",
    ]  # fmt: skip


def test_a_pod_without_containers_is_refused():
    assert causes(PODS, {"spec": {}}) == ["spec.containers: Required value"]


def test_images_gates_and_deadlines_may_change():
    old = created(PODS, pod(schedulingGates=[{"name": "g"}]))
    spec = {"containers": [{**old["spec"]["containers"][0], "image": "web:2"}], "schedulingGates": None, "activeDeadlineSeconds": 5}
    new = updated(PODS, old, {"spec": spec})
    assert new["spec"]["containers"][0]["image"] == "web:2"
    assert "schedulingGates" not in new["spec"]
    assert new["metadata"]["generation"] == 2


def test_anything_else_is_refused_with_the_difference():
    old = created(PODS, pod())
    (cause,) = update_causes(PODS, old, {"spec": {"restartPolicy": "Never"}})
    assert cause.startswith("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    assert '\n- "RestartPolicy": "Always",\n+ "RestartPolicy": "Never",\n' in cause


@pytest.mark.parametrize(("change", "expected"), [
    ({"containers": [{"name": "c", "image": "web:1"}, {"name": "d", "image": "web:1"}]},
     ["spec.containers: Forbidden: pod updates may not add or remove containers"]),
    ({"activeDeadlineSeconds": 20},
     ["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"]),
    ({"tolerations": None}, None),
])  # fmt: skip
def test_what_may_change_may_not_change_in_every_way(change, expected):
    old = created(PODS, pod(activeDeadlineSeconds=10, tolerations=[{"key": "k", "operator": "Exists"}]))
    found = update_causes(PODS, old, {"spec": change})
    if expected is None:
        assert found == ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    else:
        assert found == expected


def test_status_and_spec_are_changed_apart():
    old = created(PODS, pod())
    status = updated(PODS, old, {"spec": {"restartPolicy": "Never"}, "status": {"phase": "Running"}}, "status")
    assert status["spec"] == old["spec"]
    assert status["status"]["phase"] == "Running"
    assert updated(PODS, old, {"status": {"phase": "Failed"}})["status"] == old["status"]


def test_resize_changes_resources_alone():
    old = created(PODS, pod({"resources": {"requests": {"cpu": "1"}}}))
    container = {**old["spec"]["containers"][0], "image": "other", "resources": {"requests": {"cpu": "2"}}}
    new = updated(PODS, old, {"spec": {"containers": [container]}}, "resize")
    assert new["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "2"}
    assert new["spec"]["containers"][0]["image"] == "web:1"


def test_ephemeral_containers_can_only_be_added():
    old = created(PODS, pod())
    new = updated(PODS, old, {"spec": {"ephemeralContainers": [{"name": "debug", "image": "sh"}]}}, "ephemeralcontainers")
    assert new["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"] == "File"
    found = update_causes(PODS, new, {"spec": {"ephemeralContainers": None}}, "ephemeralcontainers")
    assert found == ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed\n']


def test_grace_is_the_pods_own_unless_it_never_ran():
    new = created(PODS, pod(terminationGracePeriodSeconds=7))
    kind = strategy(PODS)
    assert kind.grace_period_seconds(new, None) == 0, "not scheduled yet"
    new["spec"]["nodeName"] = "n"
    assert [kind.grace_period_seconds(new, wanted) for wanted in (None, 3, 0)] == [7, 3, 0]
    new["status"]["phase"] = "Succeeded"
    assert kind.grace_period_seconds(new, None) == 0


def test_field_selectors_see_node_phase_and_service_account():
    new = created(PODS, pod(nodeName="n", serviceAccountName="s"))
    fields = strategy(PODS).selectable_fields(new)
    assert fields["spec.nodeName"] == "n"
    assert fields["status.phase"] == "Pending"
    assert fields["spec.serviceAccountName"] == "s"
    assert fields["spec.hostNetwork"] == "false"


def test_warnings_tell_what_is_outdated():
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    new = created(PODS, pod({"env": env}, nodeSelector={"beta.kubernetes.io/os": "linux"}))
    assert strategy(PODS).warnings(new) == [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
    ]
