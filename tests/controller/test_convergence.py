"""Whatever fails on the way, the end is the same: a server that loses a third of all writes or answers, from a seed."""

from __future__ import annotations

import pytest

from kubecosm.api.meta import get_condition, is_deleting
from kubecosm.api.resources import DAEMONSETS, DEPLOYMENTS, JOBS, NODES, PODS, REPLICASETS, SERVICES, STATEFULSETS, Object
from kubecosm.services.controller.cluster.garbage_collector import GarbageCollector
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.network import endpoints, endpointslice
from kubecosm.services.controller.workloads import daemonset, deployment, job, replicaset, statefulset

from .fake_api import FakeApi
from .harness import Kubelet, controllers, ended, node, pod_template, run, running, settle, wait_for
from .test_daemonset import PinningKubelet
from .test_deployment import deployment_of

SEEDS = (1, 2, 3, 4)
FLAKY = 0.33


def standing(api: FakeApi, app: str) -> list[Object]:
    return [pod for pod in api.all(PODS) if pod["metadata"]["labels"].get("app") == app and not is_deleting(pod)]


def with_app(app: str, **spec: object) -> Object:
    template = pod_template(app=app)
    return {
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": template, **spec},
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_workloads_converge_on_a_flaky_server(seed: int) -> None:
    async def test(api: FakeApi) -> None:
        api = FakeApi(api.clock, seed)
        kubelet: Kubelet = PinningKubelet(api)
        kubelet.starts = lambda pod: ended("Succeeded") if pod["metadata"]["labels"]["app"] == "job" else running(api)
        for name in ("a", "b", "c"):
            api.put(NODES, node(name))
        modules = (
            deployment.build(None),
            replicaset.build(None),
            statefulset,
            daemonset.DaemonSets(),
            job.Jobs(),
            endpoints.build(Config()),
            endpointslice.build(Config()),
            GarbageCollector(8),
        )
        async with controllers(api, *modules), kubelet.at_work():
            await api.create(DEPLOYMENTS, deployment_of(8))
            await api.create(
                SERVICES,
                {"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}},
            )
            rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
            await api.create(STATEFULSETS, with_app("set", replicas=3, updateStrategy=rolling))
            await api.create(
                DAEMONSETS, with_app("daemon", updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}})
            )
            await api.create(JOBS, with_app("job", completions=12, parallelism=4, backoffLimit=100))
            api.flaky = FLAKY
            await settle(20)
            found = api.all(DEPLOYMENTS)[0]
            spec = {**found["spec"], "replicas": 5, "template": pod_template("v2")}
            api.put(DEPLOYMENTS, {**found, "metadata": {**found["metadata"], "generation": 2}, "spec": spec})
            await settle(20)
            api.flaky = 0.0
            await wait_for(lambda: is_settled(api), f"seed {seed}")
            await settle(5)
            assert is_settled(api)
        assert len(api.all(REPLICASETS)) == 2
        assert (
            len([pod for pod in api.all(PODS) if pod["metadata"]["labels"]["app"] == "job" and pod["status"]["phase"] == "Succeeded"]) >= 12
        )

    run(test)


def is_settled(api: FakeApi) -> bool:
    web = standing(api, "web")
    images = {pod["spec"]["containers"][0]["image"] for pod in web}
    completed = get_condition(api.all(JOBS)[0], "Complete")
    return (
        len(web) == 5
        and images == {"v2"}
        and len(standing(api, "set")) == 3
        and len(standing(api, "daemon")) == 3
        and completed is not None
        and api.all(JOBS)[0]["status"]["succeeded"] >= 12
        and api.all(DEPLOYMENTS)[0]["status"].get("availableReplicas") == 5
        and api.all(STATEFULSETS)[0]["status"].get("availableReplicas") == 3
        and not any(is_deleting(pod) for pod in api.all(PODS))
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_left_after_a_cascade_on_a_flaky_server(seed: int) -> None:
    async def test(api: FakeApi) -> None:
        api = FakeApi(api.clock, seed)
        async with controllers(api, deployment.build(None), replicaset.build(None), GarbageCollector(8)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(6))
            await wait_for(lambda: len(standing(api, "web")) == 6)
            await api.delete(DEPLOYMENTS, "web", "default", options={"propagationPolicy": "Foreground"})
            api.flaky = FLAKY
            await wait_for(lambda: not api.all(PODS) and not api.all(REPLICASETS) and not api.all(DEPLOYMENTS), f"seed {seed}")

    run(test)
