"""The life of pods, told by the statuses that are reported, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.resources import CONFIGMAPS, Object
from kubecosm.services.kubelet.pods.worker import PodWorker
from tests.kubelet.lab import NODE, Lab, container, in_lab, make_pod, shell


def conditions(status: Object) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


def state(status: Object, name: str = "c") -> Object:
    return next(c for c in status["containerStatuses"] if c["name"] == name)["state"]


def test_a_server_becomes_ready_with_the_conditions_in_the_kubelets_order() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod())
        await lab.until_phase("Running")
        status = lab.status()
        kinds = [c["type"] for c in status["conditions"]]
        assert kinds == ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        assert set(conditions(status).values()) == {"True"}
        assert status["podIP"] == "127.127.250.2"
        assert status["hostIP"] == "127.31.250.1"
        first = lab.statuses.history["uid-web"][0]
        assert first["phase"] == "Pending"
        assert state(first) == {"waiting": {"reason": "ContainerCreating"}}
        assert lab.events.reasons() == ["Pulling", "Pulled", "Created", "Started"]

    in_lab(story)


def test_init_containers_run_one_after_the_other_before_the_others() -> None:
    async def story(lab: Lab) -> None:
        inits = [shell("sleep 5", "one"), shell("sleep 3", "two")]
        worker = lab.run(make_pod(shell("echo main; sleep 1000"), initContainers=inits))
        await lab.until_phase("Running")
        assert lab.clock.monotonic() == pytest.approx(8, abs=0.5)
        before = lab.statuses.history["uid-web"][-2]
        assert conditions(before)["Initialized"] == "False"
        assert state(before) == {"waiting": {"reason": "PodInitializing"}}
        assert [s["state"]["terminated"]["reason"] for s in lab.status()["initContainerStatuses"]] == ["Completed", "Completed"]
        assert lab.logs(worker) == "main\n"

    in_lab(story)


def test_a_failing_init_container_ends_a_pod_that_never_restarts() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(container(), initContainers=[shell("exit 4", "one")], restartPolicy="Never"))
        await lab.until_phase("Failed")
        assert lab.status()["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4

    in_lab(story)


def test_a_sidecar_starts_first_and_ends_after_the_main_container() -> None:
    async def story(lab: Lab) -> None:
        sidecar = container("proxy", restartPolicy="Always")
        lab.run(make_pod(shell("sleep 2; exit 0"), initContainers=[sidecar], restartPolicy="Never"))
        await lab.until_phase("Running")
        assert lab.status()["initContainerStatuses"][0]["started"] is True
        await lab.until_phase("Succeeded")
        assert "terminated" in lab.status()["initContainerStatuses"][0]["state"], "the pod is over when its sidecar has ended, no sooner"
        ended = [status for status in lab.statuses.history["uid-web"] if "terminated" in state(status)]
        assert ended[0]["phase"] == "Running"
        assert conditions(ended[0])["Ready"] == "False"

    in_lab(story)


def test_a_sidecar_runs_its_hook_at_once_but_stops_after_the_main_container() -> None:
    async def story(lab: Lab) -> None:
        hook = {"preStop": {"exec": {"command": ["sh", "-c", "exit 3"]}}}
        loop = "trap 'echo got term; exit 0' TERM; while true; do sleep 1; done"
        sidecars = [shell(loop, name, restartPolicy="Always", lifecycle=hook) for name in ("first", "second")]
        worker = lab.run(make_pod(container(annotations={}), initContainers=sidecars, annotations={"kubecosm.dev/drain-seconds.c": "5"}))
        await lab.until_phase("Running")
        lab.delete(worker)
        await lab.clock.sleep(1)
        assert lab.events.reasons().count("FailedPreStopHook") == 2
        assert lab.events.reasons().count("Killing") == 3
        await lab.until(lambda: lab.statuses.deleted)
        ends = {s["name"]: s["state"]["terminated"]["finishedAt"] for s in lab.status()["initContainerStatuses"]}
        assert ends["second"] <= ends["first"]
        assert ends["second"] >= state(lab.status())["terminated"]["finishedAt"]

    in_lab(story)


def test_a_sidecar_that_waits_in_vain_for_its_turn_gets_two_seconds() -> None:
    async def story(lab: Lab) -> None:
        sidecar = shell("trap '' TERM; while true; do sleep 1; done", "s", restartPolicy="Always")
        worker = lab.run(
            make_pod(
                container(), initContainers=[sidecar], annotations={"kubecosm.dev/ignore-sigterm": "true"}, terminationGracePeriodSeconds=6
            )
        )
        await lab.until_phase("Running")
        lab.delete(worker)
        await lab.until(lambda: lab.statuses.deleted)
        assert lab.clock.monotonic() == pytest.approx(8, abs=0.5)

    in_lab(story)


@pytest.mark.parametrize(
    ("script", "phase", "code"), [("exit 0", "Succeeded", 0), ("echo no; exit 3", "Failed", 3)], ids=["success", "failure"]
)
def test_a_pod_that_never_restarts_ends_as_its_command_does(script: str, phase: str, code: int) -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(shell(script), restartPolicy="Never"))
        await lab.until_phase(phase)
        assert state(lab.status())["terminated"]["exitCode"] == code
        assert conditions(lab.status())["Ready"] == "False"

    in_lab(story)


@pytest.mark.parametrize("policy", ["IfNotPresent", "Always"])
def test_crash_loops_back_off_by_ten_seconds_doubling_to_five_minutes(policy: str) -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(shell("exit 1", imagePullPolicy=policy)))
        starts: list[float] = []

        def restarted() -> bool:
            return bool(lab.statuses.history.get("uid-web")) and lab.status()["containerStatuses"][0]["restartCount"] >= len(starts)

        while len(starts) < 9:
            await lab.until(restarted)
            starts.append(lab.clock.monotonic())
        gaps = [round(after - before) for before, after in pairwise(starts)]
        assert gaps == [0, 10, 20, 40, 80, 160, 300, 300]
        await lab.until(lambda: "waiting" in state(lab.status()))
        assert state(lab.status())["waiting"]["reason"] == "CrashLoopBackOff"
        assert state(lab.status())["waiting"]["message"].startswith("back-off 5m0s restarting failed container=c pod=web_default(uid-web)")
        assert lab.status()["phase"] == "Running"
        assert ("Warning", "BackOff", "Back-off restarting failed container c in pod web_default(uid-web)") in lab.events.seen

    in_lab(story)


def test_on_failure_restarts_until_success() -> None:
    async def story(lab: Lab) -> None:
        marker = shell(
            "if [ -e /data/again ]; then exit 0; fi; touch /data/again; exit 1", volumeMounts=[{"name": "d", "mountPath": "/data"}]
        )
        lab.run(make_pod(marker, volumes=[{"name": "d", "emptyDir": {}}], restartPolicy="OnFailure"))
        await lab.until_phase("Succeeded")
        assert lab.status()["containerStatuses"][0]["restartCount"] == 1

    in_lab(story)


def test_deletion_gives_the_grace_period_and_then_removes_the_object() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(container(), annotations={"kubecosm.dev/ignore-sigterm": "true"}))
        await lab.until_phase("Running")
        lab.delete(worker)
        await lab.until(lambda: lab.statuses.deleted)
        assert lab.clock.monotonic() == pytest.approx(30, abs=0.5)
        assert state(lab.status())["terminated"]["exitCode"] == 137
        assert lab.status()["phase"] == "Failed"
        assert ("Normal", "Killing", "Stopping container c") in lab.events.seen

    in_lab(story)


def test_a_second_deletion_with_less_grace_takes_over() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(container(), annotations={"kubecosm.dev/ignore-sigterm": "true"}))
        await lab.until_phase("Running")
        lab.delete(worker)
        await lab.clock.sleep(2)
        lab.delete(worker, grace=1)
        await lab.until(lambda: lab.statuses.deleted)
        assert lab.clock.monotonic() == pytest.approx(4, abs=0.5), "two seconds are the least that a container gets"

    in_lab(story)


def test_pre_stop_runs_before_the_signal() -> None:
    async def story(lab: Lab) -> None:
        hook = {"preStop": {"exec": {"command": ["sh", "-c", "sleep 4; echo bye > /proc/1/fd/1"]}}}
        worker = lab.run(make_pod(shell("trap 'echo got term; exit 0' TERM; while true; do sleep 1; done", lifecycle=hook)))
        await lab.until_phase("Running")
        lab.delete(worker)
        await lab.until(lambda: lab.statuses.deleted)
        assert lab.clock.monotonic() == pytest.approx(4, abs=0.5)
        assert "got term" in lab.logs(worker)

    in_lab(story)


def test_the_active_deadline_fails_the_pod() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(shell("sleep 1000"), activeDeadlineSeconds=20))
        await lab.until_phase("Failed")
        assert lab.status()["reason"] == "DeadlineExceeded"
        assert lab.status()["message"] == "Pod was active on the node longer than the specified deadline"
        assert lab.clock.monotonic() == pytest.approx(20, abs=1.5)

    in_lab(story)


def test_a_missing_config_map_for_the_environment_is_told_and_waited_for() -> None:
    async def story(lab: Lab) -> None:
        reference = {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}
        worker = lab.run(make_pod(shell("echo $A; sleep 100", env=[reference])))
        await lab.until(
            lambda: "uid-web" in lab.statuses.history and state(lab.status())["waiting"]["reason"] == "CreateContainerConfigError"
        )
        assert state(lab.status())["waiting"]["message"] == 'configmap "settings" not found'
        lab.objects.put(CONFIGMAPS, {"metadata": {"namespace": "default", "name": "settings"}, "data": {"a": "here"}})
        worker.wake()
        await lab.until_phase("Running")
        assert ("Warning", "Failed", 'Error: configmap "settings" not found') in lab.events.seen

    in_lab(story)


def test_a_missing_config_map_for_a_volume_holds_the_pod_in_container_creating() -> None:
    async def story(lab: Lab) -> None:
        mounted = shell("cat /etc/conf/a; sleep 100", volumeMounts=[{"name": "v", "mountPath": "/etc/conf"}])
        worker = lab.run(make_pod(mounted, volumes=[{"name": "v", "configMap": {"name": "settings"}}]))
        await lab.clock.sleep(1)
        message = 'MountVolume.SetUp failed for volume "v" : configmap "settings" not found'
        assert ("Warning", "FailedMount", message) in lab.events.seen
        assert state(lab.status()) == {"waiting": {"reason": "ContainerCreating"}}
        lab.objects.put(CONFIGMAPS, {"metadata": {"namespace": "default", "name": "settings"}, "data": {"a": "content\n"}})
        await lab.until_phase("Running")
        await lab.clock.sleep(0.1)
        assert lab.logs(worker) == "content\n"

    in_lab(story)


def test_images_of_a_registry_that_cannot_exist_are_not_pulled() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(container(image="registry.invalid/thing:1")))
        await lab.until(lambda: "uid-web" in lab.statuses.history and state(lab.status())["waiting"]["reason"] == "ErrImagePull")
        await lab.until(lambda: state(lab.status())["waiting"]["reason"] == "ImagePullBackOff")
        assert state(lab.status())["waiting"]["message"].startswith('Back-off pulling image "registry.invalid/thing:1": ErrImagePull: ')
        assert lab.status()["phase"] == "Pending"

    in_lab(story)


def test_out_of_memory_shows_as_in_a_real_pod() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(container(), annotations={"kubecosm.dev/oom-seconds": "7"}, restartPolicy="Never"))
        await lab.until_phase("Failed")
        ended = state(lab.status())["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)

    in_lab(story)


def test_a_failing_liveness_probe_restarts_the_container() -> None:
    async def story(lab: Lab) -> None:
        probe = {"exec": {"command": ["cat", "/tmp/healthy"]}, "periodSeconds": 5, "failureThreshold": 3}
        script = "touch /tmp/healthy; sleep 30; rm /tmp/healthy; sleep 600"
        lab.run(make_pod(shell(script, livenessProbe=probe)))
        await lab.until(lambda: "uid-web" in lab.statuses.history and lab.status()["containerStatuses"][0]["restartCount"] == 1)
        assert lab.clock.monotonic() == pytest.approx(40, abs=5.5)
        assert ("Normal", "Killing", "Container c failed liveness probe, will be restarted") in lab.events.seen
        assert ("Warning", "Unhealthy", "Liveness probe failed: cat: /tmp/healthy: No such file or directory") in lab.events.seen

    in_lab(story)


def test_readiness_follows_its_probe_both_ways() -> None:
    async def story(lab: Lab) -> None:
        probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 2}
        lab.run(make_pod(shell("sleep 5; touch /tmp/ready; sleep 5; rm /tmp/ready; sleep 100", readinessProbe=probe)))
        await lab.until(lambda: "uid-web" in lab.statuses.history and conditions(lab.status())["Ready"] == "True")
        assert 5 <= lab.clock.monotonic() <= 6.5
        await lab.until(lambda: conditions(lab.status())["Ready"] == "False")
        assert 11 <= lab.clock.monotonic() <= 13
        ready = next(c for c in lab.status()["conditions"] if c["type"] == "Ready")
        assert (ready["reason"], ready["message"]) == ("ContainersNotReady", "containers with unready status: [c]")

    in_lab(story)


def test_other_probes_wait_for_the_startup_probe() -> None:
    async def story(lab: Lab) -> None:
        startup = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 2, "failureThreshold": 30}
        readiness = {"exec": {"command": ["true"]}, "periodSeconds": 1}
        lab.run(make_pod(shell("sleep 9; touch /tmp/up; sleep 100", startupProbe=startup, readinessProbe=readiness)))
        await lab.until_phase("Running")
        assert lab.status()["containerStatuses"][0]["started"] is False
        await lab.until(lambda: conditions(lab.status())["Ready"] == "True")
        assert 10 <= lab.clock.monotonic() <= 12
        assert lab.status()["containerStatuses"][0]["started"] is True

    in_lab(story)


def test_probes_of_programs_the_toolbox_lacks_succeed_on_simulated_images() -> None:
    async def story(lab: Lab) -> None:
        readiness = {"exec": {"command": ["/bin/bash", "-c", "/ready-probe.sh"]}, "initialDelaySeconds": 15}
        liveness = {"exec": {"command": ["/bin/bash", "-c", "nodetool status"]}, "initialDelaySeconds": 15}
        lab.run(make_pod(container(image="gcr.io/google-samples/cassandra:v14", readinessProbe=readiness, livenessProbe=liveness)))
        await lab.until(lambda: "uid-web" in lab.statuses.history and conditions(lab.status())["Ready"] == "True")
        assert lab.clock.monotonic() == pytest.approx(15, abs=0.5)

    in_lab(story)


def test_an_image_of_which_no_port_is_known_listens_where_its_probes_and_hooks_look() -> None:
    async def story(lab: Lab) -> None:
        health = {"httpGet": {"path": "/healthz", "port": 10254}, "initialDelaySeconds": 1}
        hooks = {"postStart": {"httpGet": {"port": 9999}}}
        ports = [{"containerPort": 8443, "name": "webhook"}]
        lab.run(make_pod(container(image="ingress-nginx/controller:v1", ports=ports, readinessProbe=health, lifecycle=hooks)))
        await lab.until(lambda: "uid-web" in lab.statuses.history and conditions(lab.status())["Ready"] == "True")
        assert lab.clock.monotonic() == pytest.approx(1, abs=0.5)
        assert "httpGet" not in str(lab.status())

    in_lab(story)


def test_agnhost_liveness_falls_ill_after_ten_seconds_and_is_restarted() -> None:
    async def story(lab: Lab) -> None:
        health = {"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 3, "periodSeconds": 3}
        lab.run(make_pod(container(image="registry.k8s.io/e2e-test-images/agnhost:2.40", args=["liveness"], livenessProbe=health)))
        await lab.until(lambda: "uid-web" in lab.statuses.history and lab.status()["containerStatuses"][0]["restartCount"] == 1)
        assert 16 <= lab.clock.monotonic() <= 60

    in_lab(story)


def test_an_image_whose_ports_are_known_listens_nowhere_else() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(container(image="nginx:1.25", readinessProbe={"tcpSocket": {"port": 10254}})))
        await lab.until_phase("Running")
        await lab.clock.sleep(60)
        assert conditions(lab.status())["Ready"] == "False"

    in_lab(story)


def test_a_restarted_kubelet_takes_running_pods_up_again() -> None:
    async def story(lab: Lab) -> None:
        script = "echo one; sleep 10; echo two; sleep 10; echo three; sleep 1000"
        worker = lab.run(make_pod(shell(script)))
        await lab.until_phase("Running")
        before = lab.status()
        await lab.clock.sleep(12)
        pod = {**worker.pod, "status": before}
        lab.runtime.set_listener(None)
        lab.runtime._pods.clear()
        lab.runtime._pools.clear()
        lab.runtime.set_listener(lab)
        again = type(worker)(lab.context, pod, worker.node)
        lab.workers[again.uid] = again
        await again.recover()
        await lab.clock.sleep(1)
        assert lab.logs(again) == "one\ntwo\n"
        await lab.clock.sleep(9)
        assert lab.logs(again) == "one\ntwo\nthree\n"
        assert lab.status()["containerStatuses"] == before["containerStatuses"]
        assert lab.status()["podIP"] == before["podIP"]

    in_lab(story)


def test_logs_of_ended_containers_outlive_the_kubelet_and_go_with_the_pod(tmp_path: Path) -> None:
    ended: list[Object] = []

    def kept() -> list[Path]:
        return list(tmp_path.rglob("0.log"))

    async def before(lab: Lab) -> None:
        worker = lab.run(make_pod(shell("echo out; echo err >&2; printf tail"), restartPolicy="Never"))
        await lab.until_phase("Succeeded")
        ended.append({**worker.pod, "status": lab.status()})

    async def after(lab: Lab) -> None:
        worker = lab.workers["uid-web"] = PodWorker(lab.context, ended[0], NODE)
        await worker.recover()
        assert worker.is_finished
        assert lab.logs(worker) == "out\nerr\ntail"
        assert kept()
        await lab.runtime.remove_pod("uid-web")
        assert not kept()

    in_lab(before, str(tmp_path))
    in_lab(after, str(tmp_path))


def told_by_others(worker: PodWorker, **changes: Any) -> None:
    """Somebody else writes the pod's status."""
    pod = worker.pod
    worker.update({**pod, "status": {**(worker._last_status or {}), **changes}})


def test_a_pod_that_was_taken_for_dead_with_its_node_says_that_it_is_ready() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod())
        await lab.until_phase("Running")
        told = len(lab.statuses.history["uid-web"])
        conditions_now = lab.status()["conditions"]
        told_by_others(worker, conditions=conditions_now)
        assert len(lab.statuses.history["uid-web"]) == told, "nobody disputes anything"
        unready = [{**one, "status": "False"} if one["type"] == "Ready" else one for one in conditions_now]
        told_by_others(worker, conditions=unready)
        assert len(lab.statuses.history["uid-web"]) == told + 1
        assert conditions(lab.status())["Ready"] == "True"

    in_lab(story)


def test_a_pod_that_somebody_declared_to_have_failed_ends() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(shell("trap 'exit 0' TERM; while true; do sleep 1; done")))
        await lab.until_phase("Running")
        told_by_others(worker, phase="Failed", reason="BecauseISaySo")
        await lab.until(lambda: worker.is_finished)
        status = lab.status()
        assert (status["phase"], status["reason"]) == ("Failed", "BecauseISaySo")
        assert "terminated" in state(status)

    in_lab(story)


@pytest.mark.parametrize(
    ("image", "reason"),
    [("busybox:1.36", "CrashLoopBackOff"), ("registry.invalid/thing:1", "ImagePullBackOff")],
    ids=["crashes", "no image"],
)
def test_another_image_is_tried_at_once_whatever_the_old_one_waits_for(image: str, reason: str) -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(container(image=image, command=["sh", "-c", "exit 1"])))
        history = lab.statuses.history
        await lab.until(lambda: "uid-web" in history and (state(lab.status()).get("waiting") or {}).get("reason") == reason)
        pod, since = worker.pod, lab.clock.monotonic()
        mended = [container(image="nginx:1.25")]
        worker.update({**pod, "metadata": {**pod["metadata"], "generation": 2}, "spec": {**pod["spec"], "containers": mended}})
        await lab.until_phase("Running")
        await lab.until(lambda: "running" in state(lab.status()))
        assert lab.clock.monotonic() - since < 2

    in_lab(story)
