"""ResourceQuota: what is charged, what is refused and in which words, and that no crowd gets past a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object
from kubecosm.services.apiserver.admission.resourcequota.accounting import Account, Terms
from kubecosm.services.apiserver.admission.resourcequota.ledger import Deletion
from kubecosm.services.apiserver.cache.entry import Entry

from .harness import ACCOUNT, Api, admission_configuration, configmap, pod, with_api

NAMESPACE = "/api/v1/namespaces/n"
QUOTAS = f"{NAMESPACE}/resourcequotas"


def with_quotas(tmp_path: Path, test: Callable[[Api], Awaitable[None]], **config: Any) -> None:
    """A server with a namespace `n` whose pods may run."""

    async def main(api: Api) -> None:
        await api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
        await api.create(f"{NAMESPACE}/serviceaccounts", ACCOUNT)
        await test(api)

    with_api(tmp_path, main, **config)


async def set_quota(api: Api, name: str, hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> None:
    """A quota whose use the controller has counted: nothing yet, unless `used` says otherwise."""
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard, **spec}}
    made = await api.create(QUOTAS, body)
    status = {"hard": hard, "used": dict.fromkeys(hard, "0") | (used or {})}
    await api.put(f"{QUOTAS}/{name}/status", made | {"status": status})


async def used(api: Api, name: str = "q") -> Any:
    return (await api.get(f"{QUOTAS}/{name}"))["status"]["used"]


async def wait_used(api: Api, wanted: dict[str, str]) -> None:
    """What is given back is a write of its own."""
    async with asyncio.timeout(20):
        while await used(api) != wanted:
            pass


def with_resources(name: str, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> Object:
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value}
    return pod(name, containers=[{"name": "c", "image": "nginx", "resources": resources}])


def service(name: str, kind: str, ports: int = 1, **spec: Any) -> Object:
    listed = [{"name": f"p{i}", "port": 80 + i} for i in range(ports)]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": kind, "ports": listed, **spec}}


def test_pods_beyond_the_limit_are_refused_in_kubernetes_words(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"pods": "2"})
        for name in ("a", "b"):
            await api.create(f"{NAMESPACE}/pods", pod(name))
        assert (await api.refused("POST", f"{NAMESPACE}/pods", pod("c")))["message"] == (
            'pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
        )
        assert await used(api) == {"pods": "2"}

    with_quotas(tmp_path, test)


def test_a_crowd_of_writers_never_passes_the_limit(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"pods": "100", "requests.cpu": "9"})

        async def create(index: int) -> int:
            return (await api.call("POST", f"{NAMESPACE}/pods", with_resources(f"p{index}", {"cpu": "100m"})))[0]

        async with asyncio.TaskGroup() as tasks:
            tries = [tasks.create_task(create(index)) for index in range(1000)]
        codes = [task.result() for task in tries]
        assert (codes.count(201), codes.count(403)) == (90, 910)
        assert len((await api.get(f"{NAMESPACE}/pods"))["items"]) == 90
        assert await used(api) == {"pods": "90", "requests.cpu": "9"}

    with_quotas(tmp_path, test)


def test_a_change_by_the_controller_in_between_is_not_overwritten(tmp_path: Path) -> None:
    """Compare-and-swap: whoever else writes the status while charges are made, no charge and no count is lost."""

    async def test(api: Api) -> None:
        await set_quota(api, "q", {"configmaps": "1000", "secrets": "1000"})

        async def count(times: int) -> None:
            """Adds a secret to the count, as a controller would: again on conflict."""
            while times:
                quota = await api.get(f"{QUOTAS}/q")
                quota["status"]["used"]["secrets"] = str(int(quota["status"]["used"]["secrets"]) + 1)
                code, _ = await api.call("PUT", f"{QUOTAS}/q/status", quota)
                times -= code == 200

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(count(20))
            for index in range(200):
                tasks.create_task(api.create(f"{NAMESPACE}/configmaps", configmap(f"c{index}")))
        assert await used(api) == {"configmaps": "200", "secrets": "20"}

    with_quotas(tmp_path, test)


def test_nobody_counts_less_while_charged_objects_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"configmaps": "10"})
        create, may_write = api.state.storage.create, asyncio.Event()

        async def slow(*, key: str, value: bytes) -> Any:
            await may_write.wait()
            return await create(key=key, value=value)

        async def count_nothing() -> int:
            quota = await api.get(f"{QUOTAS}/q")
            quota["status"]["used"]["configmaps"] = "0"
            return (await api.call("PUT", f"{QUOTAS}/q/status", quota))[0]

        monkeypatch.setattr(api.state.storage, "create", slow)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(api.create(f"{NAMESPACE}/configmaps", configmap("c")))
            while (await used(api))["configmaps"] != "1":
                pass
            assert await count_nothing() == 409
            may_write.set()
        assert await count_nothing() == 200

    with_quotas(tmp_path, test)


def test_a_write_that_fails_gives_back_what_it_was_charged(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"pods": "5", "configmaps": "5"})
        await api.create(f"{NAMESPACE}/pods", pod("a"))
        code, answer = await api.call("POST", f"{NAMESPACE}/pods", pod("a"))
        assert (code, answer["reason"]) == (409, "AlreadyExists")
        async with asyncio.timeout(5):
            while (await used(api))["pods"] != "1":  # the refund is a write of its own
                pass

    with_quotas(tmp_path, test)


def test_what_is_gone_is_given_back_at_once(tmp_path: Path) -> None:
    """By this server, without a controller: also what goes away when its last finalizer does, and pods that have ended."""

    async def test(api: Api) -> None:
        await set_quota(api, "q", {"pods": "2", "requests.cpu": "2", "count/pods": "9", "configmaps": "5"})
        for name in "ab":
            await api.create(f"{NAMESPACE}/pods", with_resources(name, {"cpu": "1"}))
        await api.delete(f"{NAMESPACE}/pods/a", {"gracePeriodSeconds": 0})
        await wait_used(api, {"pods": "1", "requests.cpu": "1", "count/pods": "1", "configmaps": "0"})
        await api.merge(f"{NAMESPACE}/pods/b/status", {"status": {"phase": "Succeeded"}})
        await wait_used(api, {"pods": "0", "requests.cpu": "0", "count/pods": "1", "configmaps": "0"})
        await api.delete(f"{NAMESPACE}/pods/b", {"gracePeriodSeconds": 0})
        await api.create(f"{NAMESPACE}/configmaps", configmap("held", finalizers=["example.com/f"]))
        await api.delete(f"{NAMESPACE}/configmaps/held")
        await api.create(f"{NAMESPACE}/configmaps", configmap("other"))
        assert (await used(api))["configmaps"] == "2"
        await api.merge(f"{NAMESPACE}/configmaps/held", {"metadata": {"finalizers": None}})
        await wait_used(api, {"pods": "0", "requests.cpu": "0", "count/pods": "0", "configmaps": "1"})

    with_quotas(tmp_path, test)


def test_a_deletion_that_may_have_been_counted_is_not_given_back_as_well() -> None:
    quota = {"metadata": {"name": "q"}, "status": {"hard": {"pods": "5"}, "used": {"pods": "3"}}}
    account = Account(Entry("n/q", b"{}", 7), quota, Terms(quota))
    gone = Deletion({"q": {"pods": Quantity.from_value(1)}}, revision=6)
    account.counted_at = 5
    assert gone.of(account)
    account.counted_at = 7
    assert not gone.of(account)


def test_a_crowd_that_comes_and_goes_is_counted_exactly(tmp_path: Path) -> None:
    """Beside somebody who counts what is there, as the controller does."""

    async def test(api: Api) -> None:
        await set_quota(api, "q", {"configmaps": "10"})
        path = f"{NAMESPACE}/configmaps"
        made, going = 0, True

        async def come_and_go(name: str) -> None:
            nonlocal made
            for _ in range(8):
                code, _ = await api.call("POST", path, configmap(name))
                assert code in (201, 403)
                if code == 201:
                    made += 1
                    assert len((await api.get(path))["items"]) <= 10
                    await api.delete(f"{path}/{name}")

        async def count() -> None:
            while going:
                quota = await api.get(f"{QUOTAS}/q")
                quota["status"]["used"] = {"configmaps": str(len((await api.get(path))["items"]))}
                await api.call("PUT", f"{QUOTAS}/q/status", quota)

        async with asyncio.TaskGroup() as tasks:
            counting = tasks.create_task(count())
            async with asyncio.TaskGroup() as crowd:
                for index in range(20):
                    crowd.create_task(come_and_go(f"c{index}"))
            going = False
            await counting
        assert made > 20
        going = True
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(count())
            await wait_used(api, {"configmaps": "0"})
            going = False

    with_quotas(tmp_path, test)


def test_of_two_quotas_neither_is_charged_for_what_the_other_refuses(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "a", {"pods": "5"})
        await set_quota(api, "b", {"requests.cpu": "1"})
        await api.create(f"{NAMESPACE}/pods", with_resources("p", {"cpu": "600m"}))
        assert (await api.refused("POST", f"{NAMESPACE}/pods", with_resources("o", {"cpu": "600m"})))["message"] == (
            'pods "o" is forbidden: exceeded quota: b, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1'
        )
        assert (await used(api, "a"), await used(api, "b")) == ({"pods": "1"}, {"requests.cpu": "600m"})

    with_quotas(tmp_path, test)


def test_a_dry_run_is_checked_and_charged_nothing(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"pods": "1"})
        await api.create(f"{NAMESPACE}/pods?dryRun=All", pod("a"))
        assert await used(api) == {"pods": "0"}
        await api.create(f"{NAMESPACE}/pods", pod("a"))
        assert "exceeded quota" in (await api.refused("POST", f"{NAMESPACE}/pods?dryRun=All", pod("b")))["message"]

    with_quotas(tmp_path, test)


def test_what_a_quota_limits_every_container_must_say(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"limits.cpu": "2", "requests.memory": "1Gi"})
        assert (await api.refused("POST", f"{NAMESPACE}/pods", pod("a")))["message"] == (
            'pods "a" is forbidden: failed quota: q: must specify limits.cpu for: c; requests.memory for: c'
        )
        await api.create(f"{NAMESPACE}/pods", with_resources("b", limits={"cpu": "1", "memory": "64Mi"}))
        assert await used(api) == {"limits.cpu": "1", "requests.memory": "64Mi"}

    with_quotas(tmp_path, test)


def test_a_quota_that_nobody_has_counted_yet_refuses(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        hard = {"pods": "5"}
        made = await api.create(QUOTAS, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}})
        await api.create(f"{NAMESPACE}/pods", pod("a"))  # Kubernetes looks at status.hard only
        await api.put(f"{QUOTAS}/q/status", made | {"status": {"hard": hard}})
        assert (await api.refused("POST", f"{NAMESPACE}/pods", pod("b")))["message"] == (
            'pods "b" is forbidden: status unknown for quota: q, resources: pods'
        )

    with_quotas(tmp_path, test)


def test_services_are_counted_by_kind_and_by_ports_and_updates_by_what_they_add(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"services": "3", "services.nodeports": "3", "services.loadbalancers": "1"})
        made = await api.create(f"{NAMESPACE}/services", service("a", "NodePort", ports=2))
        assert await used(api) == {"services": "1", "services.nodeports": "2", "services.loadbalancers": "0"}
        balanced = service("b", "LoadBalancer", allocateLoadBalancerNodePorts=False)
        await api.create(f"{NAMESPACE}/services", balanced)
        assert await used(api) == {"services": "2", "services.nodeports": "2", "services.loadbalancers": "1"}
        assert (await api.refused("POST", f"{NAMESPACE}/services", service("c", "NodePort", ports=2)))["message"] == (
            'services "c" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=2, '
            "limited: services.nodeports=3"
        )
        more = made | {"spec": made["spec"] | {"ports": [*made["spec"]["ports"], {"name": "x", "port": 99, "protocol": "TCP"}]}}
        changed = await api.put(f"{NAMESPACE}/services/a", more)
        assert (await used(api))["services.nodeports"] == "3"
        await api.put(f"{NAMESPACE}/services/a", changed | {"spec": made["spec"]})
        assert (await used(api))["services.nodeports"] == "3", "what is freed is for the controller to count"

    with_quotas(tmp_path, test)


def test_claims_are_counted_by_size_and_by_class(tmp_path: Path) -> None:
    def claim(name: str, size: str, storage_class: str) -> Object:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, "storageClassName": storage_class}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}

    async def test(api: Api) -> None:
        gold = "gold.storageclass.storage.k8s.io/"
        await set_quota(api, "q", {"requests.storage": "10Gi", f"{gold}requests.storage": "3Gi", f"{gold}persistentvolumeclaims": "2"})
        path = f"{NAMESPACE}/persistentvolumeclaims"
        await api.create(path, claim("a", "2Gi", "gold"))
        await api.create(path, claim("b", "4Gi", "bronze"))
        assert await used(api) == {
            "requests.storage": "6Gi", f"{gold}requests.storage": "2Gi", f"{gold}persistentvolumeclaims": "1"
        }  # fmt: skip
        assert (await api.refused("POST", path, claim("c", "2Gi", "gold")))["message"] == (
            f'persistentvolumeclaims "c" is forbidden: exceeded quota: q, requested: {gold}requests.storage=2Gi, '
            f"used: {gold}requests.storage=2Gi, limited: {gold}requests.storage=3Gi"
        )

    with_quotas(tmp_path, test)


@pytest.mark.parametrize(
    ("scope", "counted", "ignored"),
    [
        pytest.param("Terminating", {"activeDeadlineSeconds": 60}, {}, id="terminating"),
        pytest.param("NotTerminating", {}, {"activeDeadlineSeconds": 60}, id="not-terminating"),
        pytest.param("PriorityClass", {"priorityClassName": "system-node-critical"}, {}, id="priority-class"),
        pytest.param(
            "CrossNamespacePodAffinity",
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "k", "namespaceSelector": {}, "labelSelector": {}}]}}},
            {}, id="affinity-across-namespaces",
        ),
    ],
)  # fmt: skip
def test_a_scope_chooses_the_pods_that_count(tmp_path: Path, scope: str, counted: Object, ignored: Object) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"pods": "9"}, scopes=[scope])
        await api.create(f"{NAMESPACE}/pods", pod("ignored", **ignored))
        assert await used(api) == {"pods": "0"}
        await api.create(f"{NAMESPACE}/pods", pod("counted", **counted))
        assert await used(api) == {"pods": "1"}

    with_quotas(tmp_path, test)


def test_a_resize_is_charged_what_it_adds(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await set_quota(api, "q", {"requests.cpu": "1"})
        await api.create(f"{NAMESPACE}/pods", with_resources("p", {"cpu": "500m"}))

        def resized(cpu: str) -> Object:
            return {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}

        strategic = {"Content_Type": "application/strategic-merge-patch+json"}
        code, answer = await api.call("PATCH", f"{NAMESPACE}/pods/p/resize", resized("1500m"), **strategic)
        assert (code, answer["message"]) == (
            403,
            'pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=500m, limited: requests.cpu=1',
        )
        code, answer = await api.call("PATCH", f"{NAMESPACE}/pods/p/resize", resized("800m"), **strategic)
        assert code == 200, answer
        assert await used(api) == {"requests.cpu": "800m"}

    with_quotas(tmp_path, test)


def test_a_scope_selector_chooses_priority_classes_by_name(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        expressions = [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]
        await set_quota(api, "q", {"pods": "1"}, scopeSelector={"matchExpressions": expressions})
        await api.create(f"{NAMESPACE}/pods", pod("other", priorityClassName="system-cluster-critical"))
        await api.create(f"{NAMESPACE}/pods", pod("a", priorityClassName="system-node-critical"))
        status = await api.refused("POST", f"{NAMESPACE}/pods", pod("b", priorityClassName="system-node-critical"))
        assert "exceeded quota" in status["message"]
        await api.create(f"{NAMESPACE}/pods", pod("plain"))

    with_quotas(tmp_path, test)


def test_custom_resources_are_counted(tmp_path: Path) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }  # fmt: skip

    async def test(api: Api) -> None:
        await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        await set_quota(api, "q", {"count/widgets.example.com": "1"})
        path = "/apis/example.com/v1/namespaces/n/widgets"
        for name, refused in (("a", False), ("b", True)):
            body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}}
            if refused:
                assert (await api.refused("POST", path, body))["message"] == (
                    'widgets.example.com "b" is forbidden: exceeded quota: q, requested: count/widgets.example.com=1, '
                    "used: count/widgets.example.com=1, limited: count/widgets.example.com=1"
                )
            else:
                await api.create(path, body)

    with_quotas(tmp_path, test)


def test_consumption_that_is_limited_by_default_needs_a_quota(tmp_path: Path) -> None:
    limited = [
        {"resource": "persistentvolumeclaims", "matchContains": [".storageclass.storage.k8s.io/requests.storage"]},
        {"resource": "pods", "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]},
    ]
    kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration"}
    flags = admission_configuration(tmp_path, ResourceQuota={**kind, "limitedResources": limited})

    async def test(api: Api) -> None:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "gold"}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": spec}
        assert (await api.refused("POST", f"{NAMESPACE}/persistentvolumeclaims", claim))["message"] == (
            'persistentvolumeclaims "c" is forbidden: insufficient quota to consume: gold.storageclass.storage.k8s.io/requests.storage'
        )
        await api.create(f"{NAMESPACE}/pods", pod("a"))
        critical = pod("b", priorityClassName="system-node-critical")
        assert (await api.refused("POST", f"{NAMESPACE}/pods", critical))["message"] == (
            'pods "b" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [system-node-critical]}]'
        )
        await set_quota(api, "q", {"pods": "1"}, scopes=["PriorityClass"])
        await api.create(f"{NAMESPACE}/pods", critical)

    with_quotas(tmp_path, test, **flags)
