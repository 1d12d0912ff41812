"""Who decides: webhooks, files, and nobody at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.api.selectors import parse_fields, parse_labels
from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.authz.attributes import Attributes
from kubecosm.services.apiserver.authz.webhook import review_spec

from .harness import ADMIN_TOKEN, CONFIGMAPS, PODS, USER_TOKEN, Api, api_server, with_api
from .outsiders import Service, service

REVIEWS = "/apis/authorization.k8s.io/v1"


def decide(question: Object) -> Object:
    """What the service under test says: yes to reads of ConfigMaps, no to Secrets, nothing to the rest."""
    resource = (question["spec"].get("resourceAttributes") or {}).get("resource", "")
    status = {"configmaps": {"allowed": True}, "secrets": {"allowed": False, "denied": True, "reason": "never"}}
    return {"kind": "SubjectAccessReview", "status": status.get(resource, {"allowed": False, "reason": "who knows"})}


def with_webhook(tmp_path: Path, answer: Any, test: Any, **flags: Any) -> None:
    async def main() -> None:
        async with service(tmp_path, answer) as webhook:
            settings = {
                "authorization_mode": ("Webhook", "RBAC"), "authorization_webhook_config_file": webhook.kubeconfig(tmp_path),
                "authorization_webhook_version": "v1", **flags,
            }  # fmt: skip
            async with api_server(tmp_path, **settings) as api:
                await test(api, webhook)

    asyncio.run(main())


def test_a_webhook_decides_and_its_answers_are_remembered(tmp_path: Path) -> None:
    async def test(api: Api, webhook: Service) -> None:
        for _ in range(2):
            assert (await api.call("GET", CONFIGMAPS, token=USER_TOKEN))[0] == 200
        assert len(webhook.asked) == 1
        spec = webhook.asked[0]["spec"]
        assert (spec["user"], spec["groups"], spec["uid"]) == ("jane", ["devs", "qa", "system:authenticated"], "1001")
        assert spec["resourceAttributes"] == {"namespace": "default", "verb": "list", "version": "v1", "resource": "configmaps"}
        status, refusal = await api.call("GET", "/api/v1/namespaces/default/secrets", token=USER_TOKEN)
        assert (status, refusal["message"].endswith(": never")) == (403, True)
        status, refusal = await api.call("GET", PODS, token=USER_TOKEN)
        assert (status, refusal["message"].endswith(": who knows")) == (403, True)
        asked = len(webhook.asked)
        assert (await api.call("GET", PODS, token=ADMIN_TOKEN))[0] == 200
        assert len(webhook.asked) == asked  # system:masters is never asked about

    with_webhook(tmp_path, decide, test)


def test_a_webhook_that_cannot_answer_is_an_internal_error_unless_somebody_else_allows(tmp_path: Path) -> None:
    async def test(api: Api, _webhook: Service) -> None:
        status, answer = await api.call("GET", PODS, token=USER_TOKEN)
        assert (status, answer["reason"]) == (500, "InternalError")
        assert (await api.raw("GET", "/version", token=USER_TOKEN)).status == 200  # RBAC allows it
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        attributes = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
        answer = await api.create(f"{REVIEWS}/selfsubjectaccessreviews", {**review, "spec": attributes}, token=ADMIN_TOKEN)
        assert answer["status"]["allowed"]

    with_webhook(tmp_path, lambda _question: 400, test)


def configuration(tmp_path: Path, *authorizers: str) -> str:
    path = tmp_path / "authz.yaml"
    lines = ["apiVersion: apiserver.config.k8s.io/v1", "kind: AuthorizationConfiguration", "authorizers:", *authorizers]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_file_names_who_decides(tmp_path: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, lambda _question: 400) as webhook:
            hook = f"{{connectionInfo: {{type: KubeConfigFile, kubeConfigFile: '{webhook.kubeconfig(tmp_path)}'}}, failurePolicy: Deny}}"
            entry = f"- {{type: Webhook, name: w, webhook: {hook}}}"
            async with api_server(tmp_path, authorization_config=configuration(tmp_path, "- {type: RBAC}", entry)) as api:
                assert (await api.raw("GET", "/version", token=USER_TOKEN)).status == 200
                assert webhook.asked == []
                status, refusal = await api.call("GET", PODS, token=USER_TOKEN)
                assert status == 403
                assert "the authorization webhook failed" in refusal["message"]

    asyncio.run(main())


def test_match_conditions_keep_requests_from_the_webhook(tmp_path: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, decide) as webhook:
            condition = "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'default'"
            hook = (
                f"{{connectionInfo: {{type: KubeConfigFile, kubeConfigFile: '{webhook.kubeconfig(tmp_path)}'}}, failurePolicy: NoOpinion, "
                f'matchConditions: [{{expression: "{condition}"}}]}}'
            )
            entry = f"- {{type: Webhook, name: w, webhook: {hook}}}"
            async with api_server(tmp_path, authorization_config=configuration(tmp_path, entry, "- {type: RBAC}")) as api:
                assert (await api.call("GET", CONFIGMAPS, token=USER_TOKEN))[0] == 200
                assert len(webhook.asked) == 1
                assert (await api.call("GET", "/api/v1/namespaces/other/configmaps", token=USER_TOKEN))[0] == 403
                assert (await api.raw("GET", "/version", token=USER_TOKEN)).status == 200
                assert len(webhook.asked) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("- {type: Magic}", "'Magic' is none of"), ("- {type: RBAC}\n- {type: RBAC}", "the name rbac is taken"),
        ("- {type: Webhook, webhook: {}}", "connectionInfo"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_at_start(tmp_path: Path, entry: str, complaint: str) -> None:
    async def test(api: Api) -> None:
        raise AssertionError(api)

    with pytest.raises(StartupError, match=complaint):
        with_api(tmp_path, test, authorization_config=configuration(tmp_path, entry))


def test_a_changed_file_is_taken_up_and_a_broken_one_is_not(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        (file,) = api.state.config_files
        assert (await api.call("GET", PODS, token=USER_TOKEN))[0] == 403
        configuration(tmp_path, "- {type: AlwaysAllow}")
        file.reload_if_changed()
        assert (await api.call("GET", PODS, token=USER_TOKEN))[0] == 200
        configuration(tmp_path, "- {type: Magic}")
        file.reload_if_changed()
        assert (await api.call("GET", PODS, token=USER_TOKEN))[0] == 200
        text = (await api.raw("GET", "/metrics")).text
        name = "apiserver_authorization_config_controller_automatic_reloads_total"
        assert sorted(line[-13:] for line in text.splitlines() if line.startswith(name)) == ['failure"} 1.0', 'success"} 1.0']

    with_api(tmp_path, test, authorization_config=configuration(tmp_path, "- {type: RBAC}"))


def test_nobody_may_do_anything(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        status, refusal = await api.call("GET", PODS, token=USER_TOKEN)
        assert (status, refusal["message"].endswith(": Everything is forbidden.")) == (403, True)
        assert (await api.call("GET", PODS, token=ADMIN_TOKEN))[0] == 200

    with_api(tmp_path, test, authorization_mode=("AlwaysDeny",))


def test_selectors_are_part_of_the_question() -> None:
    asked = Attributes(User("jane"), "list", resource="pods", fields=parse_fields("spec.nodeName=a"), labels=parse_labels("x in (a,b),!y"))
    resource = review_spec(asked)["resourceAttributes"]
    assert resource["fieldSelector"] == {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]}
    expected = [{"key": "x", "operator": "In", "values": ["a", "b"]}, {"key": "y", "operator": "DoesNotExist"}]
    assert sorted(resource["labelSelector"]["requirements"], key=lambda one: str(one["key"])) == expected


def test_reviews_take_selectors_too(tmp_path: Path) -> None:
    async def ask(api: Api, **resource: Any) -> tuple[int, Any]:
        spec = {
            "user": "system:node:n", "groups": ["system:nodes"], "resourceAttributes": {"verb": "list", "resource": "pods", **resource},
        }  # fmt: skip
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return await api.call("POST", f"{REVIEWS}/subjectaccessreviews", body)

    async def test(api: Api) -> None:
        wanted = {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]}
        assert (await ask(api, fieldSelector=wanted))[1]["status"] == {"allowed": True}
        assert (await ask(api, fieldSelector={"rawSelector": "spec.nodeName=n"}))[1]["status"] == {"allowed": True}
        refusal = (await ask(api))[1]["status"]
        assert refusal == {"allowed": False, "reason": "can only list/watch pods with spec.nodeName field selector"}
        status, answer = await ask(api, fieldSelector={})
        assert (status, "requirements or rawSelector is required" in answer["message"]) == (422, True)

    with_api(tmp_path, test, authorization_mode=("Node", "RBAC"))
