"""What admission makes of a pod's account: the secrets it lets the pod have; mirror pods, which have none; and default tolerations."""

from __future__ import annotations

from pathlib import Path

from kubecosm.api.resources import Object

from .harness import ACCOUNT, ACCOUNTS, PODS, Api, pod, with_api


def test_pods_take_only_the_secrets_of_an_account_that_says_so(tmp_path: Path) -> None:
    def refers(kind: str, secret: str) -> Object:
        reference: Object = {"envFrom": [{"secretRef": {"name": secret}}]}
        if kind == "env":
            reference = {"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]}
        return {"name": "c", "image": "x", **reference}

    async def test(api: Api) -> None:
        account = {"metadata": {"name": "default"}, "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]}
        await api.create(ACCOUNTS, account)
        await api.create(PODS, pod("free", containers=[refers("env", "other")]))
        await api.merge(f"{ACCOUNTS}/default", {"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}})
        await api.create(PODS, pod("good", containers=[refers("env", "mine")], initContainers=[{**refers("from", "mine"), "name": "i"}]))
        volume = {"name": "v", "secret": {"secretName": "other"}}
        why = "is not allowed because service account default does not reference that"
        for bad, told in (
            (pod("p", volumes=[volume]), f'volume with secret.secretName="other" {why} secret'),
            (pod("p", containers=[refers("env", "other")]),
             f'container c with envVar E referencing secret.secretName="other" {why} secret'),
            (pod("p", initContainers=[{**refers("from", "other"), "name": "i"}]),
             f'init container i with envFrom referencing secret.secretName="other" {why} secret'),
            (pod("p", imagePullSecrets=[{"name": "x"}]), f'imagePullSecrets[0].name="x" {why} imagePullSecret'),
        ):  # fmt: skip
            assert (await api.refused("POST", PODS, bad))["message"] == f'pods "p" is forbidden: {told}'
        debug = {**refers("env", "other"), "name": "d", "targetContainerName": "c"}
        body = {"metadata": {"name": "good"}, "spec": {"ephemeralContainers": [debug]}}
        strategic = {"Content_Type": "application/strategic-merge-patch+json"}
        status = await api.refused("PATCH", f"{PODS}/good/ephemeralcontainers", body, **strategic)
        assert f'ephemeral container d with envVar E referencing secret.secretName="other" {why} secret' in status["message"]

    with_api(tmp_path, test)


def test_mirror_pods_take_no_secrets_and_no_tokens(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "x"}}]}}
        pull: Object = {"imagePullSecrets": [{"name": "s"}]}
        for spec, told in (
            (pull, "a mirror pod may not reference secrets"),
            ({"volumes": [token]}, "a mirror pod may not use ServiceAccountToken volume projections"),
        ):
            mirror = pod("m", nodeName="n", **spec)
            mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
            assert (await api.refused("POST", PODS, mirror))["message"] == f'pods "m" is forbidden: {told}'

    with_api(tmp_path, test)


def test_how_long_pods_tolerate_a_lost_node_is_a_flag(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        tolerations = (await api.create(PODS, pod("p")))["spec"]["tolerations"]
        assert [(t["key"].rpartition("/")[2], t["tolerationSeconds"]) for t in tolerations] == [("not-ready", 30), ("unreachable", 60)]

    with_api(tmp_path, test, default_not_ready_toleration_seconds=30, default_unreachable_toleration_seconds=60)
