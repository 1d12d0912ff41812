"""The events of pods, and what waits in their statuses, have the kubelet's reasons and words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubecosm.services.kubelet.cri.types import ContainerState, ContainerStatus, PodStatus
from kubecosm.services.kubelet.pods.actions import ProbeResults, compute_actions
from kubecosm.services.kubelet.pods.resize import told_resources
from kubecosm.services.kubelet.pods.termination import grace_of
from kubecosm.services.kubelet.probes.checks import CheckResult, Target, check_http
from kubecosm.services.kubelet.sim.machine import resolv_conf, search_domains
from kubecosm.testing.virtualtime import EPOCH

from .lab import Lab, container, in_lab, make_pod, shell
from .served import Served

FAILING = {"exec": {"command": ["sh", "-c", "echo secret; exit 3"]}}


def test_a_post_start_hook_that_fails_is_told_without_its_output_but_by_the_containers_state() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(shell("sleep 1000", lifecycle={"postStart": FAILING})))
        history = lab.statuses.history

        def waits() -> list[Any]:
            return [status["containerStatuses"][0]["state"].get("waiting") or {} for status in history.get("uid-web", [])]

        await lab.until(lambda: any(one.get("reason") == "CrashLoopBackOff" for one in waits()))
        (told, *_) = (one["message"] for one in waits() if one.get("reason") == "PostStartHookError")
        assert told.startswith(
            'Exec lifecycle hook ([sh -c echo secret; exit 3]) for Container "c" in Pod "web_default(uid-web)" failed - error: '
        )
        assert ("Warning", "FailedPostStartHook", "PostStartHook failed") in lab.events.seen
        assert ("Normal", "Killing", "FailedPostStartHook") in lab.events.seen
        assert not any("secret" in message for _, _, message in lab.events.seen)

    in_lab(story)


def test_a_container_that_fails_its_liveness_probe_runs_its_pre_stop_hook() -> None:
    async def story(lab: Lab) -> None:
        probe = {"exec": {"command": ["sh", "-c", "exit 1"]}, "periodSeconds": 1, "failureThreshold": 1}
        loop = "trap 'exit 0' TERM; while true; do sleep 1; done"
        lab.run(make_pod(shell(loop, livenessProbe=probe, lifecycle={"preStop": FAILING})))
        await lab.until(lambda: lab.events.reasons().count("Started") == 2)
        assert ("Normal", "Killing", "Container c failed liveness probe, will be restarted") in lab.events.seen
        assert ("Warning", "FailedPreStopHook", "PreStopHook failed") in lab.events.seen

    in_lab(story)


def test_the_probe_that_failed_may_say_how_long_its_container_has() -> None:
    spec = container(livenessProbe={"terminationGracePeriodSeconds": 5}, startupProbe={})
    pod = make_pod(spec, terminationGracePeriodSeconds=40)
    assert [grace_of(pod, spec, reason) for reason in ("livenessProbe", "startupProbe", "")] == [5, 40, 40]
    status = ContainerStatus("sim://1", "c", "nginx:1.25", "", state=ContainerState.RUNNING, created_at=EPOCH)
    runs = PodStatus("u", sandbox_id="s", containers={"c": status})
    (kill,) = compute_actions(make_pod(spec), runs, ProbeResults(startup={"sim://1": False})).kill
    assert (kill.reason, kill.message) == ("startupProbe", "Container c failed startup probe, will be restarted")


def test_a_probe_that_cannot_be_made_counts_for_nothing_but_is_told() -> None:
    async def story(lab: Lab) -> None:
        probe = {"httpGet": {"port": "nowhere"}, "periodSeconds": 1, "failureThreshold": 1}
        lab.run(make_pod(container(livenessProbe=probe)))
        await lab.until_phase("Running")
        await lab.clock.sleep(10)
        message = 'Liveness probe errored and resulted in unknown state: couldn\'t find port: "nowhere"'
        assert ("Warning", "Unhealthy", message) in lab.events.seen
        assert lab.status()["containerStatuses"][0]["restartCount"] == 0

    in_lab(story)


async def probe(*answers: bytes, path: str = "/") -> tuple[CheckResult, list[str]]:
    """The verdict on a server that gives these answers one after the other, and the paths that were asked for."""
    left, asked = list(answers), list[str]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        writer.write(left.pop(0))
        writer.close()

    server = Served()
    await server.start(serve)
    try:
        return await check_http(Target("127.0.0.1", server.port), {"path": path}, 5.0), asked
    finally:
        await server.end()


def answer(code: int, location: str = "") -> bytes:
    where = f"Location: {location}\r\n" if location else ""
    return f"HTTP/1.1 {code} X\r\n{where}Content-Length: 0\r\n\r\n".encode()


def test_a_probe_follows_redirects_to_the_same_host_only() -> None:
    async def main() -> None:
        result, asked = await probe(answer(302, "/login?a=b"), answer(200), path="/start")
        assert (result.success, asked) == (True, ["/start", "/login?a=b"])
        result, _ = await probe(answer(302, "/login"), answer(500))
        assert result == CheckResult(False, "HTTP probe failed with statuscode: 500")
        result, asked = await probe(answer(301, "http://elsewhere.example/"))
        assert (result.success, result.is_warning, len(asked)) == (True, True, 1)
        result, asked = await probe(*[answer(302, "/again")] * 10)
        assert not result.success
        assert "stopped after 10 redirects" in result.message

    asyncio.run(main())


def test_a_pod_whose_pull_secrets_are_missing_runs_but_says_so() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(imagePullSecrets=[{"name": "one"}, {"name": "two"}]))
        await lab.until_phase("Running")
        message = "Unable to retrieve some image pull secrets (one, two); attempting to pull the image may not succeed."
        assert ("Warning", "FailedToRetrieveImagePullSecret", message) in lab.events.seen

    in_lab(story)


def test_a_resize_is_told_with_what_containers_are_to_have() -> None:
    resources = {"requests": {"memory": "1Gi", "cpu": "1"}, "limits": {"cpu": "2"}}
    pod = make_pod(container(resources=resources), initContainers=[container("side", restartPolicy="Always"), container("once")])
    assert told_resources(pod, "no room") == (
        '{"initContainers":[{"name":"side","resources":{}}],"containers":[{"name":"c","resources":'
        '{"limits":{"cpu":"2"},"requests":{"cpu":"1","memory":"1Gi"}}}],"generation":1,"error":"no room"}'
    )


def test_a_granted_resize_starts_and_completes() -> None:
    async def story(lab: Lab) -> None:
        pod = make_pod(container(resources={"requests": {"cpu": "1"}}))
        worker = lab.run(pod)
        await lab.until_phase("Running")
        more = [container(resources={"requests": {"cpu": "2"}})]
        worker.update({**pod, "metadata": {**pod["metadata"], "generation": 2}, "spec": {**pod["spec"], "containers": more}})
        await lab.until(lambda: "ResizeCompleted" in lab.events.reasons())
        told = '{"containers":[{"name":"c","resources":{"requests":{"cpu":"2"}}}],"generation":2}'
        assert lab.events.seen[-2:] == [
            ("Normal", "ResizeStarted", f"Pod resize started: {told}"), ("Normal", "ResizeCompleted", f"Pod resize completed: {told}"),
        ]  # fmt: skip

    in_lab(story)


@pytest.mark.parametrize(
    ("policy", "has_own_address", "is_clusters"),
    [("ClusterFirst", True, True), ("ClusterFirst", False, False), ("ClusterFirstWithHostNet", False, True), ("Default", True, False)],
)
def test_a_pod_on_the_nodes_network_asks_the_cluster_only_if_it_says_so(policy: str, has_own_address: bool, is_clusters: bool) -> None:
    pod = make_pod(dnsPolicy=policy, **({} if has_own_address else {"hostNetwork": True}))
    domains = search_domains(pod, "cluster.local")
    assert bool(domains) is is_clusters
    assert (b"10.96.0.10" in resolv_conf(pod, domains, "10.96.0.10")) is is_clusters
