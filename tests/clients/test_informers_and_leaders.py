"""What operators are built of, in the libraries themselves: watches, informers, leader election, dynamic clients, streams."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, wait_for

pytestmark = [
    pytest.mark.process,
    # what the libraries leave open is theirs
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"),
]
SECONDS_MAX = 30


@pytest.fixture(autouse=True)
def collect_their_garbage() -> Iterator[None]:
    """What a library forgot to close complains when it is collected: here, not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def api_client(cluster: ClusterUnderTest) -> Iterator[Any]:
    """The official library's client."""
    kubernetes = pytest.importorskip("kubernetes")
    client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
    yield client
    client.close()


def with_asyncio_client(cluster: ClusterUnderTest, story: Callable[[Any], Awaitable[None]]) -> None:
    """Runs a story with a client of kubernetes_asyncio."""
    kubernetes_asyncio = pytest.importorskip("kubernetes_asyncio")

    async def main() -> None:
        async with await kubernetes_asyncio.config.new_client_from_config(str(cluster.kubeconfig)) as client, asyncio.timeout(SECONDS_MAX):
            await story(client)

    asyncio.run(main())


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


# -- the official library ----------------------------------------------------------------------------------------------


def test_the_official_informer_keeps_a_cache_and_tells_of_changes(api_client: Any, namespace: str) -> None:
    pytest.importorskip("kubernetes.informer")
    from kubernetes.client import CoreV1Api
    from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

    core = CoreV1Api(api_client)
    core.create_namespaced_config_map(namespace, configmap("before"))
    told: list[tuple[str, str]] = []
    informer = SharedInformer(core.list_namespaced_config_map, namespace=namespace, field_selector="metadata.name!=kube-root-ca.crt")
    for kind in (ADDED, MODIFIED, DELETED):
        informer.add_event_handler(kind, lambda obj, kind=kind: told.append((kind, obj.metadata.name)))
    informer.start()
    try:
        wait_for(lambda: (ADDED, "before") in told, "the informer has listed")
        core.create_namespaced_config_map(namespace, configmap("after"))
        wait_for(lambda: (ADDED, "after") in told, "the informer hears of the new one")
        core.patch_namespaced_config_map("after", namespace, {"data": {"k": "v"}})
        core.delete_namespaced_config_map("before", namespace)
        wait_for(lambda: {(MODIFIED, "after"), (DELETED, "before")} <= set(told), "the informer hears of changes")
        assert [obj.metadata.name for obj in informer.cache.list()] == ["after"]
    finally:
        informer.stop()


def test_the_official_watch_goes_on_from_a_version(api_client: Any, namespace: str) -> None:
    from kubernetes.client import CoreV1Api
    from kubernetes.watch import Watch

    core = CoreV1Api(api_client)
    listed = core.list_namespaced_config_map(namespace)
    for name in ("a", "b"):
        core.create_namespaced_config_map(namespace, configmap(name))
    seen = []
    watch = Watch()
    for event in watch.stream(
        core.list_namespaced_config_map, namespace, resource_version=listed.metadata.resource_version, timeout_seconds=SECONDS_MAX
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if event["object"].metadata.name == "b":
            watch.stop()
    assert [entry for entry in seen if entry[1] != "kube-root-ca.crt"] == [("ADDED", "a"), ("ADDED", "b")]


@pytest.mark.parametrize("kind", ["configmaplock", "leaselock"])
def test_the_official_leader_election_has_one_leader_and_hands_over(api_client: Any, namespace: str, kind: str) -> None:
    locks = pytest.importorskip(f"kubernetes.leaderelection.resourcelock.{kind}")
    from kubernetes.client import Configuration, CoordinationV1Api, CoreV1Api
    from kubernetes.leaderelection import electionconfig, leaderelection

    lock_class = locks.ConfigMapLock if kind == "configmaplock" else locks.LeaseLock
    leaders: list[str] = []

    class Resigned(Exception):
        """Ends a candidate's endless loop, in its own thread."""

    def candidate(name: str) -> tuple[threading.Thread, threading.Event]:
        resigns = threading.Event()
        lock = lock_class("lock", namespace, name)
        lock.api_instance = (CoreV1Api if kind == "configmaplock" else CoordinationV1Api)(api_client)
        update = lock.update

        def update_until_resigned(*arguments: Any) -> Any:
            if resigns.is_set():
                raise Resigned
            return update(*arguments)

        lock.update = update_until_resigned
        config = electionconfig.Config(lock, 3, 2, 1, lambda: leaders.append(name), lambda: None)

        def run() -> None:
            with pytest.raises(Resigned):
                leaderelection.LeaderElection(config).run()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread, resigns

    Configuration.set_default(api_client.configuration)
    try:
        first, first_resigns = candidate("one")
        wait_for(lambda: leaders == ["one"], "there is a leader")
        second, second_resigns = candidate("two")
        first_resigns.set()
        first.join(SECONDS_MAX)
        wait_for(lambda: leaders == ["one", "two"], "the other follows once the lease has run out")
        second_resigns.set()
        second.join(SECONDS_MAX)
    finally:
        Configuration.set_default(None)


def test_the_official_dynamic_client_works_with_custom_resources(api_client: Any, namespace: str) -> None:
    from kubernetes.dynamic import DynamicClient
    from kubernetes.dynamic.exceptions import NotFoundError

    client = DynamicClient(api_client)
    definitions = client.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    group = f"{namespace}.example"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [version]},
    }  # fmt: skip
    definitions.create(body=definition)
    client.resources.invalidate_cache()
    things = client.resources.get(api_version=f"{group}/v1", kind="Thing")
    body = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"n": 1}}
    made = things.create(body=body, namespace=namespace)
    patched = things.patch(name="t", namespace=namespace, body={"spec": {"n": 2}}, content_type="application/merge-patch+json")
    assert (patched.spec.n, patched.metadata.generation) == (2, 2)
    things.status.patch(
        name="t", namespace=namespace, body={"status": {"ready": True}}, content_type="application/merge-patch+json"
    )
    for event in things.watch(namespace=namespace, resource_version=made.metadata.resourceVersion, timeout=SECONDS_MAX):
        if event["object"].status and event["object"].status.ready:
            break
    things.delete(name="t", namespace=namespace)
    with pytest.raises(NotFoundError):
        things.get(name="t", namespace=namespace)
    definitions.delete(name=f"things.{group}")


# -- kubernetes_asyncio --------------------------------------------------------------------------------------------------


def test_kubernetes_asyncio_watches_from_its_list(cluster: ClusterUnderTest, namespace: str) -> None:
    async def story(client: Any) -> None:
        from kubernetes_asyncio.client import CoreV1Api
        from kubernetes_asyncio.watch import Watch

        core = CoreV1Api(client)
        listed = await core.list_namespaced_config_map(namespace, limit=1)
        await core.create_namespaced_config_map(namespace, configmap("a"))
        await core.patch_namespaced_config_map("a", namespace, {"data": {"k": "v"}})
        await core.delete_namespaced_config_map("a", namespace)
        seen = []
        async with Watch() as watch:
            version = listed.metadata.resource_version
            async for event in watch.stream(core.list_namespaced_config_map, namespace, resource_version=version):
                if event["object"].metadata.name == "a":
                    seen.append(event["type"])
                    if event["type"] == "DELETED":
                        break
        assert seen == ["ADDED", "MODIFIED", "DELETED"]

    with_asyncio_client(cluster, story)


def test_kubernetes_asyncio_elects_one_leader_and_another_after_it(cluster: ClusterUnderTest, namespace: str) -> None:
    locks = pytest.importorskip("kubernetes_asyncio.leaderelection.resourcelock.leaselock")

    async def story(client: Any) -> None:
        from kubernetes_asyncio.leaderelection import electionconfig, leaderelection

        leaders: asyncio.Queue[str] = asyncio.Queue(maxsize=9)

        def election(name: str) -> Any:
            async def lead() -> None:
                leaders.put_nowait(name)
                await asyncio.Event().wait()

            async def stopped() -> None:
                leaders.put_nowait(f"not {name}")

            lock = locks.LeaseLock("lock", namespace, name, client)
            return leaderelection.LeaderElection(electionconfig.Config(lock, 3, 2, 1, lead, stopped)).run()

        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(election("one"))
            assert await leaders.get() == "one"
            second = tasks.create_task(election("two"))
            first.cancel()
            assert await leaders.get() == "two"
            second.cancel()

    with_asyncio_client(cluster, story)


def test_kubernetes_asyncio_applies_and_watches_dynamically(cluster: ClusterUnderTest, namespace: str) -> None:
    pytest.importorskip("kubernetes_asyncio.dynamic")

    async def story(client: Any) -> None:
        from kubernetes_asyncio.dynamic import DynamicClient

        dynamic = await DynamicClient(client)
        deployments = await dynamic.resources.get(api_version="apps/v1", kind="Deployment")
        container = {"name": "c", "image": "nginx"}
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
        applied = await deployments.server_side_apply(body=body, namespace=namespace, field_manager="me")
        assert applied.metadata.managedFields[0].manager == "me"
        async for event in deployments.watch(namespace=namespace, timeout=SECONDS_MAX):
            if (event["object"].status or {}).get("availableReplicas") == 1:
                break
        await deployments.delete(name="web", namespace=namespace)

    with_asyncio_client(cluster, story)


def test_kubernetes_asyncio_runs_commands_over_a_websocket(cluster: ClusterUnderTest, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "run", "p", "--image=busybox", "--", "sleep", "3600")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=30s")

    async def story(client: Any) -> None:
        from kubernetes_asyncio.client import Configuration, CoreV1Api
        from kubernetes_asyncio.config import load_kube_config
        from kubernetes_asyncio.stream import WsApiClient

        configuration = Configuration()
        await load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
        async with WsApiClient(configuration=configuration) as websockets:
            answer = await CoreV1Api(websockets).connect_get_namespaced_pod_exec(
                "p", namespace, command=["sh", "-c", "echo to $HOSTNAME; echo aside >&2"], stdout=True, stderr=True, stdin=False, tty=False
            )
        assert sorted(answer.split("\n")) == ["", "aside", "to p"]

    with_asyncio_client(cluster, story)
