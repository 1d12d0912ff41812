"""Workloads and what scales them get Kubernetes' defaults and are refused in its words."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import CRONJOBS, DAEMONSETS, DEPLOYMENTS, JOBS, PODS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS
from kubecosm.services.apiserver.registry.batch.schedule import schedule_complaint
from kubecosm.services.apiserver.registry.strategy import strategy_for

from .kinds import causes, created, resource_of, update_causes, updated

AUTOSCALERS = resource_of("autoscaling/v2", "horizontalpodautoscalers")
BUDGETS = resource_of("policy/v1", "poddisruptionbudgets")


def template(labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": labels or {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}], **spec}}


def workload(**spec: Any) -> dict[str, Any]:
    return {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template(), **spec}}


def job(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {**template()["spec"], "restartPolicy": "Never"}}, **spec}}


DEFAULTS = [
    (DEPLOYMENTS, workload(), {
        "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
    }),
    (DEPLOYMENTS, workload(strategy={"type": "Recreate"}, replicas=0),
     {"progressDeadlineSeconds": 600, "replicas": 0, "revisionHistoryLimit": 10, "strategy": {"type": "Recreate"}}),
    (REPLICASETS, workload(), {"replicas": 1}),
    (STATEFULSETS, workload(serviceName="s"), {
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}, "podManagementPolicy": "OrderedReady",
        "replicas": 1, "revisionHistoryLimit": 10, "serviceName": "s",
        "updateStrategy": {"rollingUpdate": {"partition": 0}, "type": "RollingUpdate"},
    }),
    (DAEMONSETS, workload(), {
        "revisionHistoryLimit": 10, "updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}, "type": "RollingUpdate"},
    }),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "obj", "expected"), DEFAULTS)
def test_workloads_get_their_defaults(resource, obj, expected):
    spec = created(resource, obj)["spec"]
    assert {name: value for name, value in spec.items() if name not in ("selector", "template")} == expected
    assert spec["template"]["spec"]["restartPolicy"] == "Always"
    assert spec["template"]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_replication_controllers_select_what_they_make():
    new = created(REPLICATIONCONTROLLERS, {"spec": {"template": template()}})
    assert new["spec"]["selector"] == {"a": "b"}
    assert new["metadata"]["labels"] == {"a": "b"}


def test_generations_count_changes_of_the_spec_alone():
    old = created(DEPLOYMENTS, workload())
    assert old["metadata"]["generation"] == 1
    assert updated(DEPLOYMENTS, old, {"metadata": {"labels": {"x": "y"}}})["metadata"]["generation"] == 1
    assert updated(DEPLOYMENTS, old, {"spec": {"replicas": 2}})["metadata"]["generation"] == 2
    assert updated(DEPLOYMENTS, old, {"spec": {"replicas": 2}, "status": {"replicas": 2}}, "status")["metadata"]["generation"] == 1


def test_status_and_spec_are_changed_apart():
    for resource in (DEPLOYMENTS, REPLICASETS, STATEFULSETS, DAEMONSETS):
        old = created(resource, workload())
        counts = {"numberReady": 1} if resource is DAEMONSETS else {"readyReplicas": 1, "replicas": 1}
        new = updated(resource, old, {"spec": {"minReadySeconds": 9}, "status": counts}, "status")
        assert new["spec"] == old["spec"]
        assert counts.items() <= new["status"].items()
        assert updated(resource, new, {"status": dict.fromkeys(counts, 0)})["status"] == new["status"]


_MISMATCH = 'spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`'
_ALWAYS = 'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
BAD = [
    (DEPLOYMENTS, workload(template=template({"a": "c"})), [_MISMATCH]),
    (REPLICASETS, workload(template=template({"a": "c"})), [_MISMATCH]),
    (STATEFULSETS, workload(template=template({"a": "c"})), [_MISMATCH]),
    (DAEMONSETS, workload(template=template({"a": "c"})), [_MISMATCH]),
    (DEPLOYMENTS, workload(template=template(restartPolicy="Never")), [_ALWAYS]),
    (DEPLOYMENTS, workload(replicas=-1), ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
    (DEPLOYMENTS, workload(selector={}), ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
    (DEPLOYMENTS, workload(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
     ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]),
    (DEPLOYMENTS, workload(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
     ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
    (DEPLOYMENTS, workload(strategy={"rollingUpdate": {"maxSurge": "x"}}),
     ["spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending "
      "'%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"]),
    (DEPLOYMENTS, workload(minReadySeconds=5, progressDeadlineSeconds=5),
     ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"]),
    (DAEMONSETS, workload(updateStrategy={"rollingUpdate": {"maxUnavailable": 0}}),
     ["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]),
    (STATEFULSETS, workload(podManagementPolicy="Any"),
     ["spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'"]),
    (REPLICATIONCONTROLLERS, {"spec": {"selector": {"a": "c"}, "template": template()}},
     ['spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`']),
    (JOBS, job(template={"spec": template()["spec"]}),
     ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"']),
    (JOBS, job(completions=-1), ["spec.completions: Invalid value: -1: must be greater than or equal to 0"]),
    (JOBS, job(completionMode="Indexed", parallelism=2), ["spec.completions: Required value: when completion mode is Indexed"]),
    (CRONJOBS, {"spec": {"schedule": "* * *", "jobTemplate": job()}},
     ['spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]']),
    (CRONJOBS, {"spec": {"schedule": "@daily", "concurrencyPolicy": "Maybe", "jobTemplate": job()}},
     ['spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace"']),
    (CRONJOBS, {"spec": {"schedule": "@daily", "timeZone": "Mars/Base", "jobTemplate": job()}},
     ['spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base']),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "obj", "expected"), BAD)
def test_bad_workloads_are_refused(resource, obj, expected):
    assert causes(resource, obj) == expected


def test_the_selector_of_a_workload_may_not_change():
    old = created(DEPLOYMENTS, workload())
    change = {"spec": {"selector": {"matchLabels": {"a": "z"}}, "template": {"metadata": {"labels": {"a": "z"}}}}}
    expected = 'spec.selector: Invalid value: {"matchLabels":{"a":"z"}}: field is immutable'
    assert update_causes(DEPLOYMENTS, old, change) == [expected]
    assert update_causes(REPLICASETS, created(REPLICASETS, workload()), change) == [expected]
    assert update_causes(DAEMONSETS, created(DAEMONSETS, workload()), change) == [expected]


def test_stateful_sets_change_in_few_fields():
    old = created(STATEFULSETS, workload(serviceName="s"))
    assert updated(STATEFULSETS, old, {"spec": {"replicas": 3, "template": {"metadata": {"labels": {"x": "y"}}}}})["spec"]["replicas"] == 3
    assert update_causes(STATEFULSETS, old, {"spec": {"serviceName": "other"}}) == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    ]


def test_a_job_gets_defaults_and_a_selector_of_its_own():
    new = created(JOBS, job())
    labels = {
        "batch.kubernetes.io/controller-uid": "1", "batch.kubernetes.io/job-name": "x", "controller-uid": "1", "job-name": "x",
    }  # fmt: skip
    assert new["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "1"}}
    assert new["spec"]["template"]["metadata"]["labels"] == labels
    assert {name: new["spec"][name] for name in ("backoffLimit", "completionMode", "completions", "parallelism", "suspend")} == {
        "backoffLimit": 6, "completionMode": "NonIndexed", "completions": 1, "parallelism": 1, "suspend": False,
    }  # fmt: skip
    assert new["spec"]["podReplacementPolicy"] == "TerminatingOrFailed"


def test_completions_and_template_of_a_running_job_stay():
    old = created(JOBS, job())
    assert update_causes(JOBS, old, {"spec": {"completions": 2}}) == ["spec.completions: Invalid value: 2: field is immutable"]
    (cause,) = update_causes(JOBS, old, {"spec": {"template": {"spec": {"nodeSelector": {"x": "y"}}}}})
    assert cause.startswith("spec.template: Invalid value: {")
    assert cause.endswith(": field is immutable")
    assert updated(JOBS, old, {"spec": {"parallelism": 4}})["spec"]["parallelism"] == 4


def test_a_suspended_job_that_never_started_may_move_to_other_nodes():
    old = created(JOBS, job(suspend=True))
    new = updated(JOBS, old, {"spec": {"template": {"spec": {"nodeSelector": {"x": "y"}}}}})
    assert new["spec"]["template"]["spec"]["nodeSelector"] == {"x": "y"}


def test_a_job_that_was_suspended_again_may_change_where_and_with_what_it_runs_once_its_pods_are_gone():
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "4"}}}
    old = created(JOBS, job(suspend=True, template={"spec": {"restartPolicy": "Never", "containers": [container]}}))
    change = {"containers": [{**container, "resources": {"requests": {"cpu": "2"}}}], "nodeSelector": {"x": "y"}}
    started = {"startTime": "2026-01-02T03:04:05Z"}
    suspended = {"conditions": [{"type": "Suspended", "status": "True"}], **started}
    for status, allowed in ((started, False), ({**suspended, "active": 1}, False), (suspended, True), ({}, True)):
        causes = update_causes(JOBS, {**old, "status": status}, {"spec": {"template": {"spec": change}}})
        assert (not causes) == allowed, status
    renamed = {"containers": [{**container, "image": "another"}]}
    assert update_causes(JOBS, {**old, "status": suspended}, {"spec": {"template": {"spec": renamed}}})


def test_cron_jobs_get_their_defaults():
    spec = created(CRONJOBS, {"spec": {"schedule": "*/5 * * * *", "jobTemplate": job()}})["spec"]
    spec.pop("jobTemplate")
    assert spec == {
        "concurrencyPolicy": "Allow", "failedJobsHistoryLimit": 1, "schedule": "*/5 * * * *", "successfulJobsHistoryLimit": 3,
        "suspend": False,
    }  # fmt: skip


@pytest.mark.parametrize(("text", "complaint"), [
    ("*/5 * * * *", ""), ("0 0 1 1 0", ""), ("@hourly", ""), ("@every 1h30m", ""), ("0-30/10 8,20 * jan-mar mon", ""), ("? ? ? ? ?", ""),
    ("", "empty spec string"), ("@never", "unrecognized descriptor: @never"), ("60 * * * *", "end of range (60) above maximum (59): 60"),
    ("* 5-3 * * *", "beginning of range (5) beyond end of range (3): 5-3"),
    ("*/0 * * * *", "step of range should be a positive number: */0"),
    ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
    ("* * 0 * *", "beginning of range (0) below minimum (1): 0"), ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
    ("1/2/3 * * * *", "too many slashes: 1/2/3"),
])  # fmt: skip
def test_schedules_are_read_as_robfigs_parser_reads_them(text, complaint):
    assert (schedule_complaint(text)) == complaint


def test_autoscalers_look_at_cpu_unless_told_otherwise():
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    new = created(AUTOSCALERS, {"spec": {"scaleTargetRef": target, "maxReplicas": 3}})
    assert new["spec"]["minReplicas"] == 1
    assert new["spec"]["metrics"] == [
        {"resource": {"name": "cpu", "target": {"averageUtilization": 80, "type": "Utilization"}}, "type": "Resource"}
    ]
    assert causes(AUTOSCALERS, {"spec": {"scaleTargetRef": target, "maxReplicas": 3, "minReplicas": 4}}) == [
        "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"
    ]
    assert causes(AUTOSCALERS, {"spec": {"scaleTargetRef": {}, "maxReplicas": 0}}) == [
        "spec.maxReplicas: Invalid value: 0: must be greater than or equal to 1",
        "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        "spec.scaleTargetRef.kind: Required value",
        "spec.scaleTargetRef.name: Required value",
    ]


def test_autoscalers_tolerance_is_never_negative():
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3}
    assert not causes(AUTOSCALERS, {"spec": {**spec, "behavior": {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "50m"}}}})
    assert causes(AUTOSCALERS, {"spec": {**spec, "behavior": {"scaleUp": {"tolerance": "-1"}}}}) == [
        'spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal to 0'
    ]


def test_budgets_bound_one_side():
    selector = {"matchLabels": {"a": "b"}}
    assert not causes(BUDGETS, {"spec": {"selector": selector, "minAvailable": "50%"}})
    assert causes(BUDGETS, {"spec": {"selector": selector, "minAvailable": 1, "maxUnavailable": 1}}) == [
        'spec: Invalid value: {"MinAvailable":1,"Selector":{"matchLabels":{"a":"b"}},"MaxUnavailable":1,'
        '"UnhealthyPodEvictionPolicy":null}: '
        "minAvailable and maxUnavailable cannot be both set"
    ]




def test_stateful_sets_do_not_take_max_unavailable_whose_gate_is_off():
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1, "maxUnavailable": 2}}
    kept = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    before = created(STATEFULSETS, workload(serviceName="s"))
    assert created(STATEFULSETS, workload(serviceName="s", updateStrategy=rolling))["spec"]["updateStrategy"] == kept
    assert updated(STATEFULSETS, before, {"spec": {**before["spec"], "updateStrategy": rolling}})["spec"]["updateStrategy"] == kept
    stored = {**before, "spec": {**before["spec"], "updateStrategy": rolling}}
    assert updated(STATEFULSETS, stored, stored)["spec"]["updateStrategy"] == rolling


@pytest.mark.parametrize(("resource", "obj"), [
    (DEPLOYMENTS, workload()), (REPLICASETS, workload()), (JOBS, job()),
    (CRONJOBS, {"spec": {"schedule": "@daily", "jobTemplate": job()}}), (PODS, {"spec": template()["spec"]}),
])  # fmt: skip
def test_names_with_dots_are_warned_of_where_pods_are_called_after_them(resource, obj):
    strategy, new = strategy_for(resource), created(resource, obj)
    use = "the Pod's hostname" if resource == PODS else "Pod names and hostnames"
    warning = (
        f"metadata.name: this is used in {use}, which can result in surprising behavior; "
        "a DNS label is recommended: [must not contain dots]"
    )
    dotted = {**new, "metadata": {**new["metadata"], "name": "web.v1"}}
    assert strategy.warnings(dotted) == [warning]
    assert not strategy.warnings(dotted, dotted)
    assert not strategy.warnings(new)
    for prefix, expected in (("web-", []), ("web.v1-", [warning])):
        assert strategy.warnings({**new, "metadata": {"generateName": prefix}}) == expected


def test_an_unchanged_spec_is_not_warned_of_again():
    aged = template(nodeSelector={"beta.kubernetes.io/os": "linux"})
    old = created(DEPLOYMENTS, {"spec": {**workload()["spec"], "template": aged}})
    strategy = strategy_for(DEPLOYMENTS)
    assert strategy.warnings(old)
    assert not strategy.warnings({**old, "metadata": {**old["metadata"], "labels": {"x": "y"}}}, old)
    assert strategy.warnings({**old, "spec": {**old["spec"], "replicas": 3}}, old)
