"""What the pod API promises to a container: its command, its files, its names, its last words."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import CONFIGMAPS, Object
from tests.kubelet.lab import ALLOCATABLE, Lab, container, in_lab, make_pod, shell

META = {"namespace": "default", "name": "cm"}


def ran(pod: Object, objects: tuple[Object, ...] = ()) -> tuple[str, Object]:
    """(log of container c, status) once the pod is over."""
    found: list[Any] = []

    async def story(lab: Lab) -> None:
        for obj in objects:
            lab.objects.put(CONFIGMAPS, obj)
        worker = lab.run(pod)
        await lab.until(lambda: worker.is_finished)
        found.extend((lab.logs(worker), lab.status()))

    in_lab(story)
    return found[0], found[1]


def test_variables_are_put_into_command_and_arguments() -> None:
    env = [{"name": "WHO", "value": "world"}, {"name": "TEXT", "value": "hello $(WHO)"}]
    spec = container(image="busybox", command=["sh", "-c"], args=["echo '$(TEXT)' '$(NOBODY)' '$$(WHO)'"], env=env)
    assert ran(make_pod(spec, restartPolicy="Never"))[0] == "hello world $(NOBODY) $(WHO)\n"


def test_the_end_of_the_log_is_the_message_of_a_failure_that_leaves_none() -> None:
    spec = shell("echo first; printf DONE; exit 1", terminationMessagePolicy="FallbackToLogsOnError")
    _, status = ran(make_pod(spec, restartPolicy="Never"))
    assert status["containerStatuses"][0]["state"]["terminated"]["message"] == "first\nDONE"


def test_a_mount_shows_the_part_of_its_volume_that_variables_name() -> None:
    mounts = [{"name": "work", "mountPath": "/mine", "subPathExpr": "$(NAME)/logs"}, {"name": "work", "mountPath": "/all"}]
    env = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    spec = shell("echo hello > /mine/x; cat /all/web/logs/x", volumeMounts=mounts, env=env)
    assert ran(make_pod(spec, restartPolicy="Never", volumes=[{"name": "work", "emptyDir": {}}]))[0] == "hello\n"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("/tmp", "error SubPath `/tmp` must not be an absolute path"),
        ("..", "unable to provision SubPath `..`: must not contain '..'"),
        (None, 'missing value for "NAME"'),
    ],
)
def test_a_path_that_leads_out_of_its_volume_holds_the_container_back(value: str | None, why: str) -> None:
    async def story(lab: Lab) -> None:
        env = [] if value is None else [{"name": "NAME", "value": value}]
        spec = shell("true", volumeMounts=[{"name": "work", "mountPath": "/mine", "subPathExpr": "$(NAME)"}], env=env)
        lab.run(make_pod(spec, volumes=[{"name": "work", "emptyDir": {}}]))
        await lab.clock.sleep(2)
        waiting = lab.status()["containerStatuses"][0]["state"]["waiting"]
        assert waiting == {"reason": "CreateContainerConfigError", "message": why}
        assert ("Warning", "Failed", f"Error: {why}") in lab.events.seen

    in_lab(story)


def test_files_have_the_permissions_of_their_item_source_or_volume() -> None:
    cm = {"metadata": META, "data": {"a": "1", "b": "2"}}
    items = [{"key": "a", "path": "a", "mode": 0o600}, {"key": "b", "path": "b"}]
    volumes = [
        {"name": "one", "configMap": {"name": "cm", "defaultMode": 0o400, "items": items}},
        {"name": "two", "projected": {"defaultMode": 0o440, "sources": [{"configMap": {"name": "cm"}}]}},
        {"name": "three", "configMap": {"name": "cm"}},
    ]  # fmt: skip
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    spec = shell("stat -c '%a %n' /one/a /one/b /two/a /three/a", volumeMounts=mounts)
    log = ran(make_pod(spec, restartPolicy="Never", volumes=volumes), (cm,))[0]
    assert log.splitlines() == ["600 /one/a", "400 /one/b", "440 /two/a", "644 /three/a"]


def test_a_volume_waits_for_the_keys_that_it_names() -> None:
    async def story(lab: Lab) -> None:
        lab.objects.put(CONFIGMAPS, {"metadata": META, "data": {"a": "1"}})
        volume = {"name": "v", "configMap": {"name": "cm", "items": [{"key": "late", "path": "x"}]}}
        lab.run(make_pod(shell("cat /v/x; sleep 1000", volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[volume]))
        await lab.clock.sleep(1)
        assert lab.status()["phase"] == "Pending"
        message = 'MountVolume.SetUp failed for volume "v" : references non-existent config key: late'
        assert ("Warning", "FailedMount", message) in lab.events.seen
        lab.objects.put(CONFIGMAPS, {"metadata": META, "data": {"late": "1"}})
        await lab.until_phase("Running")

    in_lab(story)


def test_limits_that_are_not_set_are_those_of_the_node() -> None:
    names = {"CPU": "limits.cpu", "MEMORY": "limits.memory"}
    env = [{"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}} for name, resource in names.items()]
    assert ALLOCATABLE == {"cpu": "4", "memory": "16Gi"}
    assert ran(make_pod(shell("echo $CPU $MEMORY", env=env), restartPolicy="Never"))[0] == f"4 {16 * 2**30}\n"


def test_labels_in_a_volume_follow_the_pod() -> None:
    async def story(lab: Lab) -> None:
        items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
        mounts = [{"name": "info", "mountPath": "/info"}]
        spec = shell("cat /info/labels; echo; sleep 10; cat /info/labels; echo", volumeMounts=mounts)
        pod = make_pod(spec, restartPolicy="Never", volumes=[{"name": "info", "downwardAPI": {"items": items}}])
        pod["metadata"]["labels"] = {"a": "1"}
        worker = lab.run(pod)
        await lab.clock.sleep(2)
        worker.update({**pod, "metadata": {**pod["metadata"], "labels": {"a": "2"}}})
        await lab.until(lambda: worker.is_finished)
        assert lab.logs(worker) == 'a="1"\na="2"\n'

    in_lab(story)


def test_dns_policy_none_takes_names_and_servers_from_the_pod_alone() -> None:
    options = [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
    config = {"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"], "options": options}
    log = ran(make_pod(shell("cat /etc/resolv.conf"), restartPolicy="Never", dnsPolicy="None", dnsConfig=config))[0]
    assert log.splitlines() == ["search resolv.conf.local", "nameserver 1.1.1.1", "options ndots:2 edns0"]
    log = ran(make_pod(shell("cat /etc/resolv.conf"), restartPolicy="Never", dnsConfig=config))[0]
    assert log.splitlines()[1:] == ["nameserver 127.31.250.53", "nameserver 1.1.1.1", "options ndots:2 edns0"]


def test_an_active_deadline_may_be_brought_forward() -> None:
    async def story(lab: Lab) -> None:
        pod = make_pod(shell("sleep 100000"), activeDeadlineSeconds=50_000)
        worker = lab.run(pod)
        await lab.until_phase("Running")
        worker.update({**pod, "metadata": {**pod["metadata"], "generation": 2}, "spec": {**pod["spec"], "activeDeadlineSeconds": 5}})
        await lab.until_phase("Failed")
        assert lab.clock.monotonic() < 1000

    in_lab(story)


def test_a_token_is_renewed_before_it_expires() -> None:
    async def story(lab: Lab) -> None:
        asked: list[float] = []

        async def token(pod: Object, projection: Object) -> str:
            asked.append(lab.clock.monotonic())
            return f"token-{len(asked)}"

        volumes = lab.context.resources.volumes
        volumes._token = token  # the API's part
        wanted: list[Object] = [{"path": "a", "expirationSeconds": 600}, {"path": "b", "audience": "x"}]
        sources = [{"serviceAccountToken": projection} for projection in wanted]
        pod = make_pod(volumes=[{"name": "t", "projected": {"sources": sources}}])
        await volumes.volumes(pod, "127.0.0.1", "127.0.0.2")
        await volumes.volumes(pod, "127.0.0.1", "127.0.0.2")
        assert len(asked) == 2  # one for each path
        await lab.clock.sleep(500)
        shown = (await volumes.volumes(pod, "127.0.0.1", "127.0.0.2"))["t"]
        assert {name: file.data for name, file in shown.entries.items()} == {"a": b"token-3", "b": b"token-2"}  # type: ignore[union-attr]

    in_lab(story)


def test_a_container_with_a_rule_is_restarted_in_a_pod_that_restarts_nothing() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    script = "if [ -e /state/seen ]; then exit 0; fi; touch /state/seen; exit 42"
    mounts = [{"name": "work", "mountPath": "/state"}]
    spec = shell(script, restartPolicy="Never", restartPolicyRules=rules, volumeMounts=mounts)
    _, status = ran(make_pod(spec, restartPolicy="Never", volumes=[{"name": "work", "emptyDir": {}}]))
    assert (status["phase"], status["containerStatuses"][0]["restartCount"]) == ("Succeeded", 1)


def test_a_container_may_stay_down_in_a_pod_that_restarts_all() -> None:
    _, status = ran(make_pod(shell("exit 3", restartPolicy="Never")))
    assert (status["phase"], status["containerStatuses"][0]["restartCount"]) == ("Failed", 0)


def test_a_container_that_must_not_be_root_is_not_started_as_root() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(shell("true", securityContext={"runAsUser": 0}), securityContext={"runAsNonRoot": True}))
        await lab.clock.sleep(2)
        waiting = lab.status()["containerStatuses"][0]["state"]["waiting"]
        why = 'container\'s runAsUser breaks non-root policy (pod: "web_default(uid-web)", container: c)'
        assert waiting == {"reason": "CreateContainerConfigError", "message": why}

    in_lab(story)


def test_a_running_container_keeps_the_variables_it_was_started_with() -> None:
    async def story(lab: Lab) -> None:
        lab.objects.put(CONFIGMAPS, {"metadata": META, "data": {"a": "old"}})
        env = [{"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['l']"}}}]
        pod = make_pod(shell("sleep 1000", env=env, envFrom=[{"configMapRef": {"name": "cm"}}]))
        pod["metadata"]["labels"] = {"l": "old"}
        worker = lab.run(pod)
        await lab.until_phase("Running")
        lab.objects.put(CONFIGMAPS, {"metadata": META, "data": {"a": "new"}})
        late = {"name": "late", "creationTimestamp": "2999-01-01T00:00:00Z"}
        lab.objects.service_list.append({"metadata": late, "spec": {"clusterIP": "1.2.3.4", "ports": [{"port": 1}]}})
        worker.update({**pod, "metadata": {**pod["metadata"], "labels": {"l": "new"}}})
        status = lab.runtime.pod_status(worker.uid)
        assert status is not None
        container_of = lab.runtime._get(status.containers["c"].container_id)
        variables = await container_of.config.environment()
        assert (variables["a"], variables["LABEL"], variables.get("LATE_SERVICE_HOST")) == ("old", "old", None)

    in_lab(story)


def test_a_server_ends_by_itself_within_a_short_grace_period_and_who_ignores_the_signal_is_killed() -> None:
    async def story(lab: Lab) -> None:
        deaf = shell("trap '' TERM; while true; do sleep 1; done", "deaf")
        worker = lab.run(make_pod(container(ports=[{"containerPort": 18080}]), deaf, terminationGracePeriodSeconds=2))
        await lab.until_phase("Running")
        await lab.clock.sleep(1)
        lab.delete(worker)
        await lab.until(lambda: lab.statuses.deleted)
        codes = {s["name"]: s["state"]["terminated"]["exitCode"] for s in lab.status()["containerStatuses"]}
        assert codes == {"c": 0, "deaf": 137}

    in_lab(story)


def test_a_container_whose_exit_restarts_all_takes_the_pod_back_to_its_first_init_container() -> None:
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]
    mounts = [{"name": "v", "mountPath": "/v"}]
    init = shell("echo init >> /v/log", name="prepare", volumeMounts=mounts)
    script = "echo main >> /v/log; if [ $(wc -l < /v/log) -lt 5 ]; then sleep 5; exit 42; fi; sleep 1000"
    main = shell(script, restartPolicy="Never", restartPolicyRules=rules, volumeMounts=mounts)
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /v/log"]}}}
    other = shell("sleep 1000", name="other", lifecycle=hook, volumeMounts=mounts)

    async def story(lab: Lab) -> None:
        volumes = [{"name": "v", "emptyDir": {}}]
        worker = lab.run(make_pod(main, other, initContainers=[init], volumes=volumes, restartPolicy="Never"))
        await lab.until_phase("Running")
        address = lab.status()["podIP"]
        first = len(lab.statuses.history["uid-web"])

        def restarts() -> list[int]:
            status = lab.status()
            return [one["restartCount"] for key in ("initContainerStatuses", "containerStatuses") for one in status[key]]

        await lab.until(lambda: restarts() == [2, 2, 2] and lab.status()["containerStatuses"][0]["ready"])
        log = (await lab.context.resources.volumes.volumes(worker.pod, "", ""))["v"].entries["log"].data
        assert log.decode().split() == ["init", "main"] * 3, "hooks are not run, and files stay"
        since = lab.statuses.history["uid-web"][first:]
        assert {status["phase"] for status in since} == {"Running"}
        assert lab.status()["podIP"] == address
        told = [[one["status"] for one in status["conditions"] if one["type"] == "AllContainersRestarting"] for status in since]
        assert ["True"] in told
        assert told[-1] == ["False"]
        during = since[told.index(["True"])]["conditions"]
        (condition,) = (one for one in during if one["type"] == "AllContainersRestarting")
        assert (condition["reason"], condition["message"]) == ("RestartAllContainersStarted", "container exited with restart policy rule")

    in_lab(story)
