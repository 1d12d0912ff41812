"""Namespaces, accounts, the root CA and address ranges of nodes, in virtual time."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from kubecosm.api.meta import Key, get_condition
from kubecosm.api.names import (
    ANNOTATION_SERVICE_ACCOUNT_NAME,
    ANNOTATION_SERVICE_ACCOUNT_UID,
    LABEL_TOKEN_INVALID_SINCE,
    LABEL_TOKEN_LAST_USED,
    SECRET_SERVICE_ACCOUNT_TOKEN,
)
from kubecosm.api.resources import BUILTIN, CONFIGMAPS, NAMESPACES, NODES, PODS, SECRETS, SERVICEACCOUNTS, Object
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.flags import Duration
from kubecosm.services.controller.cluster import (
    legacy_token_cleaner,
    namespace,
    node_ipam,
    node_ttl,
    root_ca_publisher,
    serviceaccount,
    serviceaccount_tokens,
)
from kubecosm.services.controller.cluster.node_ipam import Ranges
from kubecosm.services.controller.common.discovery import plan_discovery
from kubecosm.services.controller.config import Config

from .fake_api import FakeApi, aggregated_discovery
from .harness import Kubelet, controllers, node, pod_template, run, settle, wait_for


def a_namespace(name: str = "shop") -> Object:
    return {"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def test_discovery_finds_every_resource_once() -> None:
    found = plan_discovery(aggregated_discovery("/api")).resources + plan_discovery(aggregated_discovery("/apis")).resources
    assert {(r.group, r.plural) for r in found} == {(r.group, r.plural) for r in BUILTIN}
    assert next(r for r in found if r.plural == "pods").path("default", "a") == "/api/v1/namespaces/default/pods/a"


def test_a_deleted_namespace_loses_its_content_pods_first_and_goes() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NAMESPACES, a_namespace())
        async with controllers(api, namespace), Kubelet(api, stop_seconds=3).at_work():
            await api.create(PODS, {"metadata": {"name": "p", "namespace": "shop"}, "spec": pod_template()["spec"]})
            await api.create(SECRETS, {"metadata": {"name": "s", "namespace": "shop"}})
            await api.create(SECRETS, {"metadata": {"name": "s", "namespace": "other"}})
            await settle()
            await api.delete(NAMESPACES, "shop")
            await settle(1)
            assert len(api.all(SECRETS, "shop")) == 1
            content = get_condition(api.all(NAMESPACES)[0], "NamespaceContentRemaining")
            assert content is not None
            assert content["message"] == "Some resources are remaining: pods. has 1 resource instances"
            await wait_for(lambda: not api.all(NAMESPACES))
            assert api.clock.monotonic() < 10
        assert not api.all(PODS)
        assert len(api.all(SECRETS)) == 1

    run(test)


def test_a_terminating_namespace_tells_which_finalizers_hold_it() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NAMESPACES, a_namespace())
        async with controllers(api, namespace):
            held = {"metadata": {"name": "c", "namespace": "shop", "finalizers": ["example.com/hold"]}}
            await api.create(CONFIGMAPS, held)
            await api.delete(NAMESPACES, "shop")
            await wait_for(lambda: get_condition(api.all(NAMESPACES)[0], "NamespaceFinalizersRemaining"))
            condition = get_condition(api.all(NAMESPACES)[0], "NamespaceFinalizersRemaining")
            assert condition is not None
            assert condition["status"] == "True"
            assert (
                condition["message"] == "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
            )
            found = await api.get(CONFIGMAPS, "c", "shop")
            found["metadata"]["finalizers"] = []
            await api.update(CONFIGMAPS, found)
            await wait_for(lambda: not api.all(NAMESPACES))

    run(test)


def test_resources_of_a_server_that_does_not_answer_are_unknown_and_told() -> None:
    rows = [{"resource": "flunders", "responseKind": {"kind": "Flunder"}, "verbs": ["delete", "list"], "scope": "Namespaced"}]
    versions = [{"version": "v1", "freshness": "Stale", "resources": rows}, {"version": "v1beta1", "resources": rows}]
    found = plan_discovery({"items": [{"metadata": {"name": "example.com"}, "versions": versions}]})
    assert [one.version for one in found.resources] == ["v1beta1"]
    complaint = "unable to retrieve the complete list of server APIs: example.com/v1: stale GroupVersion discovery: example.com/v1"
    assert found.complaint == complaint
    findings = namespace.Findings(discovery_error=found.complaint, stale_groups=len(found.stale))
    condition = namespace.plan_conditions(a_namespace(), findings, datetime(2026, 1, 2, tzinfo=UTC))[0]
    assert (condition["type"], condition["reason"]) == ("NamespaceDeletionDiscoveryFailure", "DiscoveryFailed")
    assert condition["message"] == f"Discovery failed for some groups, 1 failing: {complaint}"
    assert not findings.is_empty


def test_pods_that_outlive_their_grace_are_told_as_unexpected() -> None:
    now, findings = datetime(2026, 1, 2, 0, 0, 40, tzinfo=UTC), namespace.Findings()
    deleted = {"metadata": {"name": "shop", "deletionTimestamp": "2026-01-02T00:00:00Z"}}
    pods = [{"metadata": {}, "spec": {"terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}}]
    namespace.count_remaining(findings, PODS, pods, deleted, now - timedelta(seconds=20))
    assert not findings.delete_errors
    namespace.count_remaining(findings, PODS, pods, deleted, now)
    assert findings.delete_errors == ["unexpected items still remain in namespace: shop for gvr: /v1, Resource=pods"]


def test_a_namespace_that_another_finalizer_keeps_tells_that_it_is_empty() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NAMESPACES, {**a_namespace(), "spec": {"finalizers": ["example.com/hold", "kubernetes"]}})
        async with controllers(api, namespace):
            await api.delete(NAMESPACES, "shop")
            await wait_for(lambda: api.all(NAMESPACES)[0]["spec"]["finalizers"] == ["example.com/hold"])
            found = api.all(NAMESPACES)[0]["status"]["conditions"]
            assert [(one["status"], one["reason"]) for one in found] == [
                ("False", "ResourcesDiscovered"), ("False", "ParsedGroupVersions"), ("False", "ContentDeleted"),
                ("False", "ContentRemoved"), ("False", "ContentHasNoFinalizers"),
            ]  # fmt: skip

    run(test)


def test_every_namespace_has_its_account_and_gets_it_back() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NAMESPACES, a_namespace("one"))
        async with controllers(api, serviceaccount):
            await api.create(NAMESPACES, a_namespace("two"))
            await wait_for(lambda: {Key("one", "default"), Key("two", "default")} == set(api.objects[SERVICEACCOUNTS]))
            await api.delete(SERVICEACCOUNTS, "default", "one")
            await wait_for(lambda: Key("one", "default") in api.objects[SERVICEACCOUNTS])

    run(test)


def test_every_namespace_has_the_root_ca_and_nobody_else_may_change_it() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NAMESPACES, a_namespace("one"))
        async with controllers(api, root_ca_publisher.RootCaPublisher("PEM")):
            await wait_for(lambda: api.all(CONFIGMAPS))
            found = await api.get(CONFIGMAPS, "kube-root-ca.crt", "one")
            assert found["data"] == {"ca.crt": "PEM"}
            await api.update(CONFIGMAPS, {**found, "data": {"ca.crt": "forged"}})
            await wait_for(lambda: api.all(CONFIGMAPS)[0]["data"] == {"ca.crt": "PEM"})

    run(test)


def test_a_token_secret_is_filled_and_goes_with_its_account() -> None:
    async def test(api: FakeApi) -> None:
        kind = {"type": SECRET_SERVICE_ACCOUNT_TOKEN}
        async with controllers(api, serviceaccount_tokens.Tokens("PEM")):
            meta = {"name": "bot-token", "namespace": "one", "annotations": {ANNOTATION_SERVICE_ACCOUNT_NAME: "bot"}}
            await api.create(SERVICEACCOUNTS, {"metadata": {"name": "bot", "namespace": "one"}})
            await api.create(SECRETS, {"metadata": meta, **kind})
            await wait_for(lambda: api.all(SECRETS)[0].get("data"))
            found = {name: base64.b64decode(text).decode() for name, text in api.all(SECRETS)[0]["data"].items()}
            assert found == {"token": "token of bot", "namespace": "one", "ca.crt": "PEM"}
            tampered = {**api.all(SECRETS)[0]["data"], "ca.crt": "", "namespace": ""}
            await api.update(SECRETS, {**api.all(SECRETS)[0], "data": {**tampered, "token": "bWluZQ=="}})
            await wait_for(lambda: api.all(SECRETS)[0]["data"] == {"token": "bWluZQ==", "namespace": "b25l", "ca.crt": "UEVN"})
            await api.delete(SERVICEACCOUNTS, "bot", "one")
            await wait_for(lambda: not api.all(SECRETS))

    run(test)


def test_a_token_of_an_account_that_was_replaced_is_deleted_not_renewed() -> None:
    async def test(api: FakeApi) -> None:
        old = token_secret("bot-token")
        old["metadata"]["annotations"][ANNOTATION_SERVICE_ACCOUNT_UID] = "uid of an earlier bot"
        async with controllers(api, serviceaccount_tokens.Tokens("PEM")):
            await api.create(SERVICEACCOUNTS, {"metadata": {"name": "bot", "namespace": "one"}})
            await api.create(SECRETS, old)
            await wait_for(lambda: not api.all(SECRETS))
            assert not api.count("create/token", "serviceaccounts")

    run(test)


def test_an_account_no_longer_names_a_token_that_is_gone() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, serviceaccount_tokens.Tokens("")):
            await api.create(SECRETS, {"metadata": {"name": "other", "namespace": "one"}})
            bot = {"metadata": {"name": "bot", "namespace": "one"}, "secrets": [{"name": "bot-token"}, {"name": "other"}]}
            await api.create(SERVICEACCOUNTS, bot)
            await api.create(SECRETS, token_secret("bot-token"))
            await settle()
            for name in ("bot-token", "other"):
                await api.delete(SECRETS, name, "one")
            await wait_for(lambda: api.all(SERVICEACCOUNTS)[0]["secrets"] == [{"name": "other"}])

    run(test)


@pytest.mark.parametrize(("nodes", "step"), [(100, 0), (101, 1), (450, 1), (501, 2), (3000, 4)])
def test_the_ttl_of_nodes_grows_with_the_cluster(nodes: int, step: int) -> None:
    assert node_ttl.plan_step(0, nodes) == step


def test_a_cluster_that_shrinks_a_little_keeps_its_ttl() -> None:
    assert [node_ttl.plan_step(1, nodes) for nodes in (95, 90, 89)] == [1, 1, 0]


def test_every_node_has_its_ttl_and_gets_a_new_one_when_the_cluster_grows() -> None:
    def ttls(api: FakeApi) -> set[str]:
        return {(found["metadata"].get("annotations") or {}).get("node.alpha.kubernetes.io/ttl", "") for found in api.all(NODES)}

    async def test(api: FakeApi) -> None:
        for number in range(100):
            api.put(NODES, node(f"n{number}"))
        async with controllers(api, node_ttl.NodeTtl()):
            await wait_for(lambda: ttls(api) == {"0"})
            api.put(NODES, node("n100"))
            await wait_for(lambda: ttls(api) == {"15"})
            written = api.count("patch", "nodes")
            api.put(NODES, {**api.all(NODES)[0], "status": {"phase": "Running"}})
            await settle()
            assert written == api.count("patch", "nodes") == 201

    run(test)


TOKEN_SECRET: Object = {"type": "kubernetes.io/service-account-token", "data": {"token": "eA=="}}
DAY = 24 * 3600


def token_secret(name: str, **labels: str) -> Object:
    annotations = {ANNOTATION_SERVICE_ACCOUNT_NAME: "bot"}
    return {"metadata": {"name": name, "namespace": "one", "annotations": annotations, "labels": labels}, **TOKEN_SECRET}


def test_an_unused_token_is_marked_invalid_and_removed_a_period_later() -> None:
    async def test(api: FakeApi) -> None:
        since = api.clock.now().date().isoformat()
        tracking = {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"}
        await api.create(CONFIGMAPS, {"metadata": tracking, "data": {"since": since}})
        made = [{"name": name} for name in ("unused", "mounted", "garbled")]
        await api.create(SERVICEACCOUNTS, {"metadata": {"name": "bot", "namespace": "one"}, "secrets": made})
        pod: Object = {"metadata": {"name": "p", "namespace": "one"}, "spec": {
            "containers": [], "volumes": [{"name": "v", "secret": {"secretName": "mounted"}}]}}  # fmt: skip
        await api.create(PODS, pod)
        for name in ("unused", "mounted", "by-hand"):
            await api.create(SECRETS, token_secret(name))
        await api.create(SECRETS, token_secret("garbled", **{LABEL_TOKEN_LAST_USED: "yesterday"}))

        def labels(name: str) -> Object:
            return next(s["metadata"].get("labels") or {} for s in api.all(SECRETS) if s["metadata"]["name"] == name)

        config = Config(legacy_service_account_token_clean_up_period=Duration(10.0 * DAY))
        async with controllers(api, legacy_token_cleaner.build(config)):
            await settle(10 * DAY)
            assert LABEL_TOKEN_INVALID_SINCE not in labels("unused")  # not tracked for long enough
            await settle(2 * DAY)
            assert labels("unused")[LABEL_TOKEN_INVALID_SINCE] > since
            await settle(9 * DAY)
            assert "unused" in {secret["metadata"]["name"] for secret in api.all(SECRETS)}
            await settle(4 * DAY)
        assert {secret["metadata"]["name"] for secret in api.all(SECRETS)} == {"mounted", "by-hand", "garbled"}
        assert not any(LABEL_TOKEN_INVALID_SINCE in labels(name) for name in ("mounted", "by-hand", "garbled"))

    run(test)


def test_a_token_in_use_is_kept() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    period, since = timedelta(days=10), datetime(2026, 1, 1, tzinfo=UTC)

    def step(created: str = "2026-01-01T00:00:00Z", **labels: str) -> str:
        secret = token_secret("s", **labels)
        secret["metadata"]["creationTimestamp"] = created
        return legacy_token_cleaner.plan_step(secret, period, since, now)

    assert step() == "mark"
    assert step(created="2026-05-25T00:00:00Z") == "keep"
    assert step(**{LABEL_TOKEN_LAST_USED: "2026-05-22"}) == "keep"
    assert step(**{LABEL_TOKEN_LAST_USED: "2026-05-21"}) == "mark"
    assert step(**{LABEL_TOKEN_INVALID_SINCE: "2026-05-22"}) == "keep"
    assert step(**{LABEL_TOKEN_INVALID_SINCE: "2026-05-21"}) == "delete"
    assert step(**{LABEL_TOKEN_INVALID_SINCE: "soon"}) == "mark"


def test_each_node_gets_a_range_of_its_own_and_a_freed_one_is_used_again() -> None:
    async def test(api: FakeApi) -> None:
        taken = node("old")
        taken["spec"]["podCIDR"] = "127.64.0.0/24"
        api.put(NODES, taken)
        async with controllers(api, node_ipam.NodeIpam(Ranges("127.64.0.0/22", 24))):
            for name in ("a", "b", "c"):
                await api.create(NODES, node(name))
            await wait_for(lambda: all(found["spec"].get("podCIDR") for found in api.all(NODES)))
            ranges = sorted(found["spec"]["podCIDR"] for found in api.all(NODES))
            assert ranges == [f"127.64.{index}.0/24" for index in range(4)]
            await api.delete(NODES, "old")
            await api.create(NODES, node("d"))
            await wait_for(lambda: api.objects[NODES][Key("", "d")]["spec"].get("podCIDR") == "127.64.0.0/24")

    run(test)


def test_ranges_that_do_not_fit_are_one_clear_error() -> None:
    with pytest.raises(StartupError, match=r"--node-cidr-mask-size: ranges of /8 do not fit into 127\.64\.0\.0/16"):
        node_ipam.build(Config(cluster_cidr="127.64.0.0/16", node_cidr_mask_size=8))
