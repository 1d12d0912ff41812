"""Golden pairs of the planning functions: `golden/<plan>/<case>.input.yaml` gives `<case>.output.yaml`.

`pytest tests/controller/test_golden.py --update-golden` writes the outputs anew; the diff is then the thing to review.
Inputs are written tersely: `pods: [{name: a, ready: true}]` stands for whole objects (see `expand`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time
from kubecosm.services.controller.cluster import namespace
from kubecosm.services.controller.common import replicas
from kubecosm.services.controller.network import endpoints, endpointslice
from kubecosm.services.controller.storage import claims
from kubecosm.services.controller.workloads.daemonset import plan as daemons
from kubecosm.services.controller.workloads.daemonset.placement import by_target
from kubecosm.services.controller.workloads.deployment import replicasets as sets
from kubecosm.services.controller.workloads.deployment import scaling
from kubecosm.services.controller.workloads.deployment import status as deployments
from kubecosm.services.controller.workloads.disruption import plan as disruption
from kubecosm.services.controller.workloads.job import counting as job_counting
from kubecosm.services.controller.workloads.job import plan as job_plans
from kubecosm.services.controller.workloads.job import target as job_targets
from kubecosm.services.controller.workloads.job import view as jobs
from kubecosm.services.controller.workloads.statefulset import plan as stateful
from kubecosm.testing.virtualtime import EPOCH

FOLDER = Path(__file__).parent / "golden"
CASES = sorted(FOLDER.glob("*/*.input.yaml"))


def stamp(seconds_ago: float) -> str:
    return format_time(EPOCH - timedelta(seconds=seconds_ago))


def expand(short: Mapping[str, Any]) -> Object:
    """A whole pod from name, phase, ready (or seconds since), node, labels, deleting, age, restarts, ip, owner, annotations."""
    ready = short.get("ready", False)
    since = ready if isinstance(ready, int) and not isinstance(ready, bool) else 60
    name = str(short["name"])
    meta: Object = {
        "name": name, "namespace": "default", "uid": short.get("uid", f"uid-{name}"), "labels": short.get("labels", {"app": "web"}),
        "creationTimestamp": stamp(short.get("age", 100)),
    }  # fmt: skip
    for field in ("annotations", "finalizers"):
        if field in short:
            meta[field] = short[field]
    if short.get("deleting"):
        meta["deletionTimestamp"] = stamp(1)
    if owner := short.get("owner"):
        meta["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": f"uid-{owner}", "controller": True}
        ]
    is_ready = ready is not False
    status: Object = {
        "phase": short.get("phase", "Running" if is_ready else "Pending"),
        "conditions": [{"type": "Ready", "status": str(is_ready), "lastTransitionTime": stamp(since)}],
        "containerStatuses": [{"name": "c", "restartCount": short.get("restarts", 0), **short.get("container", {})}],
    }
    if "ip" in short:
        status["podIP"] = short["ip"]
    spec = {"containers": [{"name": "c", "ports": short.get("ports", [])}], **short.get("spec", {})}
    if "node" in short:
        spec["nodeName"] = short["node"]
    return {"metadata": meta, "spec": spec, "status": status}


def pods_of(given: Object) -> list[Object]:
    return [expand(short) for short in given.get("pods") or ()]


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def workload(given: Object, kind: str) -> Object:
    """The owner: the given spec and status on a common frame."""
    meta = {"name": "web", "namespace": "default", "uid": "uid-web", "generation": 1, **given.get("metadata", {})}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "new"}]}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template, **given.get("spec", {})}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec, "status": given.get("status", {})}


def replicaset(short: Mapping[str, Any], image: str) -> Object:
    annotations = {f"deployment.kubernetes.io/{name}": str(value) for name, value in short.get("annotations", {}).items()}
    meta = {
        "name": short["name"],
        "uid": f"uid-{short['name']}",
        "creationTimestamp": stamp(short.get("age", 100)),
        "annotations": annotations,
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    counts = {field: short[field] for field in ("replicas", "readyReplicas", "availableReplicas", "terminatingReplicas") if field in short}
    status = {"observedGeneration": 1, **counts}
    return {"metadata": {**meta, "generation": 1}, "spec": {"replicas": short["size"], "template": template}, "status": status}


def family(given: Object) -> tuple[Object, Object | None, list[Object]]:
    deployment = workload(given, "Deployment")
    new = replicaset(given["new"], "new") if given.get("new") else None
    return deployment, new, [replicaset(short, "old") for short in given.get("old") or ()]


def sizes(scales: list[scaling.Scale]) -> dict[str, int]:
    return {name_of(scale.replicaset): scale.replicas for scale in scales}


def replicaset_pods(given: Object) -> Any:
    plan = replicas.plan_replicas(workload(given, "ReplicaSet"), pods_of(given), pods_of(given), EPOCH)
    return {"create": plan.create, "delete": [name_of(pod) for pod in plan.delete]}


def replicaset_status(given: Object) -> Any:
    active = [pod for pod in pods_of(given) if "deletionTimestamp" not in pod["metadata"]]
    return replicas.plan_status(workload(given, "ReplicaSet"), active, len(pods_of(given)) - len(active), given.get("error"), EPOCH)


def deployment_rolling(given: Object) -> Any:
    deployment, new, old = family(given)
    assert new is not None
    return sizes(scaling.plan_rolling(deployment, new, old))


def deployment_proportional(given: Object) -> Any:
    return sizes(scaling.plan_proportional(*family(given)))


def deployment_status(given: Object) -> Any:
    deployment, new, old = family(given)
    return deployments.plan_rollout_status(deployment, new, [*old, *([new] if new else [])], EPOCH)


def deployment_new_replicaset(given: Object) -> Any:
    deployment, _, old = family(given)
    return sets.plan_new_replicaset(deployment, old)


def deployment_annotations(given: Object) -> Any:
    deployment, new, old = family(given)
    assert new is not None
    return sets.plan_annotations(deployment, new, sets.next_revision(old), exists=True)


def statefulset_pods(given: Object) -> Any:
    revisions = stateful.Revisions(given.get("current", "web-old"), given.get("update", "web-new"))
    plan = stateful.plan_pods(workload(given, "StatefulSet"), _revised(given), revisions, EPOCH)
    return {"create": [list(item) for item in plan.create], "delete": [name_of(pod) for pod in plan.delete]}


def _revised(given: Object) -> list[Object]:
    found = pods_of(given)
    for pod, short in zip(found, given.get("pods") or (), strict=True):
        pod["metadata"]["labels"] = {"app": "web", "controller-revision-hash": short.get("revision", "web-new")}
    return found


def statefulset_status(given: Object) -> Any:
    revisions = stateful.Revisions(given.get("current", "web-old"), given.get("update", "web-new"))
    return stateful.plan_status(workload(given, "StatefulSet"), _revised(given), revisions, 0, EPOCH)


def nodes_of(given: Object) -> list[Object]:
    return [
        {"metadata": {"name": node["name"], "labels": node.get("labels", {})}, "spec": {"taints": node.get("taints", [])}}
        for node in given["nodes"]
    ]


def daemonset_pods(given: Object) -> Any:
    daemonset, nodes, pods = workload(given, "DaemonSet"), nodes_of(given), by_target(_revised(given))
    plan = daemons.plan_placement(daemonset, nodes, pods, "web-new", EPOCH)
    step = "place"
    if not plan.create and not plan.delete:
        step, plan = "update", daemons.plan_update(daemonset, nodes, pods, "web-new", EPOCH)
    return {"step": step, "create": plan.create, "delete": [name_of(pod) for pod in plan.delete]}


def job_pods(given: Object) -> Any:
    seen = jobs.View(workload(given, "Job"), pods_of(given), EPOCH)
    target = job_targets.plan_target(seen)
    plan = job_plans.plan_pods(seen) if target is None else job_plans.PodsPlan()
    counting = job_counting.plan_counting(seen, target)
    return {
        "target": dataclasses.asdict(target) if target else None,
        "create": [dataclasses.asdict(pod) for pod in plan.create],
        "delete": [name_of(pod) for pod in plan.delete],
        "wait_seconds": plan.wait_seconds,
        "counted": {"succeeded": counting.succeeded, "failed": counting.failed, "released": [name_of(pod) for pod in counting.release]},
    }


def service_of(given: Object) -> Object:
    meta = {"name": "web", "namespace": "default", "uid": "uid-web", "labels": given.get("labels", {})}
    return {"metadata": meta, "spec": {"selector": {"app": "web"}, "clusterIP": "127.32.0.5", **given["service"]}}


def endpoint_slices(given: Object) -> Any:
    zones: Mapping[str, str] = given.get("zones", {})
    existing = given.get("existing") or []
    plan = endpointslice.plan(service_of(given), pods_of(given), existing, lambda node: zones.get(node, ""), trigger=EPOCH)
    return {"create": plan.create, "update": plan.update, "delete": [name_of(found) for found in plan.delete]}


def endpoints_object(given: Object) -> Any:
    return endpoints.plan_endpoints(service_of(given), pods_of(given), given.get("current"), EPOCH)


def namespace_conditions(given: Object) -> Any:
    findings = namespace.Findings()
    for resource, found in (given.get("remaining") or {}).items():
        findings.remaining[resource] += found
    findings.finalizers.update(given.get("finalizers") or {})
    findings.delete_errors += given.get("errors") or []
    return namespace.plan_conditions({"metadata": {"name": "n"}}, findings, EPOCH)


def budget_status(given: Object) -> Any:
    pods = pods_of(given)
    if "scale" in given:
        for pod in pods:
            owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "uid-rs", "controller": True}
            pod["metadata"]["ownerReferences"] = [owner]
    scales = {name_of(pod): (("uid-rs", given["scale"]) if "scale" in given else None) for pod in pods}
    budget = workload(given, "PodDisruptionBudget")
    granted = disruption.plan_granted(budget, pods, EPOCH)
    status = disruption.plan_status(budget, pods, scales, granted.standing, EPOCH)
    overdue = [name_of(pod) for pod in granted.overdue]
    return {"status": status, "granted": granted.standing, "expiry": granted.next_expiry, "overdue": overdue}


def volume_match(given: Object) -> Any:
    claim = {"metadata": {"name": "c", "namespace": "default", "uid": "uid-c"}, "spec": given["claim"]}
    volumes = [
        {"metadata": {"name": v["name"]}, "spec": v["spec"], "status": {"phase": v.get("phase", "Available")}} for v in given["volumes"]
    ]
    found = claims.plan_match(claim, volumes)
    return None if found is None else name_of(found)


PLANS: dict[str, Callable[[Object], Any]] = {
    "replicaset_pods": replicaset_pods,
    "replicaset_status": replicaset_status,
    "deployment_rolling": deployment_rolling,
    "deployment_proportional": deployment_proportional,
    "deployment_status": deployment_status,
    "deployment_new_replicaset": deployment_new_replicaset,
    "deployment_annotations": deployment_annotations,
    "statefulset_pods": statefulset_pods,
    "statefulset_status": statefulset_status,
    "daemonset_pods": daemonset_pods,
    "job_pods": job_pods,
    "endpoint_slices": endpoint_slices,
    "endpoints_object": endpoints_object,
    "namespace_conditions": namespace_conditions,
    "budget_status": budget_status,
    "volume_match": volume_match,
}


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}: {path.name.removesuffix('.input.yaml')}")
def test_plan(path: Path, request: pytest.FixtureRequest) -> None:
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = plain(PLANS[path.parent.name](given))
    golden = path.with_name(path.name.replace(".input.", ".output."))
    if request.config.getoption("--update-golden"):
        golden.write_text(yaml.safe_dump(found, sort_keys=False, width=140), encoding="utf-8")
    assert golden.exists(), f"no golden output for {path.name}: run with --update-golden and review what it writes"
    assert found == yaml.safe_load(golden.read_text(encoding="utf-8"))


def test_every_plan_has_cases_and_no_output_is_left_over() -> None:
    assert {path.parent.name for path in CASES} == set(PLANS)
    for output in FOLDER.glob("*/*.output.yaml"):
        assert output.with_name(output.name.replace(".output.", ".input.")).exists(), f"{output} belongs to no input"


def plain(value: Any) -> Any:
    """As YAML can tell it: no tuples, no times."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return format_time(value) if isinstance(value, datetime) else value
