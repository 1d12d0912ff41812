"""Statuses and actions as pure functions: golden pairs of what runs and what is reported or done."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.kubelet.cri.types import ContainerState, ContainerStatus, PodStatus
from kubecosm.services.kubelet.pods.actions import ProbeResults, compute_actions
from kubecosm.services.kubelet.pods.admission import NodeBudget, Refused, amounts, pod_requests, refusal_of
from kubecosm.services.kubelet.pods.backoff import Backoff, format_delay
from kubecosm.services.kubelet.pods.container_status import Observation, Waiting
from kubecosm.services.kubelet.pods.images import pull_policy
from kubecosm.services.kubelet.pods.sharing import Sharer
from kubecosm.services.kubelet.pods.spec import qos_class, should_restart
from kubecosm.services.kubelet.pods.status import Verdict, compute_status, status_patch

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
THEN = NOW - timedelta(seconds=60)


def pod(*names: str, **spec: object) -> Object:
    containers = [{"name": name, "image": "nginx"} for name in names or ("c",)]
    return {"metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 3}, "spec": {"containers": containers, **spec}}


def ran(name: str = "c", code: int | None = None, restarts: int = 0) -> ContainerStatus:
    """A container that runs, or has ended with a code."""
    state = ContainerState.RUNNING if code is None else ContainerState.EXITED
    finished, reason = (None, "") if code is None else (NOW, "Error" if code else "Completed")
    return ContainerStatus(
        f"sim://{name}{restarts}", name, "nginx", "nginx@1", state, THEN, restarts, THEN, finished, code or 0, reason, sandbox_attempt=1
    )


def seen(*statuses: ContainerStatus, sandbox: bool = True, **fields: object) -> Observation:
    runtime = PodStatus("u", "box" if sandbox else "", 1, "127.64.0.2" if sandbox else "", {status.name: status for status in statuses})
    return Observation(runtime, node_ip="127.16.0.1", **fields)  # type: ignore[arg-type]


def phase(obj: Object, observation: Observation, **options: object) -> str:
    return str(compute_status(obj, observation, NOW, **options)["phase"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "observation", "expected"),
    [
        ("Always", seen(), "Pending"),
        ("Always", seen(ran()), "Running"),
        ("Always", seen(ran(code=1)), "Running"),
        ("Never", seen(ran(code=0)), "Succeeded"),
        ("Never", seen(ran(code=1)), "Failed"),
        ("OnFailure", seen(ran(code=1)), "Running"),
        ("OnFailure", seen(ran(code=0)), "Succeeded"),
    ],
    ids=["nothing runs", "runs", "restarts for ever", "succeeded", "failed", "will be tried again", "needs no other try"],
)
def test_the_phase_follows_from_containers_and_policy(policy: str, observation: Observation, expected: str) -> None:
    assert phase(pod(restartPolicy=policy), observation) == expected


def test_a_terminating_pod_ends_in_a_terminal_phase_whatever_its_policy() -> None:
    assert phase(pod(), seen(ran(code=0)), terminating=True) == "Succeeded"
    assert phase(pod(), seen(ran(code=137)), terminating=True) == "Failed"
    assert phase(pod(), seen(sandbox=False), terminating=True) == "Failed"


def test_one_running_container_of_two_keeps_the_pod_running() -> None:
    assert phase(pod("a", "b", restartPolicy="Never"), seen(ran("a"), ran("b", code=0))) == "Running"
    assert phase(pod("a", "b", restartPolicy="Never"), seen(ran("a", code=1), ran("b", code=0))) == "Failed"


def test_a_verdict_fixes_phase_and_reason() -> None:
    status = compute_status(pod(), seen(ran()), NOW, verdict=Verdict("Evicted", "The node was low on resource: memory."))
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "The node was low on resource: memory.")


def test_a_crash_loop_shows_waiting_with_the_last_state_behind_it() -> None:
    observation = seen(ran(code=1, restarts=4), waiting={"c": Waiting("CrashLoopBackOff", "back-off 40s")})
    status = compute_status(pod(), observation, NOW)["containerStatuses"][0]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert (status["restartCount"], status["ready"], status["started"]) == (4, False, False)


def test_conditions_keep_their_transition_time_until_they_change_and_others_conditions_stay() -> None:
    base = pod()
    first = compute_status(base, seen(ran()), THEN)
    foreign = {"type": "example.com/gate", "status": "True"}
    base["status"] = {**first, "conditions": [*first["conditions"], foreign]}
    again = compute_status(base, seen(ran()), NOW)
    assert again["conditions"][-1] == foreign
    assert again["conditions"][:-1] == first["conditions"]
    unready = compute_status({**base, "status": again}, seen(ran(code=1)), NOW)
    ready = next(c for c in unready["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["lastTransitionTime"], ready["reason"]) == ("False", "2026-01-02T03:04:05Z", "ContainersNotReady")


def test_readiness_gates_are_judged_by_the_conditions_of_others() -> None:
    gated = pod(readinessGates=[{"conditionType": "example.com/gate"}])
    ready = next(c for c in compute_status(gated, seen(ran()), NOW)["conditions"] if c["type"] == "Ready")
    assert ready["message"] == 'corresponding condition of pod readiness gate "example.com/gate" does not exist.'
    gated["status"] = {"conditions": [{"type": "example.com/gate", "status": "True"}]}
    ready = next(c for c in compute_status(gated, seen(ran()), NOW)["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True"


def test_readiness_needs_the_probes_word() -> None:
    probed = pod()
    probed["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 80}}
    assert compute_status(probed, seen(ran()), NOW)["containerStatuses"][0]["ready"] is False
    yes = seen(ran(), probes=ProbeResults(readiness={"sim://c0": True}))
    assert compute_status(probed, yes, NOW)["containerStatuses"][0]["ready"] is True


def test_a_patch_holds_what_changed_only() -> None:
    old = compute_status(pod(), seen(ran()), NOW)
    assert status_patch(old, old) is None
    new = compute_status({**pod(), "status": old}, seen(ran(code=0)), NOW, terminating=True)
    patch = status_patch(old, new)
    assert patch is not None
    assert set(patch) == {"phase", "conditions", "$setElementOrder/conditions", "containerStatuses"}
    assert {c["type"] for c in patch["conditions"]} == {"Initialized", "Ready", "ContainersReady"}


def test_a_changed_address_replaces_the_old_one_by_name() -> None:
    patch = status_patch(
        {"podIP": "127.64.0.2", "podIPs": [{"ip": "127.64.0.2"}]}, {"podIP": "127.64.0.3", "podIPs": [{"ip": "127.64.0.3"}]}
    )
    assert patch == {"podIP": "127.64.0.3", "podIPs": [{"ip": "127.64.0.3"}, {"$patch": "delete", "ip": "127.64.0.2"}]}


def starts(obj: Object, *statuses: ContainerStatus, probes: ProbeResults | None = None, sandbox: bool = True) -> list[str]:
    runtime = PodStatus("u", "box" if sandbox else "", 1, "ip", {status.name: status for status in statuses})
    return [start.spec["name"] for start in compute_actions(obj, runtime, probes or ProbeResults()).start]


def test_actions_start_what_is_missing_and_restart_what_the_policy_says() -> None:
    assert starts(pod("a", "b"), sandbox=False) == ["a", "b"]
    assert starts(pod("a", "b"), ran("a")) == ["b"]
    assert starts(pod("a", "b"), ran("a"), ran("b", code=0)) == ["b"]
    assert starts(pod("a", "b", restartPolicy="OnFailure"), ran("a"), ran("b", code=0)) == []
    assert starts(pod("a", "b", restartPolicy="Never"), ran("a"), ran("b", code=3)) == []


def test_sidecars_start_in_order_and_are_restarted_while_the_pod_lives() -> None:
    sidecars = [{"name": "s1", "image": "x", "restartPolicy": "Always"}, {"name": "s2", "image": "x", "restartPolicy": "Always"}]
    obj = pod("a", initContainers=sidecars)
    assert starts(obj, sandbox=False) == ["s1"]
    assert starts(obj, ran("s1")) == ["s2"]
    assert starts(obj, ran("s1"), ran("s2")) == ["a"]
    assert starts(obj, ran("s1", code=1), ran("s2"), ran("a")) == ["s1"]
    sidecars[0]["startupProbe"] = {"httpGet": {"port": 1}}
    assert starts(obj, ran("s1")) == []
    assert starts(obj, ran("s1"), probes=ProbeResults(startup={"sim://s10": True})) == ["s2"]


def test_a_failed_liveness_probe_kills_and_restarts() -> None:
    runtime = PodStatus("u", "box", 1, "ip", {"c": ran()})
    actions = compute_actions(pod(), runtime, ProbeResults(liveness={"sim://c0": False}))
    assert [(kill.status.name, kill.message) for kill in actions.kill] == [("c", "Container c failed liveness probe, will be restarted")]
    assert [start.spec["name"] for start in actions.start] == ["c"]


def test_a_changed_image_restarts_the_container() -> None:
    changed = pod()
    changed["spec"]["containers"][0]["image"] = "nginx:2"
    actions = compute_actions(changed, PodStatus("u", "box", 1, "ip", {"c": ran()}))
    assert actions.kill[0].message == "Container c definition changed, will be restarted"


def test_the_pod_is_killed_when_nothing_is_left_to_run() -> None:
    assert compute_actions(pod(restartPolicy="Never"), PodStatus("u", "box", 1, "ip", {"c": ran(code=0)})).kill_pod


def test_container_restart_rules_go_before_the_pods_policy() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    spec = {"name": "c", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    assert should_restart(pod(), spec, 42)
    assert not should_restart(pod(), spec, 1)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_the_qos_class_follows_requests_and_limits(resources: Object, expected: str) -> None:
    obj = pod()
    obj["spec"]["containers"][0]["resources"] = resources
    assert qos_class(obj) == expected


def test_back_off_is_forgotten_after_ten_quiet_minutes() -> None:
    backoff = Backoff()
    for _ in range(3):
        backoff.next("uid", "c", NOW)
    assert backoff.delay("uid", "c") == 40
    assert backoff.remaining("uid", "c", NOW, NOW + timedelta(seconds=15)) == 25
    later = NOW + timedelta(minutes=10, seconds=1)
    assert backoff.remaining("uid", "c", later, later) == 0
    backoff.next("uid", "c", later)
    assert backoff.delay("uid", "c") == 10
    backoff.forget("uid")
    assert backoff.delay("uid", "c") == 0


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (0.085, "85ms"), (10, "10s"), (1.5, "1.5s"), (80, "1m20s"), (300, "5m0s")])
def test_delays_are_written_as_go_writes_durations(seconds: float, text: str) -> None:
    assert format_delay(seconds) == text


@pytest.mark.parametrize(
    ("image", "policy"), [("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1.25", "IfNotPresent"), ("host:5000/x", "Always")]
)
def test_the_default_pull_policy_depends_on_the_tag(image: str, policy: str) -> None:
    assert pull_policy({"image": image}) == policy


def test_pods_of_one_template_share_their_equal_parts() -> None:
    sharer = Sharer()
    one, two = (sharer.share(deepcopy({**pod(), "status": compute_status(pod(), seen(ran()), NOW)})) for _ in range(2))
    assert one == two
    assert one["status"]["conditions"][0] is two["status"]["conditions"][0]
    assert one["status"]["containerStatuses"][0]["state"] is two["status"]["containerStatuses"][0]["state"]
    assert one["status"] is not two["status"]


def let_in(budget: NodeBudget, pod: Object) -> Refused | None:
    """Why the node refuses the pod; if it does not, it has taken it."""
    refused = refusal_of(pod, None, budget)
    if refused is None:
        budget.take(pod)
    return refused


def test_a_node_refuses_what_does_not_fit_and_takes_it_when_there_is_room_again() -> None:
    def asking(uid: str, cpu: str) -> Object:
        obj = pod()
        obj["metadata"]["uid"] = uid
        obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
        return obj

    budget = NodeBudget(amounts({"cpu": "2", "memory": "1Gi"}), pods_max=2)
    assert let_in(budget, asking("a", "1500m")) is None
    refused = let_in(budget, asking("b", "600m"))
    assert refused is not None
    assert refused.reason == "OutOfcpu"
    assert refused.message == "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
    budget.release("a")
    assert let_in(budget, asking("b", "600m")) is None
    assert let_in(budget, pod()) is None
    full = let_in(budget, asking("d", "1m"))
    assert full is not None
    assert full.reason == "OutOfpods"


def test_requests_count_sidecars_with_the_containers_and_init_containers_alone() -> None:
    def spec(name: str, cpu: str, **fields: object) -> Object:
        return {"name": name, "image": "x", "resources": {"requests": {"cpu": cpu}}, **fields}

    inits = [spec("s", "1", restartPolicy="Always"), spec("i", "4")]
    obj = pod(initContainers=inits, overhead={"cpu": "100m"})
    obj["spec"]["containers"] = [spec("c", "2")]
    assert pod_requests(obj) == {"cpu": 5_100_000_000}


def with_ports(uid: str, *ports: Object, **spec: object) -> Object:
    obj = pod(**spec)
    obj["metadata"]["uid"] = uid
    obj["spec"]["containers"][0]["ports"] = list(ports)
    return obj


@pytest.mark.parametrize(
    ("taken", "wanted", "fits"),
    [
        pytest.param({"hostPort": 80}, {"hostPort": 80}, False, id="same port"),
        pytest.param({"hostPort": 80}, {"hostPort": 81}, True, id="another port"),
        pytest.param({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True, id="another protocol"),
        pytest.param({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80, "hostIP": "127.0.0.2"}, True, id="another address"),
        pytest.param({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80}, False, id="every address"),
        pytest.param({"hostPort": 80}, {"containerPort": 80}, True, id="a port of its own address"),
    ],
)
def test_a_node_refuses_a_second_pod_with_the_same_host_port(taken: Object, wanted: Object, fits: bool) -> None:
    budget = NodeBudget(amounts({"cpu": "2"}), pods_max=10)
    assert let_in(budget, with_ports("a", taken)) is None
    refused = let_in(budget, with_ports("b", wanted))
    assert (refused is None) is fits
    if refused is not None:
        told = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        assert (refused.reason, refused.message) == ("NodePorts", told)
        assert budget.resize(with_ports("a", taken)) is None
        assert let_in(budget, with_ports("b", wanted)) is not None, "a change of resources frees no port"
        budget.release("a")
        assert let_in(budget, with_ports("b", wanted)) is None


def test_a_node_counts_the_extended_resources_that_it_has() -> None:
    def asking(uid: str, resource: str) -> Object:
        obj = with_ports(uid)
        obj["spec"]["containers"][0]["resources"] = {"requests": {resource: "1"}}
        return obj

    budget = NodeBudget(amounts({"cpu": "2", "nvidia.com/gpu": "1"}), pods_max=10)
    assert let_in(budget, asking("a", "nvidia.com/gpu")) is None
    refused = let_in(budget, asking("b", "nvidia.com/gpu"))
    assert refused is not None
    assert refused.reason == "OutOfnvidia.com/gpu"
    assert refused.message == "Node didn't have enough resource: nvidia.com/gpu, requested: 1, used: 1, capacity: 1"
    assert let_in(budget, asking("c", "example.com/unknown")) is None, "what the node does not know is not its business"
