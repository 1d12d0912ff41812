"""Reading a pod's spec the way the kubelet needs it. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from kubecosm.api.resources import Object

from ..cri.types import ContainerKind

RESTART, RESTART_ALL = "Restart", "RestartAllContainers"
"""Actions of restartPolicyRules."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def init_containers(pod: Object) -> list[Object]:
    return pod["spec"].get("initContainers") or []


def containers(pod: Object) -> list[Object]:
    return pod["spec"].get("containers") or []


def ephemeral_containers(pod: Object) -> list[Object]:
    return pod["spec"].get("ephemeralContainers") or []


def all_containers(pod: Object) -> Iterator[tuple[ContainerKind, Object]]:
    for kind in ContainerKind:
        for spec in pod["spec"].get(kind.value) or ():
            yield kind, spec


def is_sidecar(spec: Object) -> bool:
    """A restartable init container."""
    return spec.get("restartPolicy") == "Always"


def restart_policy(pod: Object) -> str:
    return pod["spec"].get("restartPolicy") or "Always"


def is_host_network(pod: Object) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def probed_host(pod: Object, handler: Object, ip: str) -> str:
    """Where a probe or a hook goes. A node's own address is also its loopback, which pods of the node's network are asked at."""
    host: str = handler.get("host") or ip
    return ip if host in LOOPBACK and is_host_network(pod) else host


def matching_rule_action(spec: Object, exit_code: int) -> str | None:
    """The action of the first restartPolicyRule that speaks of this exit code (KEP-5307)."""
    for rule in spec.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        is_in = exit_code in (codes.get("values") or ())
        if is_in == (codes.get("operator") == "In"):
            return str(rule.get("action"))
    return None


def may_restart_all(pod: Object) -> bool:
    """Whether the exit of a container may restart all of them (KEP-5532; podutil.AllContainersCouldRestart)."""
    rules = (rule for spec in (*init_containers(pod), *containers(pod)) for rule in spec.get("restartPolicyRules") or ())
    return any(rule.get("action") == RESTART_ALL for rule in rules)


def should_restart(pod: Object, spec: Object, exit_code: int) -> bool:
    """Whether a container that ended with this code is started again (kubecontainer.ShouldContainerBeRestarted)."""
    return pod["metadata"].get("deletionTimestamp") is None and is_restartable(pod, spec, exit_code)


def is_restartable(pod: Object, spec: Object, exit_code: int) -> bool:
    """Whether the policies of container and pod restart a container that ended with this code."""
    policy = spec.get("restartPolicy")
    if policy is not None and matching_rule_action(spec, exit_code) in (RESTART, RESTART_ALL):
        return True
    policy = policy or restart_policy(pod)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort (v1qos.ComputePodQOS). Quantities are compared as text: they are canonical."""
    everything = [*init_containers(pod), *containers(pod)]
    has_any = False
    is_guaranteed = True
    for spec in everything:
        resources = spec.get("resources") or {}
        requests, limits = _computed(resources.get("requests")), _computed(resources.get("limits"))
        has_any = has_any or bool(requests) or bool(limits)
        if set(limits) != {"cpu", "memory"} or any(requests.get(name, limits[name]) != limits[name] for name in limits):
            is_guaranteed = False
    if not has_any:
        return "BestEffort"
    return "Guaranteed" if is_guaranteed else "Burstable"


def _computed(amounts: Object | None) -> Object:
    return {name: value for name, value in (amounts or {}).items() if name in ("cpu", "memory") and str(value) not in ("0", "")}
