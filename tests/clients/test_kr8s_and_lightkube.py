"""kr8s and lightkube, unchanged: scaling, commands, ports, logs, waiting, applying, watching, custom resources."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, wait_for

pytestmark = [
    pytest.mark.process,
    # what the libraries leave open, and what they think of the version, is theirs
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:Kubernetes version"),
]
SECONDS_MAX = 30
SCRIPT = "echo one; echo two; sleep 3600"


@pytest.fixture(autouse=True)
def collect_their_garbage() -> Iterator[None]:
    """What a library forgot to close complains when it is collected: here, not in somebody else's test."""
    yield
    gc.collect()


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}]}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


# -- kr8s ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kr8s_api(cluster: ClusterUnderTest, namespace: str) -> Any:
    kr8s = pytest.importorskip("kr8s")
    return kr8s.api(kubeconfig=str(cluster.kubeconfig), namespace=namespace)


def test_kr8s_reads_logs_runs_commands_and_forwards_ports(kr8s_api: Any, namespace: str) -> None:
    import httpx
    from kr8s.objects import Pod

    def pod(name: str, image: str, **more: Any) -> Any:
        spec = {"containers": [{"name": "c", "image": image, **more}]}
        made = Pod({"metadata": {"name": name, "namespace": namespace}, "spec": spec}, api=kr8s_api)
        made.create()
        made.wait("condition=Ready", timeout=SECONDS_MAX)
        return made

    talker = pod("talker", "busybox", command=["sh", "-c", SCRIPT])
    wait_for(lambda: list(talker.logs()) == ["one", "two"], "the log is there")
    assert list(talker.logs(tail_lines=1)) == ["two"]
    done = talker.exec(["sh", "-c", "echo out; echo err >&2; exit 4"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 4)
    server = pod("server", "nginx", ports=[{"containerPort": 80}])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        local = free.getsockname()[1]
    with server.portforward(80, local_port=local) as port:
        assert "Welcome to nginx!" in httpx.get(f"http://127.0.0.1:{port}/", timeout=SECONDS_MAX).text


def test_kr8s_scales_labels_watches_and_deletes(kr8s_api: Any, namespace: str) -> None:
    from kr8s.objects import ConfigMap, Deployment

    web = Deployment(deployment("web") | {"metadata": {"name": "web", "namespace": namespace}}, api=kr8s_api)
    web.create()
    web.wait("condition=Available", timeout=SECONDS_MAX)
    web.scale(2)
    web.wait("jsonpath='{.status.readyReplicas}'=2", timeout=SECONDS_MAX)
    assert len(list(web.pods())) == 2
    web.label({"tier": "front"})
    web.annotate(note="x")
    web.patch({"spec": {"paused": True}})
    web.refresh()
    assert (web.labels["tier"], web.annotations["note"], web.spec.paused) == ("front", "x", True)
    settings = ConfigMap({"metadata": {"name": "c", "namespace": namespace}, "data": {"a": "1"}}, api=kr8s_api)
    settings.create()
    settings.set_owner(web)
    settings.refresh()
    assert settings.metadata.ownerReferences[0].name == "web"
    web.delete(propagation_policy="Foreground")
    web.wait("delete", timeout=SECONDS_MAX)
    wait_for(lambda: not settings.exists(), "what it owned is collected")


def test_kr8s_finds_kinds_by_any_of_their_names(kr8s_api: Any, namespace: str) -> None:
    found = {name: kr8s_api.lookup_kind(name) for name in ("deploy", "Deployment", "deployments.apps", "deployments.v1.apps")}
    assert set(found.values()) == {("deployment.apps/v1", "deployments", True)}
    assert [obj.name for obj in kr8s_api.get("cm", namespace=namespace, field_selector="metadata.name=nope")] == []
    assert kr8s_api.whoami() == "kubernetes-admin"


# -- lightkube -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lightkube_client(cluster: ClusterUnderTest, namespace: str) -> Any:
    lightkube = pytest.importorskip("lightkube")
    config = lightkube.KubeConfig.from_file(str(cluster.kubeconfig))
    return lightkube.Client(config=config, namespace=namespace, field_manager="lightkube-test")


def test_lightkube_patches_in_every_way_and_says_what_was_refused(lightkube_client: Any) -> None:
    from lightkube import ApiError
    from lightkube.models.core_v1 import ServicePort, ServiceSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Service
    from lightkube.types import PatchType

    client = lightkube_client
    client.create(Service(metadata=ObjectMeta(name="s"), spec=ServiceSpec(ports=[ServicePort(name="a", port=80)], selector={"app": "x"})))
    ports = {"spec": {"ports": [{"name": "b", "port": 81}]}}
    assert {port.name for port in client.patch(Service, "s", ports).spec.ports} == {"a", "b"}
    assert [port.name for port in client.patch(Service, "s", ports, patch_type=PatchType.MERGE).spec.ports] == ["b"]
    change = [{"op": "add", "path": "/spec/ports/-", "value": {"name": "c", "port": 82}}]
    assert [port.port for port in client.patch(Service, "s", change, patch_type=PatchType.JSON).spec.ports] == [81, 82]
    client.patch(Service, "s", {"metadata": {"labels": {"dry": "run"}}}, dry_run=True)
    assert client.get(Service, "s").metadata.labels is None
    with pytest.raises(ApiError) as refused:
        client.create(Service(metadata=ObjectMeta(name="s"), spec=ServiceSpec(ports=[ServicePort(port=80)])))
    assert (refused.value.status.code, refused.value.status.reason) == (409, "AlreadyExists")


def test_lightkube_applies_and_gives_up_what_it_no_longer_names(lightkube_client: Any) -> None:
    from lightkube import ApiError
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    client = lightkube_client

    def settings(**data: str) -> ConfigMap:
        return ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="c"), data=data)

    client.apply(settings(a="1", b="2"))
    assert client.apply(settings(b="3")).data == {"b": "3"}
    with pytest.raises(ApiError) as conflict:
        client.apply(settings(b="4"), field_manager="other")
    assert (conflict.value.status.code, conflict.value.status.reason) == (409, "Conflict")
    assert client.apply(settings(b="4"), field_manager="other", force=True).data == {"b": "4"}


def test_lightkube_watches_reads_logs_and_scales(lightkube_client: Any) -> None:
    from lightkube.models.autoscaling_v1 import ScaleSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.core_v1 import Pod

    client = lightkube_client
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", SCRIPT]}
    made = client.create(Pod.from_dict({"metadata": {"name": "p"}, "spec": {"containers": [container]}}))
    since = {"resource_version": made.metadata.resourceVersion, "server_timeout": SECONDS_MAX}
    for _, seen in client.watch(Pod, fields={"metadata.name": "p"}, **since):
        if seen.status.phase == "Running":
            break
    following = client.log("p", follow=True)
    assert [next(iter(following)), next(iter(following))] == ["one\n", "two\n"]
    client.create(Deployment.from_dict(deployment("web")))
    client.replace(Deployment.Scale(metadata=ObjectMeta(name="web"), spec=ScaleSpec(replicas=3)))
    client.wait(Deployment, "web", for_conditions=["Available"])
    assert client.get(Deployment, "web").spec.replicas == 3
    client.deletecollection(Deployment)
    wait_for(lambda: not list(client.list(Deployment)), "all are gone")


def test_lightkube_learns_of_custom_resources(lightkube_client: Any, namespace: str) -> None:
    from lightkube.generic_resource import get_generic_resource, load_in_cluster_generic_resources
    from lightkube.resources.apiextensions_v1 import CustomResourceDefinition

    client, group = lightkube_client, f"{namespace}.example"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    client.create(CustomResourceDefinition.from_dict({"metadata": {"name": f"things.{group}"}, "spec": spec}))
    client.wait(CustomResourceDefinition, f"things.{group}", for_conditions=["Established"])
    load_in_cluster_generic_resources(client)
    thing = get_generic_resource(f"{group}/v1", "Thing")
    client.create(thing(metadata={"name": "t"}, spec={"n": 1}))
    assert client.get(thing, "t").spec == {"n": 1}
    client.delete(CustomResourceDefinition, f"things.{group}")
