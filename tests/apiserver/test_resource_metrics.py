"""metrics.k8s.io: what kubelets report becomes NodeMetrics and PodMetrics, and they are not asked more often than needed."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from kubecosm.api.errors import ServiceUnavailable
from kubecosm.services.apiserver.resourcemetrics import documents
from kubecosm.services.apiserver.resourcemetrics.rows import NODE_METRICS, POD_METRICS
from kubecosm.services.apiserver.resourcemetrics.summaries import SCRAPES_AT_ONCE_MAX, Summaries
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

STAMP = "2026-01-01T00:00:00Z"


def stats(nanocores: int, memory: int, **more: Any) -> dict[str, Any]:
    return {"cpu": {"time": STAMP, "usageNanoCores": nanocores}, "memory": {"workingSetBytes": memory}, **more}


POD = {"metadata": {"name": "web-0", "namespace": "shop", "labels": {"app": "web"}, "uid": "u"}}


def test_pod_metrics_name_each_container_and_keep_the_labels() -> None:
    containers = [stats(12_345_678, 5 * 1024**2, name="app"), stats(1_000_000, 2048, name="sidecar")]
    assert documents.pod_metrics(POD, stats(13_345_678, 5 * 1024**2 + 2048, containers=containers)) == {
        "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {"name": "web-0", "creationTimestamp": STAMP, "namespace": "shop", "labels": {"app": "web"}},
        "timestamp": STAMP, "window": documents.WINDOW,
        "containers": [
            {"name": "app", "usage": {"cpu": "12345678n", "memory": "5Mi"}},
            {"name": "sidecar", "usage": {"cpu": "1m", "memory": "2Ki"}},
        ],
    }  # fmt: skip


def test_lists_have_items_without_kind_and_tables_show_sums() -> None:
    node = documents.node_metrics({"metadata": {"name": "node-0"}}, {"node": stats(250_000_000, 1024**3)})
    listed = documents.list_document(NODE_METRICS, [node])
    assert listed["kind"] == "NodeMetricsList"
    assert "kind" not in listed["items"][0]
    pod = documents.pod_metrics(POD, stats(0, 0, containers=[stats(10**9, 1024, name="a"), stats(10**9, 1024, name="b")]))
    table = documents.table_document(POD_METRICS, [pod], "v1")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
    assert table["rows"][0]["cells"] == ["web-0", "2", "2Ki", documents.WINDOW]


class Kubelets:
    """Counts who is asked, and how many at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.silent: set[str] = set()

    async def fetch(self, node: str) -> bytes:
        self.asked.append(node)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await VirtualClock().sleep(0.1)
        finally:
            self.at_once -= 1
        if node in self.silent:
            raise ServiceUnavailable("refused")
        return orjson.dumps({"node": {"nodeName": node}})


def test_kubelets_are_asked_once_in_ten_seconds_however_many_want_to_know() -> None:
    async def main() -> None:
        kubelets, clock = Kubelets(), VirtualClock()
        summaries = Summaries(kubelets.fetch, clock)
        async with asyncio.TaskGroup() as tasks:
            wanted = [tasks.create_task(summaries.of(["a", "b", "a"], tasks)) for _ in range(5)]
            assert {tuple(await one) for one in wanted} == {("a", "b")}
            assert sorted(kubelets.asked) == ["a", "b"]
            await clock.sleep(5)
            await summaries.of(["a"], tasks)
            assert len(kubelets.asked) == 2
            await summaries.of(["a"], tasks, fresh_seconds=1)
            assert len(kubelets.asked) == 3
            await clock.sleep(11)
            await summaries.of(["a"], tasks)
            assert len(kubelets.asked) == 4

    run_virtual(main())


def test_thousands_of_kubelets_are_asked_a_bounded_number_at_once_and_silent_ones_are_left_out() -> None:
    async def main() -> None:
        kubelets = Kubelets()
        kubelets.silent = {"n7"}
        names = [f"n{i}" for i in range(1000)]
        async with asyncio.TaskGroup() as tasks:
            summaries = Summaries(kubelets.fetch, VirtualClock())
            found = await summaries.of(names, tasks)
            assert set(found) == set(names) - {"n7"}
            assert kubelets.most_at_once == SCRAPES_AT_ONCE_MAX
            kubelets.silent.clear()
            assert set(await summaries.of(["n7"], tasks)) == {"n7"}

    run_virtual(main())
