"""What containers see: files, volumes, environment, logs; and what users are told about them."""

from __future__ import annotations

import asyncio
import base64
import errno
from datetime import UTC, datetime, timedelta

import pytest

from kubecosm.api.resources import CONFIGMAPS, SECRETS, Object
from kubecosm.services.kubelet.cri.logs import LogBuffer, LogOptions
from kubecosm.services.kubelet.cri.streams import BrokenStream, Pipe
from kubecosm.services.kubelet.cri.types import PodStatus
from kubecosm.services.kubelet.env.environment import ConfigMissing, compute_environment, expand
from kubecosm.services.kubelet.env.fields import resource_value
from kubecosm.services.kubelet.server.auth import Caller, caller_of, settled, subresources_of
from kubecosm.services.kubelet.server.logs import BadOptions, container_id_for, parse_options
from kubecosm.services.kubelet.sim.behaviour import Exit, Run, Serve, decide
from kubecosm.services.kubelet.sim.machine import hosts_file, search_domains
from kubecosm.services.kubelet.sim.network_access import candidates
from kubecosm.services.kubelet.sim.profiles import ImageProfiles
from kubecosm.services.kubelet.sim.usage import cpu_nanocores, memory_bytes
from kubecosm.services.kubelet.volumes.filesystem import Dir, File, FileSystem, mounted
from kubecosm.testing.virtualtime import run_virtual
from tests.kubelet.lab import FixedObjects, Lab, container, in_lab, make_pod, shell

NOW = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)


# -- files -----------------------------------------------------------------------------------------------------------------


def test_files_are_written_read_renamed_and_removed() -> None:
    fs = FileSystem()
    fs.mkdir("/a/b", parents=True)
    fs.write("/a/b/f", b"one")
    fs.write("/a/b/f", b" two", append=True)
    fs.symlink("b/f", "/a/link")
    assert fs.read("/a/link") == b"one two"
    fs.rename("/a/b/f", "/a/g")
    assert fs.names("/a") == ["b", "g", "link"]
    fs.remove("/a", recursive=True)
    assert fs.names("/") == []


@pytest.mark.parametrize(
    ("action", "number"),
    [
        (lambda fs: fs.read("/no"), errno.ENOENT), (lambda fs: fs.read("/d"), errno.EISDIR), (lambda fs: fs.mkdir("/d"), errno.EEXIST),
        (lambda fs: fs.read("/f/x"), errno.ENOTDIR), (lambda fs: fs.remove("/d", directory=True), errno.ENOTEMPTY),
        (lambda fs: fs.read("/loop"), errno.ELOOP),
        (lambda fs: fs.write("/ro/x", b""), errno.EROFS), (lambda fs: fs.rename("/d", "/d/e"), errno.EINVAL),
        (lambda fs: fs.write("/f", bytes(70_000_000)), errno.ENOSPC),
    ],
)  # fmt: skip
def test_failures_have_the_errno_of_a_real_file_system(action: object, number: int) -> None:
    fs = FileSystem(Dir({"f": File(b"x"), "d": Dir({"x": File()}), "ro": Dir(read_only=True)}))
    fs.symlink("loop", "/loop")
    with pytest.raises(OSError) as failure:
        action(fs)  # type: ignore[operator]
    assert failure.value.errno == number


def test_a_read_only_mount_shows_what_another_container_writes() -> None:
    volume = Dir()
    writer, reader = FileSystem(), FileSystem()
    writer.graft("/data", mounted(volume, read_only=False))
    reader.graft("/data", mounted(volume, read_only=True))
    writer.write("/data/f", b"shared")
    assert reader.read("/data/f") == b"shared"
    with pytest.raises(OSError, match="Read-only"):
        reader.write("/data/f", b"")


# -- environment -----------------------------------------------------------------------------------------------------------


def environment(spec: Object, objects: FixedObjects | None = None, services: tuple[Object, ...] = ()) -> dict[str, str]:
    pod = make_pod(spec)
    pod["metadata"]["labels"] = {"app": "x"}
    return compute_environment(pod, spec, (objects or FixedObjects()).get, services, pod_ip="127.64.0.9", node_ip="127.16.0.1")


def test_the_environment_has_fields_resources_and_references_in_order() -> None:
    objects = FixedObjects()
    objects.put(CONFIGMAPS, {"metadata": {"namespace": "default", "name": "cm"}, "data": {"A": "1", "B": "2"}})
    objects.put(SECRETS, {"metadata": {"namespace": "default", "name": "s"}, "data": {"k": base64.b64encode(b"hidden").decode()}})
    spec = container(
        envFrom=[{"prefix": "P_", "configMapRef": {"name": "cm"}}],
        env=[
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "URL", "value": "http://$(IP):80/$(APP)/$$(IP)/$(NOPE)"},
            {"name": "OPTIONAL", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": True}}},
        ],
        resources={"limits": {"memory": "64Mi"}},
    )
    found = environment(spec, objects)
    assert (found["P_A"], found["P_B"], found["IP"], found["APP"], found["SECRET"], found["MEMORY"]) == (
        "1",
        "2",
        "127.64.0.9",
        "x",
        "hidden",
        "64",
    )
    assert found["URL"] == "http://127.64.0.9:80/x/$(IP)/$(NOPE)"
    assert "OPTIONAL" not in found


def test_services_become_variables() -> None:
    service = {
        "metadata": {"name": "redis-master"},
        "spec": {"clusterIP": "127.32.0.9", "ports": [{"name": "main", "port": 6379, "protocol": "TCP"}]},
    }
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}
    found = environment(container(), services=(service, headless))
    assert found["REDIS_MASTER_SERVICE_HOST"] == "127.32.0.9"
    assert found["REDIS_MASTER_SERVICE_PORT_MAIN"] == "6379"
    assert found["REDIS_MASTER_PORT_6379_TCP"] == "tcp://127.32.0.9:6379"
    assert not any(name.startswith("H_") for name in found)


def test_a_missing_key_is_named() -> None:
    objects = FixedObjects()
    objects.put(CONFIGMAPS, {"metadata": {"namespace": "default", "name": "cm"}, "data": {}})
    spec = container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "nope"}}}])
    with pytest.raises(ConfigMissing, match="couldn't find key nope in ConfigMap default/cm"):
        environment(spec, objects)


def test_expansion_and_resource_rounding() -> None:
    assert expand("$(A)$(B)$$", {"A": "1"}) == "1$(B)$"
    assert resource_value({"resources": {"limits": {"cpu": "250m"}}}, {"resource": "limits.cpu"}) == "1"
    assert resource_value({"resources": {"requests": {"cpu": "250m"}}}, {"resource": "requests.cpu", "divisor": "1m"}) == "250"


def test_volumes_are_files_and_change_with_their_objects() -> None:
    async def story(lab: Lab) -> None:
        lab.objects.put(CONFIGMAPS, {"metadata": {"namespace": "default", "name": "cm"}, "data": {"a.txt": "first"}})
        sources = [
            {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "cm", "items": [{"key": "a.txt", "path": "dir/a"}]}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]  # fmt: skip
        script = "cat /var/run/secrets/token /var/run/secrets/dir/a /var/run/secrets/name; echo; sleep 5; cat /etc/cm/a.txt; sleep 100"
        mounts = [{"name": "p", "mountPath": "/var/run/secrets", "readOnly": True}, {"name": "c", "mountPath": "/etc/cm"}]
        volumes = [{"name": "p", "projected": {"sources": sources}}, {"name": "c", "configMap": {"name": "cm"}}]
        worker = lab.run(make_pod(shell(script, volumeMounts=mounts), volumes=volumes))
        await lab.clock.sleep(1)
        lab.objects.put(CONFIGMAPS, {"metadata": {"namespace": "default", "name": "cm"}, "data": {"a.txt": "second"}})
        lab.context.resources.volumes.refresh(worker.uid)
        await lab.clock.sleep(6)
        assert lab.logs(worker) == "token-of-webfirstweb\n"
        await lab.runtime.stop_sandbox(worker.uid)
        assert lab.logs(worker) == "token-of-webfirstweb\nsecond"

    in_lab(story)


# -- logs ------------------------------------------------------------------------------------------------------------------


def read(buffer: LogBuffer, **options: object) -> str:
    async def main() -> bytes:
        return b"".join([chunk async for chunk in buffer.read(LogOptions(**options))])  # type: ignore[arg-type]

    return asyncio.run(main()).decode()


def filled() -> LogBuffer:
    buffer = LogBuffer()
    for index in range(4):
        buffer.write(f"line {index}\n".encode(), NOW + timedelta(seconds=index), is_stderr=index == 3)
    return buffer


def test_logs_are_cut_by_tail_time_and_size() -> None:
    buffer = filled()
    assert read(buffer, tail_lines=2) == "line 2\nline 3\n"
    assert read(buffer, tail_lines=0) == ""
    assert read(buffer, since=NOW + timedelta(seconds=2)) == "line 2\nline 3\n"
    assert read(buffer, limit_bytes=9) == "line 0\nli"
    assert read(buffer, stream="Stderr") == "line 3\n"
    assert read(buffer, tail_lines=1, timestamps=True) == "2026-01-02T03:04:08.600000000Z line 3\n"


def test_a_last_line_without_newline_appears_when_the_process_ends() -> None:
    buffer = LogBuffer()
    buffer.write(b"whole\npart", NOW)
    assert read(buffer) == "whole\n"
    buffer.close(NOW)
    assert read(buffer) == "whole\npart"


def test_following_ends_with_the_process() -> None:
    async def main() -> bytes:
        buffer, seen = filled(), bytearray()

        async def follow() -> None:
            async for chunk in buffer.read(LogOptions(follow=True, tail_lines=1)):
                seen.extend(chunk)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow())
            await asyncio.sleep(1)
            buffer.write(b"more\n", NOW)
            await asyncio.sleep(1)
            buffer.close(NOW)
        return bytes(seen)

    assert run_virtual(main()) == b"line 3\nmore\n"


def test_log_requests_are_refused_in_the_kubelets_words() -> None:
    pod = make_pod(container())
    with pytest.raises(BadOptions, match='container "nope" not found in pod "web"'):
        container_id_for(pod, None, "nope", previous=False)
    with pytest.raises(BadOptions, match='container "c" in pod "web" is waiting to start: ContainerCreating'):
        container_id_for(pod, PodStatus("u"), "c", previous=False)
    with pytest.raises(BadOptions, match='previous terminated container "c" in pod "web" not found'):
        container_id_for(pod, PodStatus("u"), "c", previous=True)
    with pytest.raises(BadOptions, match="invalid tailLines"):
        parse_options([("tailLines", "-1")], NOW)
    assert parse_options([("sinceSeconds", "5"), ("follow", "true")], NOW).since == NOW - timedelta(seconds=5)


# -- behaviour, names, access ----------------------------------------------------------------------------------------------


def main_of(spec: Object, owner: str = "", **fields: object) -> object:
    import random

    from kubecosm.services.kubelet.cri.types import ContainerKind
    from kubecosm.services.kubelet.shell.programs import has_program

    pod = make_pod(spec, **fields)
    if owner:
        pod["metadata"]["ownerReferences"] = [{"kind": owner, "controller": True, "name": "o", "uid": "o"}]
    return decide(pod, spec, ContainerKind.REGULAR, ImageProfiles().of(spec["image"]), has_program, random.Random(1)).main


@pytest.mark.parametrize(
    ("spec", "owner", "expected"),
    [
        (container(), "", Serve("nginx", (80,))),
        (container(image="me/app:1"), "", Serve("http")),
        (container(image="me/app:1", args=["--port=80"]), "", Serve("http")),
        (container(image="me/app:1"), "Job", Exit(1.0, 0)),
        (container(image="me/app:1", command=["/usr/bin/server"]), "", Serve("http")),
        (container(image="busybox"), "", Run(("sh",))),
        (container(image="busybox", args=["sleep", "5"]), "", Run(("sleep", "5"))),
        (container(image="me/app:1", command=["/bin/sh", "-c"], args=["exit 2"]), "", Run(("/bin/sh", "-c", "exit 2"))),
        (container(image="perl:5", command=["perl", "-e", "1"]), "Job", Exit(2.0, 0)),
        (container(image="docker.io/library/redis:7"), "", Serve("redis", (6379,))),
        (container(image="gcr.io/google-samples/kubernetes-bootcamp:v1"), "", Serve("http", (8080,))),
        (container(image="hello-world"), "", Exit(0, 0)),
    ],
    ids=[
        "nginx",
        "unknown",
        "unknown with flags",
        "unknown in a job",
        "unknown program",
        "shell",
        "arguments",
        "script",
        "known program",
        "redis",
        "tutorial",
        "exits",
    ],
)
def test_the_main_process_follows_command_and_image(spec: Object, owner: str, expected: object) -> None:
    assert main_of(spec, owner) == expected


def test_names_are_searched_as_resolv_conf_says() -> None:
    search = search_domains(make_pod(), "cluster.local")
    assert candidates("web", search)[:2] == ["web.default.svc.cluster.local", "web.svc.cluster.local"]
    assert candidates("a.b.c.d.e.f", search)[0] == "a.b.c.d.e.f"
    assert candidates("example.org.", search) == ["example.org"]
    assert search_domains(make_pod(dnsPolicy="None", dnsConfig={"searches": ["x"]}), "cluster.local") == ["x"]
    assert b"127.64.0.9\tweb.sub.default.svc.cluster.local\tweb\n" in hosts_file(make_pod(subdomain="sub"), "127.64.0.9", "cluster.local")


def test_usage_grows_with_traffic_up_to_the_limit() -> None:
    spec = container(resources={"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "200m"}})
    assert cpu_nanocores(spec, lambda name: None, 0) == 10_000_000
    assert cpu_nanocores(spec, lambda name: None, 20) == 50_000_000
    assert cpu_nanocores(spec, lambda name: None, 10_000) == 200_000_000
    assert cpu_nanocores(spec, {"cpu": "1"}.get, 0) == 10**9
    assert memory_bytes(spec, lambda name: None) == 60 * 1024**2


def test_what_needs_no_asking_is_settled_by_the_certificate() -> None:
    admin = caller_of({"subject": ((("organizationName", "system:masters"),), (("commonName", "kube-apiserver-kubelet-client"),))})
    proxy, jane = Caller("system:kube-proxy", ()), Caller("jane", ("system:authenticated",))
    assert settled(None, "GET", "/healthz") is True
    assert settled(None, "GET", "/pods") is None
    assert settled(admin, "POST", "/exec/a/b/c") is True
    assert settled(proxy, "CONNECT", "127.64.0.2:80") is True
    assert settled(jane, "CONNECT", "127.64.0.2:80") is False
    assert settled(jane, "GET", "/metrics") is None


@pytest.mark.parametrize(
    ("path", "subresources"),
    [
        ("/metrics/cadvisor", ("metrics",)), ("/stats/summary", ("stats",)), ("/pods", ("pods", "proxy")), ("/logs/x", ("log",)),
        ("/exec/a/b/c", ("proxy",)), ("/containerLogs/a/b/c", ("proxy",)), ("/", ("proxy",)), ("/metricsx", ("proxy",)),
    ],
)  # fmt: skip
def test_a_path_stands_for_subresources_of_the_node(path: str, subresources: tuple[str, ...]) -> None:
    assert subresources_of(path) == subresources


def test_a_pipe_waits_when_full_and_breaks_when_nobody_reads() -> None:
    async def main() -> None:
        pipe = Pipe()
        await pipe.write(bytes(100_000))
        async with asyncio.TaskGroup() as tasks:
            job = tasks.create_task(pipe.write(b"more"))
            await asyncio.sleep(1)
            assert not job.done()
            assert len(await pipe.read()) == 100_000
            await job
        pipe.close_reader()
        with pytest.raises(BrokenStream):
            await pipe.write(b"x")

    run_virtual(main())
