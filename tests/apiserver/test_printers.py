"""Rows say what `kubectl get` of Kubernetes says, and every kind has columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubecosm.api.resources import (
    CRONJOBS,
    CUSTOMRESOURCEDEFINITIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    INGRESSES,
    JOBS,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
    STATEFULSETS,
    STORAGECLASSES,
    Object,
    Resource,
    load_builtin,
)
from kubecosm.services.apiserver.printers import printer_for, scale_printer
from kubecosm.services.apiserver.printers.texts import human_duration
from kubecosm.services.apiserver.rest.tables import table

from .kinds import resource_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BORN = "2026-01-01T11:55:00Z"
"""Five minutes before NOW."""


def stored(name: str = "x", metadata: dict[str, Any] | None = None, **fields: Any) -> Object:
    return {"kind": "K", "apiVersion": "v1", "metadata": {"name": name, "creationTimestamp": BORN, **(metadata or {})}, **fields}


def shown(resource: Resource, obj: Object) -> dict[str, Any]:
    """Column name → cell."""
    printer = printer_for(resource)
    return dict(zip((column["name"] for column in printer.columns), printer.row(obj, NOW), strict=False))


@pytest.mark.parametrize(("seconds", "text"), [
    (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m"), (3600 * 3 - 1, "179m"),
    (3600 * 3, "3h"), (3600 * 4 + 120, "4h2m"), (3600 * 8 + 120, "8h"),
    (3600 * 47, "47h"), (3600 * 49, "2d1h"), (86400 * 8, "8d"), (86400 * 800, "2y70d"),
    (86400 * 365 * 9, "9y"),
])  # fmt: skip
def test_durations_are_short(seconds, text):
    assert human_duration(timedelta(seconds=seconds)) == text


# ---- Pods


def status(name: str = "c", ready: bool = True, restarts: int = 0, **state: Any) -> Object:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state or {"running": {}}}


def pod(statuses: list[Object], phase: str = "Running", **fields: Any) -> Object:
    spec = {"containers": [{"name": s["name"]} for s in statuses] or [{"name": "c"}], **fields.pop("spec", {})}
    return stored(fields.pop("name", "x"), fields.pop("metadata", None), spec=spec,
                  status={"phase": phase, "containerStatuses": statuses, **fields})  # fmt: skip


READY = {"conditions": [{"type": "Ready", "status": "True"}]}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
PODS_SEEN = [
    (pod([], "Pending"), "0/1", "Pending", "0"),
    (pod([status()]), "1/1", "Running", "0"),
    (pod([status(ready=False, waiting={"reason": "ContainerCreating"})], "Pending"), "0/1", "ContainerCreating", "0"),
    (pod([status("a"), status("b", ready=False, restarts=3, waiting={"reason": "CrashLoopBackOff"})]), "1/2", "CrashLoopBackOff", "3"),
    (pod([status(ready=False, **DONE)], "Succeeded"), "0/1", "Completed", "0"),
    (pod([status(ready=False, terminated={"exitCode": 2})], "Failed"), "0/1", "ExitCode:2", "0"),
    (pod([status(ready=False, terminated={"exitCode": 137, "signal": 9})], "Failed"), "0/1", "Signal:9", "0"),
    (pod([status("a", ready=False, **DONE), status("b")], **READY), "1/2", "Running", "0"),
    (pod([status("a", ready=False, **DONE), status("b")]), "1/2", "NotReady", "0"),
    (pod([], "Failed", reason="Evicted"), "0/1", "Evicted", "0"),
    (pod([status()], metadata={"deletionTimestamp": BORN}), "1/1", "Terminating", "0"),
    (pod([status()], reason="NodeLost", metadata={"deletionTimestamp": BORN}), "1/1", "Unknown", "0"),
    (pod([], "Pending", conditions=[{"type": "PodScheduled", "reason": "SchedulingGated"}]), "0/1", "SchedulingGated", "0"),
    (pod([], "Pending", spec={"initContainers": [{"name": "i"}, {"name": "j"}]},
         initContainerStatuses=[status("i", **DONE), status("j", ready=False)]), "0/1", "Init:1/2", "0"),
    (pod([], "Pending", spec={"initContainers": [{"name": "i"}]},
         initContainerStatuses=[status("i", restarts=2, terminated={"exitCode": 1, "reason": "Error"})]), "0/1", "Init:Error", "2"),
    (pod([status()], spec={"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
         initContainerStatuses=[status("s", started=True) | {"started": True}]), "2/2", "Running", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "ready", "word", "restarts"), PODS_SEEN)
def test_pods_say_how_they_are(obj, ready, word, restarts):
    row = shown(PODS, obj)
    assert (row["Ready"], row["Status"], row["Restarts"], row["Age"]) == (ready, word, restarts, "5m")


def test_restarts_tell_when_the_last_one_was():
    last = status(restarts=2) | {"lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T11:59:00Z"}}}
    assert shown(PODS, pod([last]))["Restarts"] == "2 (60s ago)"


def test_wide_columns_of_a_pod():
    gates = {"readinessGates": [{"conditionType": "g"}, {"conditionType": "h"}], "nodeName": "n"}
    conditions = [{"type": "g", "status": "True"}, {"type": "h", "status": "False"}]
    row = shown(PODS, pod([status()], spec=gates, podIPs=[{"ip": "10.1.1.1"}], conditions=conditions))
    assert (row["IP"], row["Node"], row["Nominated Node"], row["Readiness Gates"]) == ("10.1.1.1", "n", "<none>", "1/2")


def test_finished_pods_are_marked_in_their_rows():
    for phase, reason in (("Succeeded", "Succeeded"), ("Failed", "Failed")):
        found = table(printer_for(PODS), [pod([], phase)], "v1", NOW, "None", meta={}, stored=lambda obj: obj)
        assert [(c["type"], c["reason"]) for c in found["rows"][0]["conditions"]] == [("Completed", reason)]
    assert "conditions" not in table(printer_for(PODS), [pod([])], "v1", NOW, "None", meta={}, stored=lambda obj: obj)["rows"][0]


# ---- The others

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}}
SELECTOR = {"matchLabels": {"b": "c", "a": "b"}, "matchExpressions": [{"key": "x", "operator": "In", "values": ["z", "y"]}]}
ROWS = [
    (DEPLOYMENTS, stored(spec={"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
                         status={"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}),
     ["x", "2/3", 3, 1, "5m", "c,d", "i,j", "a=b,b=c,x in (y,z)"]),
    (STATEFULSETS, stored(spec={"replicas": 3, "template": TEMPLATE}, status={}), ["x", "0/3", "5m", "c,d", "i,j"]),
    (DAEMONSETS, stored(spec={"template": {"spec": {"nodeSelector": {"a": "b"}}}}, status={"desiredNumberScheduled": 2, "numberReady": 1}),
     ["x", 2, 0, 1, 0, 0, "a=b", "5m", "", "", "<none>"]),
    (JOBS, stored(spec={"parallelism": 3, "template": TEMPLATE}, status={"succeeded": 2, "startTime": BORN}),
     ["x", "Running", "2/1 of 3", "5m", "5m", "c,d", "i,j", "<none>"]),
    (JOBS, stored(spec={"completions": 1, "template": TEMPLATE},
                  status={"succeeded": 1, "startTime": BORN, "completionTime": "2026-01-01T11:55:09Z",
                          "conditions": [{"type": "Complete", "status": "True"}]}),
     ["x", "Complete", "1/1", "9s", "5m", "c,d", "i,j", "<none>"]),
    (CRONJOBS, stored(spec={"schedule": "@daily", "suspend": True, "jobTemplate": {"spec": {"template": TEMPLATE}}},
                      status={"active": [{}], "lastScheduleTime": BORN}),
     ["x", "@daily", "<none>", "True", 1, "5m", "5m", "c,d", "i,j", "<none>"]),
    (SERVICES, stored(spec={"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"],
                            "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]},
                      status={"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "1.1.1.1"}]}}),
     ["x", "LoadBalancer", "10.0.0.1", "1.1.1.1,h", "80:30000/TCP", "5m", "<none>"]),
    (SERVICES, stored(spec={"type": "ExternalName", "externalName": "e.com", "selector": {"a": "b"}}),
     ["x", "ExternalName", "<none>", "e.com", "<none>", "5m", "a=b"]),
    (ENDPOINTS, stored(subsets=[{"addresses": [{"ip": f"10.0.0.{i}"} for i in range(5)], "ports": [{"port": 80}]}]),
     ["x", "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...", "5m"]),
    (ENDPOINTS, stored(), ["x", "<none>", "5m"]),
    (ENDPOINTSLICES, stored(addressType="IPv4", endpoints=[], ports=[{"name": "", "port": 80}]), ["x", "IPv4", "80", "<unset>", "5m"]),
    (INGRESSES, stored(spec={"tls": [{}], "rules": [{"host": h} for h in "abcd"]}),
     ["x", "<none>", "a,b,c + 1 more...", "", "80, 443", "5m"]),
    (NAMESPACES, stored(status={"phase": "Active"}), ["x", "Active", "5m"]),
    (SECRETS, stored(type="Opaque", data={"a": ""}), ["x", "Opaque", 1, "5m"]),
    (NODES, stored(metadata={"labels": {"node-role.kubernetes.io/b": "", "node-role.kubernetes.io/a": ""}},
                   spec={"unschedulable": True},
                   status={"conditions": [{"type": "Ready", "status": "False"}],
                           "addresses": [{"type": "InternalIP", "address": "1.1.1.1"}],
                           "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6", "architecture": "amd64"}}),
     ["x", "NotReady,SchedulingDisabled", "a,b", "5m", "v1", "1.1.1.1", "<none>", "<unknown>", "6 (amd64)", "<unknown>"]),
    (PERSISTENTVOLUMES, stored(spec={"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                                     "volumeMode": "Block", "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "s",
                                     "persistentVolumeReclaimPolicy": "Retain"}, status={"phase": "Bound"}),
     ["x", "1Gi", "RWO,RWX", "Retain", "Bound", "n/c", "s", "<unset>", "", "5m", "Block"]),
    (PERSISTENTVOLUMECLAIMS, stored(metadata={"deletionTimestamp": BORN}, spec={"volumeName": "v"},
                                    status={"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"]}),
     ["x", "Terminating", "v", "1Gi", "RWOP", "", "<unset>", "5m", "<unset>"]),
    (STORAGECLASSES, stored(metadata={"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, provisioner="p"),
     ["x (default)", "p", "Delete", "Immediate", False, "5m"]),
    (RESOURCEQUOTAS, stored(status={"hard": {"pods": "2", "limits.cpu": "1", "cpu": "4"}, "used": {"pods": "1"}}),
     ["x", "cpu: 0/4, pods: 1/2", "limits.cpu: 0/1", "5m"]),
    (EVENTS, stored(type="Normal", reason="R", message=" m\n", lastTimestamp=BORN, count=3, involvedObject={"kind": "Pod", "name": "p"},
                    source={"component": "kubelet", "host": "n"}),
     ["5m", "Normal", "R", "pod/p", "", "kubelet, n", "m", "<unknown>", 3, "x"]),
    (resource_of("autoscaling/v2", "horizontalpodautoscalers"),
     stored(spec={"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 9, "metrics": [
         {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 50}}},
         {"type": "Pods", "pods": {"target": {"averageValue": "10"}}}, {"type": "Odd"}]},
         status={"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"current": {"averageUtilization": 30}}}]}),
     ["x", "Deployment/d", "cpu: 30%/50%, <unknown>/10 + 1 more...", "<unset>", 9, 2, "5m"]),
    (resource_of("policy/v1", "poddisruptionbudgets"), stored(spec={"maxUnavailable": "50%"}, status={"disruptionsAllowed": 1}),
     ["x", "N/A", "50%", 1, "5m"]),
    (resource_of("certificates.k8s.io/v1", "certificatesigningrequests"),
     stored(spec={"signerName": "s", "username": "u", "expirationSeconds": 3600},
            status={"conditions": [{"type": "Approved"}], "certificate": "YQ=="}),
     ["x", "5m", "s", "u", "60m", "Approved,Issued"]),
    (CUSTOMRESOURCEDEFINITIONS, stored(), ["x", BORN]),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "obj", "cells"), ROWS)
def test_rows_say_what_kubectl_says(resource, obj, cells):
    assert printer_for(resource).row(obj, NOW) == cells


def test_every_listed_kind_has_a_row_as_wide_as_its_columns():
    for resource in load_builtin():
        if "list" not in resource.verbs:
            continue
        printer = printer_for(resource)
        cells = printer.row(stored(), NOW)
        assert printer.columns, resource
        if resource.plural != "ipaddresses":  # Kubernetes gives one cell more than columns
            assert len(cells) == len(printer.columns), resource
        for column in printer.columns:
            assert column.keys() == {"name", "type", "format", "description", "priority"}


def test_a_scale_says_what_is_desired_and_available() -> None:
    scale = stored(spec={"replicas": 3}, status={"replicas": 2})
    printer = scale_printer()
    row = dict(zip((column["name"] for column in printer.columns), printer.row(scale, NOW), strict=True))
    assert (row["Desired"], row["Available"]) == (3, 2)
