"""Admission of custom resources that a webhook converts: webhooks and policies get them in the version they ask for."""

from __future__ import annotations

from pathlib import Path

from .harness import CONFIGMAPS, Api, configmap
from .policy_objects import MAP, MAPB, VAP, VAPB, binding, mutating_binding, mutating_policy, policy
from .test_crd_conversion import V1, V2, instance, review, serving
from .webhook_server import MUTATING, WebhookServer, configuration, patch, rule, webhook

ON_V2 = rule("crontabs", "CREATE", "UPDATE", group="stable.example.com", version="v2")


def test_a_webhook_changes_an_object_in_another_version(tmp_path: Path) -> None:
    async def check(api: Api, _: WebhookServer) -> None:
        async with WebhookServer(patch({"op": "replace", "path": "/host", "value": "mutated"})) as server:
            await api.create(MUTATING, configuration("Mutating", "m", webhook(server, ON_V2)))
            made = await api.create(V1, instance("a", "v1", hostPort="h:1"))
            assert made["hostPort"] == "mutated:1"
            assert server.asked[-1]["object"]["host"] == "h"
            assert server.asked[-1]["requestKind"]["version"] == "v1"
            updated = await api.merge(f"{V1}/a", {"hostPort": "x:2"})
            assert updated["hostPort"] == "mutated:2"
            assert (server.asked[-1]["oldObject"]["host"], server.asked[-1]["object"]["port"]) == ("mutated", "2")

    serving(tmp_path, check)


def test_a_policy_judges_an_object_in_another_version(tmp_path: Path) -> None:
    async def check(api: Api, _: WebhookServer) -> None:
        await api.create(VAP, policy("object.port != '1' && object.apiVersion.endsWith('v2')", rules=[ON_V2]))
        await api.create(VAPB, binding())
        code, status = await api.call("POST", V1, instance("a", "v1", hostPort="h:1"))
        assert code == 422, str(status)
        assert "failed expression" in status["message"]
        await api.create(V1, instance("a", "v1", hostPort="h:2"))
        await api.create(V2, instance("b", "v2", host="h", port="2"))

    serving(tmp_path, check)


def test_a_mutating_policy_changes_an_object_in_another_version(tmp_path: Path) -> None:
    async def check(api: Api, _: WebhookServer) -> None:
        await api.create(MAP, mutating_policy('Object{ host: object.host + "-policy" }', rules=[ON_V2]))
        await api.create(MAPB, mutating_binding())
        assert (await api.create(V1, instance("a", "v1", hostPort="h:1")))["hostPort"] == "h-policy:1"
        assert (await api.create(V2, instance("b", "v2", host="x", port="2")))["host"] == "x-policy"

    serving(tmp_path, check)


def test_parameters_of_a_policy_are_converted(tmp_path: Path) -> None:
    """If the webhook cannot, the failure policy decides, as for parameters that are missing."""

    async def check(api: Api, hook: WebhookServer) -> None:
        await api.create(V1, instance("limits", "v1", hostPort="h:1"))
        kind = {"apiVersion": "stable.example.com/v2", "kind": "CronTab"}
        await api.create(VAP, policy("object.data.k == params.host", paramKind=kind))
        await api.create(VAPB, binding(paramRef={"name": "limits", "parameterNotFoundAction": "Deny"}))
        await api.create(CONFIGMAPS, configmap("a", {"k": "h"}))
        assert (await api.call("POST", CONFIGMAPS, configmap("b", {"k": "x"})))[0] == 422
        assert len(hook.asked) == 1, "what has been converted is remembered"
        hook.respond = lambda request: review(request, [], status="Failed", message="no way")
        await api.merge(f"{V1}/limits", {"hostPort": "x:1"})
        code, status = await api.call("POST", CONFIGMAPS, configmap("b", {"k": "x"}))
        assert code == 422, str(status)
        assert "denied request: failed to configure binding: " in status["message"]
        assert "no way" in status["message"]
        await api.merge(f"{VAP}/p", {"spec": {"failurePolicy": "Ignore"}})
        await api.create(CONFIGMAPS, configmap("b", {"k": "y"}))

    serving(tmp_path, check)
