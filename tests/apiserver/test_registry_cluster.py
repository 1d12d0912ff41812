"""Networking, roles, priorities, certificates, webhooks, policies and custom resources keep to the rules of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, INGRESSCLASSES, INGRESSES, PRIORITYCLASSES, RUNTIMECLASSES

from .kinds import SUBDOMAIN, causes, created, resource_of, strategy, update_causes, updated

NETWORK_POLICIES = resource_of("networking.k8s.io/v1", "networkpolicies")
ROLES = resource_of("rbac.authorization.k8s.io/v1", "roles")
CLUSTER_ROLE_BINDINGS = resource_of("rbac.authorization.k8s.io/v1", "clusterrolebindings")
ROLE_BINDINGS = resource_of("rbac.authorization.k8s.io/v1", "rolebindings")
FLOW_SCHEMAS = resource_of("flowcontrol.apiserver.k8s.io/v1", "flowschemas")
PRIORITY_LEVELS = resource_of("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations")
SIGNING_REQUESTS = resource_of("certificates.k8s.io/v1", "certificatesigningrequests")
WEBHOOKS = resource_of("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations")
POLICIES = resource_of("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
BINDINGS = resource_of("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings")
GROUP = "rbac.authorization.k8s.io"
RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
PEM_REQUEST = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg=="


def backend(name: str = "s") -> dict[str, Any]:
    return {"service": {"name": name, "port": {"number": 80}}}


def ingress(**path: Any) -> dict[str, Any]:
    return {"spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend(), **path}]}}]}}


def webhook(**fields: Any) -> dict[str, Any]:
    config = {"url": "https://example.com/check"}
    hook = {"name": "a.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": config, "rules": [RULE]}
    return {"webhooks": [{**hook, **fields}]}


def definition(schema: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema or {"type": "object"}}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    body = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version], **spec}
    return {"metadata": {"name": "widgets.example.com"}, "spec": body}


def test_network_policies_apply_to_ingress_and_to_egress_if_they_mention_it():
    assert created(NETWORK_POLICIES, {"spec": {"podSelector": {}}})["spec"]["policyTypes"] == ["Ingress"]
    spec = created(NETWORK_POLICIES, {"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}})["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == [{"ports": [{"port": 53, "protocol": "TCP"}]}]


def test_webhooks_get_their_defaults():
    (hook,) = created(WEBHOOKS, webhook())["webhooks"]
    assert {name: hook[name] for name in ("failurePolicy", "matchPolicy", "timeoutSeconds", "namespaceSelector", "objectSelector")} == {
        "failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10, "namespaceSelector": {}, "objectSelector": {},
    }  # fmt: skip
    assert hook["rules"][0]["scope"] == "*"


def test_role_bindings_name_groups_of_their_subjects():
    new = created(ROLE_BINDINGS, {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
        {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
    ]})  # fmt: skip
    assert new["roleRef"] == {"apiGroup": GROUP, "kind": "Role", "name": "r"}
    assert new["subjects"] == [{"apiGroup": GROUP, "kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]


def test_definitions_get_names_a_conversion_and_an_empty_status():
    new = created(CUSTOMRESOURCEDEFINITIONS, definition(names={"plural": "widgets", "kind": "Widget"}))
    assert new["spec"]["names"] == {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"}
    assert new["spec"]["conversion"] == {"strategy": "None"}
    assert new["status"]["storedVersions"] == ["v1"]


_HTTPS = 'webhooks[0].clientConfig.url: Invalid value: "http": \'https\' is the only allowed URL scheme; desired format: https://host[/path]'
BAD = [
    (INGRESSES, {"spec": {}}, ['spec: Invalid value: null: either `defaultBackend` or `rules` must be specified']),
    (INGRESSES, ingress(pathType="Glob"),
     ['spec.rules[0].http.paths[0].pathType: Unsupported value: "Glob": supported values: "Exact", "ImplementationSpecific", "Prefix"']),
    (INGRESSES, ingress(path="x"), ['spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path']),
    (INGRESSES, ingress(backend=backend("")), ["spec.rules[0].http.paths[0].backend.service.name: Required value"]),
    (INGRESSES, {"spec": {"rules": [{"host": "A"}]}}, [f'spec.rules[0].host: Invalid value: "A": {SUBDOMAIN}']),
    (INGRESSCLASSES, {"spec": {"controller": "x"}},
     ['spec.controller: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")']),
    (NETWORK_POLICIES, {"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}},
     ["spec.ingress[0].from[0]: Required value: must specify a peer"]),
    (NETWORK_POLICIES, {"spec": {"podSelector": {}, "policyTypes": ["Both"]}},
     ['spec.policyTypes[0]: Unsupported value: "Both": supported values: "Egress", "Ingress"']),
    (ROLES, {"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]},
     ["rules[0].verbs: Required value: verbs must contain at least one value"]),
    (ROLES, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]},
     ['rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs']),
    (ROLE_BINDINGS, {"roleRef": {"kind": "Rolle", "name": "r"}},
     ['roleRef.kind: Unsupported value: "Rolle": supported values: "Role", "ClusterRole"']),
    (CLUSTER_ROLE_BINDINGS, {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}]},
     ["subjects[0].namespace: Required value"]),
    (PRIORITYCLASSES, {"metadata": {"name": "p"}, "value": 1000000001},
     ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]),
    (PRIORITYCLASSES, {"metadata": {"name": "system-p"}, "value": 1},
     ["metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-p is not a "
      "known system priority class"]),
    (RUNTIMECLASSES, {"handler": "A"}, None),
    (WEBHOOKS, webhook(name="short"),
     ['webhooks[0].name: Invalid value: "short": should be a domain with at least three segments separated by dots']),
    (WEBHOOKS, webhook(clientConfig={}),
     ["webhooks[0].clientConfig: Required value: exactly one of url or service is required"]),
    (WEBHOOKS, webhook(clientConfig={"url": "http://example.com"}), [_HTTPS]),
    (WEBHOOKS, webhook(timeoutSeconds=31),
     ["webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"]),
    (WEBHOOKS, webhook(sideEffects="Some"),
     ['webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"']),
    (POLICIES, {"spec": {"matchConstraints": {"resourceRules": [RULE]}}},
     ["spec.validations: Required value: validations or auditAnnotations must be non-empty",
      "spec.auditAnnotations: Required value: validations or auditAnnotations must be non-empty"]),
    (BINDINGS, {"spec": {"policyName": "p"}}, ["spec.validationActions: Required value: at least one validation action is required"]),
    (FLOW_SCHEMAS, {"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 10001}},
     ["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"]),
    (PRIORITY_LEVELS, {"spec": {"type": "Limited"}}, ["spec.limited: Required value: must not be empty when type is Limited"]),
    (CUSTOMRESOURCEDEFINITIONS, definition() | {"metadata": {"name": "others.example.com"}},
     ['metadata.name: Invalid value: "others.example.com": must be spec.names.plural+"."+spec.group']),
    (CUSTOMRESOURCEDEFINITIONS, definition(scope="Galaxy"),
     ['spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"']),
    (CUSTOMRESOURCEDEFINITIONS, definition({"type": "object", "properties": {"a": {}}}),
     ["spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields"]),
    (CUSTOMRESOURCEDEFINITIONS, definition({"type": "string"}),
     ['spec.validation.openAPIV3Schema.type: Invalid value: "string": must be object at the root']),
    (APISERVICES, {"metadata": {"name": "v1.x"}, "spec": {"group": "y", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}},
     ['metadata.name: Invalid value: "v1.x": must be `spec.version+"."+spec.group`: "v1.y"']),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "obj", "expected"), BAD)
def test_bad_objects_are_refused(resource, obj, expected):
    found = causes(resource, obj)
    if expected is None:
        assert [cause.partition(":")[0] for cause in found] == ["handler"]
    else:
        assert found == expected


def test_the_role_of_a_binding_stays():
    old = created(ROLE_BINDINGS, {"roleRef": {"kind": "Role", "name": "r"}})
    assert update_causes(ROLE_BINDINGS, old, {"roleRef": {"name": "other"}}) == [
        f'roleRef: Invalid value: {{"APIGroup":"{GROUP}","Kind":"Role","Name":"other"}}: cannot change roleRef'
    ]


def test_the_value_of_a_priority_stays():
    old = created(PRIORITYCLASSES, {"value": 1})
    assert update_causes(PRIORITYCLASSES, old, {"value": 2}) == ["value: Forbidden: may not be changed in an update."]
    assert update_causes(PRIORITYCLASSES, old, {"preemptionPolicy": "Never"}) == [
        'preemptionPolicy: Invalid value: "Never": field is immutable'
    ]


def test_the_controller_of_an_ingress_class_stays():
    old = created(INGRESSCLASSES, {"spec": {"controller": "a.b/c"}})
    assert update_causes(INGRESSCLASSES, old, {"spec": {"controller": "a.b/d"}}) == [
        'spec.controller: Invalid value: "a.b/d": field is immutable'
    ]


def test_a_signing_request_keeps_who_asked_and_takes_approval_apart():
    request = {"signerName": "example.com/s", "usages": ["client auth"], "request": PEM_REQUEST, "username": "liar"}
    kind = strategy(SIGNING_REQUESTS)
    obj = {"metadata": {"name": "r"}, "spec": dict(request)}
    kind.set_requester(obj, "jane", "7", ["devs"], {"scopes": ["a"]})
    kind.prepare_for_create(obj)
    assert (obj["spec"]["username"], obj["spec"]["groups"], obj["spec"]["extra"]) == ("jane", ["devs"], {"scopes": ["a"]})


def test_a_request_that_is_none_is_refused():
    found = causes(SIGNING_REQUESTS, {"spec": {"signerName": "bad", "usages": [], "request": "eA=="}})
    assert [cause.partition(":")[0] for cause in found] == ["spec.request", "spec.usages", "spec.signerName"]


def test_generations_of_policies_and_webhooks_count_their_changes():
    old = created(WEBHOOKS, webhook())
    assert old["metadata"]["generation"] == 1
    hook = {**old["webhooks"][0], "timeoutSeconds": 5}
    assert updated(WEBHOOKS, old, {"webhooks": [hook]})["metadata"]["generation"] == 2
