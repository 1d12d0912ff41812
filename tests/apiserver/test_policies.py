"""ValidatingAdmissionPolicies: what is refused, warned about and audited, with which words, and what failures come to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecosm.api.resources import CONFIGMAPS as CONFIGMAP_ROW
from kubecosm.services.apiserver.admission.chain import AdmissionChain, Attributes, Plugin
from kubecosm.services.apiserver.authn.user import User
from tests.promises import promise

from .harness import CONFIGMAPS, DEPLOYMENTS, Api, configmap, deployment, with_api
from .outsiders import Service
from .policy_objects import MAP, MAPB, VAP, VAPB, binding, check_api_operations, install, mutating_binding, mutating_policy, policy
from .test_authorization_modes import with_webhook
from .webhook_server import VALIDATING, WebhookServer, allow, deny, rule, validate
from .webhook_server import webhook as webhook_of


@promise("ValidatingAdmissionPolicy should validate against a Deployment")
def test_a_deployment_is_refused_by_an_expression(tmp_path: Path) -> None:
    rules = [rule("deployments", "CREATE", group="apps")]
    message = "'wants replicas > 1, got ' + string(object.spec.replicas)"
    validation = {"expression": "object.spec.replicas > 1", "messageExpression": message}

    async def body(api: Api) -> None:
        await install(api, policy(validation, "object.spec.replicas < 4", rules=rules))
        await api.create(DEPLOYMENTS, deployment("two", replicas=2))
        status = await api.refused("POST", DEPLOYMENTS, deployment("one", replicas=1))
        denied = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: wants replicas > 1, got 1"
        assert status["message"] == f'deployments.apps "one" is forbidden: {denied}'
        assert (status["code"], status["reason"]) == (422, "Invalid")
        assert status["details"] == {"name": "one", "group": "apps", "kind": "deployments", "causes": [{"message": denied}]}
        status = await api.refused("POST", DEPLOYMENTS, deployment("five", replicas=5))
        assert status["message"].endswith("denied request: failed expression: object.spec.replicas < 4")

    with_api(tmp_path, body)


@promise("ValidatingAdmissionPolicy should allow expressions to refer variables.")
def test_expressions_refer_to_variables(tmp_path: Path) -> None:
    variables = [{"name": "replicas", "expression": "object.spec.replicas"}, {"name": "odd", "expression": "variables.replicas % 2 == 1"}]
    rules = [rule("deployments", "CREATE", group="apps")]

    async def body(api: Api) -> None:
        await install(api, policy("variables.replicas > 1", "variables.odd == true", rules=rules, variables=variables))
        await api.create(DEPLOYMENTS, deployment("three", replicas=3))
        status = await api.refused("POST", DEPLOYMENTS, deployment("one", replicas=1))
        assert "failed expression: variables.replicas > 1" in status["message"]
        assert (await api.refused("POST", DEPLOYMENTS, deployment("two", replicas=2)))["message"].endswith("variables.odd == true")

    with_api(tmp_path, body)


@pytest.mark.parametrize(
    ("path", "kind", "make"),
    [
        pytest.param(VAP, "ValidatingAdmissionPolicy", lambda n: policy("true", name=n),
                     marks=promise("ValidatingAdmissionPolicy should support ValidatingAdmissionPolicy API operations")),
        pytest.param(VAPB, "ValidatingAdmissionPolicyBinding", lambda n: binding(name=n),
                     marks=promise("ValidatingAdmissionPolicy should support ValidatingAdmissionPolicyBinding API operations")),
        pytest.param(MAP, "MutatingAdmissionPolicy", lambda n: mutating_policy("Object{}", name=n),
                     marks=promise("MutatingAdmissionPolicy should support MutatingAdmissionPolicy API operations")),
        pytest.param(MAPB, "MutatingAdmissionPolicyBinding", lambda n: mutating_binding(name=n),
                     marks=promise("MutatingAdmissionPolicy should support MutatingAdmissionPolicyBinding API operations")),
    ],
)  # fmt: skip
def test_policies_and_bindings_are_ordinary_resources(tmp_path: Path, path: str, kind: str, make: Any) -> None:
    async def body(api: Api) -> None:
        await check_api_operations(api, path, kind, make)
        if path == VAP:
            await api.create(VAP, make("s"))
            status = {"status": {"conditions": [{"type": "Done", "status": "True", "reason": "Ready", "message": "",
                                                 "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}  # fmt: skip
            patched = await api.merge(f"{VAP}/s/status", status)
            assert patched["status"]["conditions"][0]["type"] == "Done"
            assert (await api.get(f"{VAP}/s/status"))["kind"] == kind

    with_api(tmp_path, body, policy_status=False)



def test_a_policy_without_a_binding_does_nothing_and_one_that_is_unbound_stops(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(VAP, policy("false"))
        await api.create(CONFIGMAPS, configmap("a"))
        await api.create(VAPB, binding())
        await api.refused("POST", CONFIGMAPS, configmap("b"))
        await api.delete(f"{VAPB}/b")
        await api.create(CONFIGMAPS, configmap("b"))

    with_api(tmp_path, body)


def test_bindings_narrow_policies(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        selector = {"namespaceSelector": {"matchLabels": {"strict": "yes"}}}
        await install(api, policy("false"), binding(matchResources=selector))
        await api.create(CONFIGMAPS, configmap("a"))
        await api.create("/api/v1/namespaces", {"metadata": {"name": "strict", "labels": {"strict": "yes"}}})
        await api.refused("POST", "/api/v1/namespaces/strict/configmaps", configmap("a"))

    with_api(tmp_path, body)


def test_rules_may_exclude_resources_and_name_objects(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        everything = policy("false", rules=[rule("*", "*", group="*", version="*")])
        everything["spec"]["matchConstraints"]["excludeResourceRules"] = [rule("configmaps", "*", resourceNames=["free"]), rule("secrets")]
        await install(api, everything)
        await api.create(CONFIGMAPS, configmap("free"))
        await api.refused("POST", CONFIGMAPS, configmap("other"))
        await api.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        await api.delete(f"{VAPB}/b")  # policies have no say about policies

    with_api(tmp_path, body)


def test_params_are_found_by_name_or_selector_and_their_absence_is_decided(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        kind = {"apiVersion": "v1", "kind": "ConfigMap"}
        rules = [rule("secrets", "CREATE")]
        limited = policy("object.metadata.name.size() <= int(params.data.max)", rules=rules, paramKind=kind)
        secrets = "/api/v1/namespaces/default/secrets"
        await install(api, limited, binding(paramRef={"name": "limits", "parameterNotFoundAction": "Deny"}))
        why = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        assert (await api.refused("POST", secrets, {"metadata": {"name": "s"}}))["message"].endswith(f"denied request: {why}")
        await api.create(CONFIGMAPS, configmap("limits", {"max": "3"}, labels={"limits": "yes"}))
        await api.create(secrets, {"metadata": {"name": "abc"}})
        await api.refused("POST", secrets, {"metadata": {"name": "abcd"}})
        await api.merge(f"{VAPB}/b", {"spec": {"paramRef": {"name": None, "selector": {"matchLabels": {"limits": "yes"}}}}})
        await api.refused("POST", secrets, {"metadata": {"name": "abcd"}})
        await api.create(CONFIGMAPS, configmap("more", {"max": "2"}, labels={"limits": "yes"}))
        await api.refused("POST", secrets, {"metadata": {"name": "xyz"}})
        allowing = {"paramRef": {"name": "none", "selector": None, "parameterNotFoundAction": "Allow"}}
        await api.merge(f"{VAPB}/b", {"spec": allowing})
        await api.create(secrets, {"metadata": {"name": "abcde"}})

    with_api(tmp_path, body)


def test_a_param_kind_that_is_unknown_fails_as_the_policy_says(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        kind = {"apiVersion": "rules.example.com/v1", "kind": "ReplicaLimit"}
        ref = {"name": "x", "parameterNotFoundAction": "Deny"}
        await install(api, policy("true", paramKind=kind), binding(paramRef=ref))
        why = "failed to find resource referenced by paramKind: 'rules.example.com/v1, Kind=ReplicaLimit'"
        status = await api.refused("POST", CONFIGMAPS, configmap("a"))
        assert status["message"].endswith(f"ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: {why}")
        await api.merge(f"{VAP}/p", {"spec": {"failurePolicy": "Ignore"}})
        await api.create(CONFIGMAPS, configmap("a"))

    with_api(tmp_path, body)


def test_warn_and_audit_let_the_request_pass(tmp_path: Path) -> None:
    seen: list[Attributes] = []

    class Spy(Plugin):
        def validate(self, attributes: Attributes) -> None:
            seen.append(attributes)

    async def body(api: Api) -> None:
        annotations = [{"key": "size", "valueExpression": "'data has ' + string(object.data.size()) + ' keys'"}]
        made = policy({"expression": "object.data.size() == 0", "message": "no data allowed"}, auditAnnotations=annotations)
        await install(api, made, binding("Warn", "Audit"))
        api.state.admission = AdmissionChain([*api.state.admission.plugins, Spy()])
        reply = await api.raw("POST", CONFIGMAPS, configmap("a"))
        assert reply.status == 201
        told = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no data allowed"
        assert reply.headers["Warning"] == f'299 - "{told}"'
        request: Any = seen[0].notes
        actions = ["Warn", "Audit"]
        failure = {"message": "no data allowed", "policy": "p", "binding": "b", "expressionIndex": 0, "validationActions": actions}
        assert orjson.loads(request.audit_annotations["validation.policy.admission.k8s.io/validation_failure"]) == [failure]
        assert request.audit_annotations["p/size"] == "data has 1 keys"
        metrics = (await api.raw("GET", "/metrics")).text
        labels = 'enforcement_action="warn",error_type="no_error",policy="p",policy_binding="b"'
        assert f"apiserver_validating_admission_policy_check_total{{{labels}}} 1.0" in metrics

    with_api(tmp_path, body)


@pytest.mark.parametrize("reason", ["Forbidden", "Unauthorized", "RequestEntityTooLarge", "Invalid"])
def test_the_reason_of_a_validation_is_the_reason_of_the_refusal(tmp_path: Path, reason: str) -> None:
    codes = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}

    async def body(api: Api) -> None:
        await install(api, policy({"expression": "false", "reason": reason}))
        status = await api.refused("POST", CONFIGMAPS, configmap("a"))
        assert (status["reason"], status["code"]) == (reason, codes[reason])

    with_api(tmp_path, body)


def test_errors_of_evaluation_follow_the_failure_policy(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await install(api, policy("object.data.missing == 'x'"))
        status = await api.refused("POST", CONFIGMAPS, configmap("a"))
        assert "expression 'object.data.missing == 'x'' resulted in error: " in status["message"]
        await api.merge(f"{VAP}/p", {"spec": {"failurePolicy": "Ignore"}})
        await api.create(CONFIGMAPS, configmap("a"))

    with_api(tmp_path, body)


def test_match_conditions_decide_whether_a_policy_applies(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        conditions = [{"name": "not-admin", "expression": "request.userInfo.username != 'admin'"},
                      {"name": "not-mine", "expression": "object.data.owner != 'me'"}]  # fmt: skip
        await install(api, policy("false", matchConditions=conditions))
        await api.create(CONFIGMAPS, configmap("a"))
        code, status = await api.call("POST", CONFIGMAPS, configmap("b"), token="user-token")
        assert code == 422
        assert "expression 'object.data.owner != 'me'' resulted in error" in status["message"]
        code, _ = await api.call("POST", CONFIGMAPS, configmap("b", {"owner": "me"}), token="user-token")
        assert code == 201

    with_api(tmp_path, body)


def test_expressions_see_the_old_object_the_request_and_the_namespace(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        checks = [
            "request.operation != 'UPDATE' || oldObject.data.k == 'v'",
            "request.operation != 'CREATE' || oldObject == null",
            "request.resource.resource == 'configmaps' && request.kind.kind == 'ConfigMap' && request.namespace == 'default'",
            "namespaceObject.metadata.name == 'default' && request.name == 'a'",
            "request.dryRun == false && request.options.fieldManager == 'me'",
        ]
        await install(api, policy(*checks))
        await api.create(f"{CONFIGMAPS}?fieldManager=me", configmap("a"))
        await api.put(f"{CONFIGMAPS}/a?fieldManager=me", configmap("a", {"k": "w"}))
        status = await api.refused("PUT", f"{CONFIGMAPS}/a?fieldManager=me", configmap("a", {"k": "x"}))
        assert "oldObject.data.k" in status["message"]

    with_api(tmp_path, body)


def test_match_conditions_of_webhooks_decide_whether_they_are_asked(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            conditions = [{"name": "not-skipped", "expression": "object.metadata.name != 'skip-me'"}]
            await validate(api, server, rule("configmaps"), matchConditions=conditions)
            await api.create(CONFIGMAPS, configmap("skip-me"))
            assert server.asked == []
            await api.create(CONFIGMAPS, configmap("other"))
            assert len(server.asked) == 1
            conditions = [{"name": "broken", "expression": "object.data.missing == 'x'"}]
            await api.merge(f"{VALIDATING}/v", {"webhooks": [webhook_of(server, rule("configmaps"), matchConditions=conditions)]})
            status = await api.refused("POST", CONFIGMAPS, configmap("c"))
            why = "expression 'object.data.missing == 'x'' resulted in error"
            assert status["message"].startswith(f'configmaps "c" is forbidden: {why}')
            assert len(server.asked) == 1

    with_api(tmp_path, body)


def test_expressions_ask_the_authorizer(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        may_read = "authorizer.group('').resource('secrets').namespace('default').name('x').check('get').allowed()"
        may_break_glass = "authorizer.requestResource.check('breakglass').allowed()"
        await install(api, policy(f"{may_read} || {may_break_glass}", "!authorizer.path('/metrics').check('get').errored()"))
        await api.create(CONFIGMAPS, configmap("a"))
        code, status = await api.call("POST", CONFIGMAPS, configmap("b"), token="user-token")
        assert (code, status["reason"]) == (422, "Invalid"), status
        await api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role("breakglass", ["breakglass"]))
        code, status = await api.call("POST", CONFIGMAPS, configmap("b"), token="user-token")
        assert code == 201, status

    def role(name: str, verbs: list[str]) -> dict[str, Any]:
        return {"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]}

    async def with_roles(api: Api) -> None:
        group = "/apis/rbac.authorization.k8s.io/v1"
        await api.create(f"{group}/clusterroles", role("writer", ["create"]))
        for name in ("writer", "breakglass"):
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
            subjects = [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]
            await api.create(f"{group}/clusterrolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects})
        await body(api)

    with_api(tmp_path, with_roles, authorization_mode=("RBAC",))


def test_expressions_ask_an_authorizer_outside_of_the_server(tmp_path: Path) -> None:
    """Once for each question of a write, in policies of both kinds and in match conditions."""

    def decide(question: dict[str, Any]) -> dict[str, Any] | int:
        asked = question["spec"].get("resourceAttributes", {})
        if asked.get("verb") == "fail":
            return 400
        return {"status": {"allowed": asked.get("verb") in ("create", "patch", "glass"), "reason": "so it is"}}

    def check(verb: str) -> str:
        return f"authorizer.group('').resource('secrets').check('{verb}')"

    async def body(api: Api, webhook: Service) -> None:
        reason = f"{check('glass')}.reason() == 'so it is' && !{check('glass')}.errored() && {check('fail')}.error().contains('webhook')"
        variables = [{"name": "glass", "expression": f"{check('glass')}.allowed()"}]
        stamp = "Object{ data: Object.data{ glass: string(" + check("glass") + ".allowed()) } }"
        conditions = [{"name": "asks", "expression": f"{check('glass')}.allowed()"}]
        await install(
            api, policy({"expression": f"variables.glass && {check('never')}.allowed()", "messageExpression": "string(variables.glass)"},
                        reason, variables=variables, matchConditions=conditions)
        )  # fmt: skip
        await api.create(MAP, mutating_policy(stamp, rules=[rule("configmaps", "CREATE")], matchConditions=conditions))
        await api.create(MAPB, mutating_binding())
        webhook.asked.clear()
        code, status = await api.call("POST", CONFIGMAPS, configmap("a"), token="user-token")
        assert (code, status["message"].rpartition("denied request: ")[2]) == (422, "true"), status
        verbs = [asked["spec"]["resourceAttributes"]["verb"] for asked in webhook.asked]
        assert verbs == ["create", "glass", "never", "fail"]
        await api.delete(f"{VAPB}/b")
        code, made = await api.call("POST", CONFIGMAPS, configmap("a"), token="user-token")
        assert (code, made["data"]["glass"]) == (201, "true")
        async with WebhookServer(deny()) as server:
            await validate(api, server, rule("*"), matchConditions=conditions)
            merge = {"Content_Type": "application/merge-patch+json"}
            status = await api.refused("PATCH", f"{CONFIGMAPS}/a", {"data": {"x": "y"}}, token="user-token", **merge)
            assert (status["code"], len(server.asked)) == (400, 1), status

    with_webhook(tmp_path, decide, body)


def test_variables_are_worked_out_only_where_they_are_named(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        variables = [{"name": "broken", "expression": "object.data.missing"}, {"name": "k", "expression": "object.data.k"}]
        await install(api, policy("variables.k == 'v' || variables.broken == 'x'", variables=variables))
        await api.create(CONFIGMAPS, configmap("a"))
        status = await api.refused("POST", CONFIGMAPS, configmap("b", {"k": "w"}))
        assert 'composited variable "broken" fails to evaluate: no such key: missing' in status["message"]

    with_api(tmp_path, body)


class Silent:
    """Notes that nobody reads."""

    def warn(self, *texts: str) -> None:
        pass

    def annotate(self, key: str, value: str) -> None:
        pass


def test_expressions_that_cost_too_much_are_given_up(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        keys = "object.data"
        loops = f"{keys}.all(a, {keys}.all(b, {keys}.all(c, {keys}.all(d, a + b + c + d != 'x'))))"
        await install(api, policy(loops))
        status = await api.refused("POST", CONFIGMAPS, configmap("a", {f"k{i}": "v" for i in range(100)}))
        assert "operation cancelled: actual cost limit exceeded" in status["message"]
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        others = asyncio.create_task(count())
        await api.merge(f"{VAP}/p", {"spec": {"validations": [{"expression": f"{n} > 0 && {loops}"} for n in range(1, 4)]}})
        evaluating = api.state.admission.validate(
            Attributes("CREATE", CONFIGMAP_ROW, "", "default", "b", configmap("b", {f"k{i}": "v" for i in range(10)}), None, User("jane"),
                       notes=Silent())
        )  # fmt: skip
        assert evaluating is not None, "who waits behind expensive expressions gets a turn between them"
        turns = 0
        await evaluating
        assert turns >= 3
        others.cancel()
        twice = " && ".join(["authorizer.path('/x').check('get').allowed()"] * 2)
        await api.merge(f"{VAP}/p", {"spec": {"validations": [{"expression": f"{n} > 0 && {twice}"} for n in range(1, 20)]}})
        status = await api.refused("POST", CONFIGMAPS, configmap("a"))
        spent = "validation failed due to running out of cost budget, no further validation rules will be run"
        assert status["message"].endswith(f"denied request: {spent}")
        labels = 'enforcement_action="deny",error_type="out_of_budget",policy="p",policy_binding="b"'
        assert f"apiserver_validating_admission_policy_check_total{{{labels}}} 1.0" in (await api.raw("GET", "/metrics")).text

    with_api(tmp_path, body)


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        (policy("object.x =="), "spec.validations[0].expression", "compilation failed: ERROR: <input>:1:12: Syntax error: "),
        (policy("object.x"), "spec.validations[0].expression", "must evaluate to bool"),
        (policy("params.x == 1"), "spec.validations[0].expression", "undeclared reference to 'params'"),
        (policy("variables.y == 1", variables=[{"name": "x", "expression": "1"}]), "spec.validations[0].expression", "undefined field 'y'"),
        (policy({"expression": "true", "messageExpression": "1"}), "spec.validations[0].messageExpression", "must evaluate to string"),
        (policy("request.nothing == 1"), "spec.validations[0].expression", "undefined field 'nothing'"),
        (policy("true", auditAnnotations=[{"key": "k", "valueExpression": "1"}]), "spec.auditAnnotations[0].valueExpression",
         "must evaluate to one of [string null_type]"),
        (policy("true", variables=[{"name": "x", "expression": "y"}]), "spec.variables[0].expression", "undeclared reference to 'y'"),
        (policy("true", matchConditions=[{"name": "c", "expression": "'x'"}]), "spec.matchConditions[0].expression",
         "must evaluate to bool"),
    ],
)  # fmt: skip
def test_expressions_that_cannot_be_used_are_refused_when_written(tmp_path: Path, spec: dict[str, Any], field: str, why: str) -> None:
    async def body(api: Api) -> None:
        status = await api.refused("POST", VAP, spec)
        assert (status["code"], status["reason"]) == (422, "Invalid")
        [cause] = status["details"]["causes"]
        assert (cause["field"], cause["reason"]) == (field, "FieldValueInvalid")
        assert why in cause["message"]

    with_api(tmp_path, body)


def test_type_checking_warns_of_fields_that_do_not_exist(tmp_path: Path) -> None:
    async def checked(api: Api, name: str) -> dict[str, Any]:
        async with api.watch(f"{VAP}?watch=1&fieldSelector=metadata.name={name}") as watch:
            while True:
                obj = (await watch.next())["object"]
                if obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"]:
                    return dict(obj["status"])

    async def body(api: Api) -> None:
        rules = [rule("deployments", "CREATE", group="apps"), rule("configmaps", "CREATE")]
        variables = [{"name": "spec", "expression": "object.spec"}]
        wrong = policy("object.replicas > 1", "variables.spec.replicas > 1", rules=rules[:1], variables=variables)
        await api.create(VAP, wrong)
        status = await checked(api, "p")
        warning = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"
        assert status["typeChecking"] == {"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": warning}]}
        await api.create(VAP, policy("object.metadata.creationTimestamp > timestamp('2020-01-01T00:00:00Z')", rules=rules, name="q"))
        assert await checked(api, "q") == {"observedGeneration": 1, "typeChecking": {}}
        wrong["spec"]["validations"] = [{"expression": "object.spec.replicas > 1"}]
        await api.merge(f"{VAP}/p", {"spec": wrong["spec"]})
        assert await checked(api, "p") == {"observedGeneration": 2, "typeChecking": {}}

    with_api(tmp_path, body)


def test_policies_see_the_version_they_ask_for(tmp_path: Path) -> None:
    hpas = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]
    spec = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "metrics": metrics}

    async def body(api: Api) -> None:
        rules = [rule("horizontalpodautoscalers", "CREATE", group="autoscaling")]
        await install(api, policy("object.spec.targetCPUUtilizationPercentage < 50", rules=rules))
        status = await api.refused("POST", hpas, {"metadata": {"name": "h"}, "spec": spec})
        assert "failed expression: object.spec.targetCPUUtilizationPercentage < 50" in status["message"]
        await api.merge(f"{VAP}/p", {"spec": {"matchConstraints": {"matchPolicy": "Exact"}}})
        await api.create(hpas, {"metadata": {"name": "h"}, "spec": spec})

    with_api(tmp_path, body)


def test_params_of_another_namespace_are_named_with_it(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "rules"}})
        await api.create("/api/v1/namespaces/rules/configmaps", configmap("limits", {"max": "3"}))
        made = policy("object.metadata.name.size() <= int(params.data.max)", rules=[rule("namespaces", "CREATE")],
                      paramKind={"apiVersion": "v1", "kind": "ConfigMap"})  # fmt: skip
        await install(api, made, binding(paramRef={"name": "limits", "parameterNotFoundAction": "Deny"}))
        status = await api.refused("POST", "/api/v1/namespaces", {"metadata": {"name": "abc"}})
        why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        assert status["message"].endswith(f"failed to configure binding: {why}")
        await api.merge(f"{VAPB}/b", {"spec": {"paramRef": {"namespace": "rules"}}})
        await api.refused("POST", "/api/v1/namespaces", {"metadata": {"name": "abcd"}})
        await api.create("/api/v1/namespaces", {"metadata": {"name": "abc"}})

    with_api(tmp_path, body)


def test_writes_that_concern_no_policy_and_no_webhook_do_not_ask_them(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        def asked() -> set[str]:
            write = Attributes("CREATE", CONFIGMAP_ROW, "", "default", "a", configmap("a"), None, User("jane"))
            return {turn.name for step in api.state.admission.steps_of(write) for turn in step.turns}

        dynamic = {"MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook"}
        assert not asked() & dynamic
        await install(api, policy("true", rules=[rule("secrets")]))
        assert not asked() & dynamic
        await install(api, policy("true", name="q"), binding(name="c", of="q"))
        assert asked() & dynamic == {"ValidatingAdmissionPolicy"}
        await api.delete(f"{VAPB}/c")
        assert not asked() & dynamic

    with_api(tmp_path, body)
