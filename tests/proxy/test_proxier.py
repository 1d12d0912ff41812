"""What the proxy makes of the API's events, and how long it takes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from kubecosm.api.meta import Key
from kubecosm.api.names import ANNOTATION_LAST_CHANGE_TRIGGER_TIME, LABEL_SERVICE_NAME
from kubecosm.api.resources import ENDPOINTSLICES, SERVICES, Object
from kubecosm.api.times import format_time
from kubecosm.client.informer import InformerFactory
from kubecosm.runtime.metrics import Metrics
from kubecosm.services.proxy.config import Config
from kubecosm.services.proxy.metrics import ProxyMetrics
from kubecosm.services.proxy.places import Places
from kubecosm.services.proxy.proxier import Proxier
from kubecosm.testing.memory import MemoryServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .objects import endpoint, endpoint_slice, service

PREFIX = "kubeproxy_"


class NoListeners:
    """Sockets are not what is tested here."""

    failed = ()

    async def sync(self, wanted: object, owned: object) -> None:
        """Nothing is opened."""

    async def retry_failed(self) -> None:
        """Nothing has failed."""

    def __len__(self) -> int:
        return 0


def sliced(name: str, triggered: str) -> Object:
    meta = {
        "name": name, "namespace": "default", "labels": {LABEL_SERVICE_NAME: "web"},
        "annotations": {ANNOTATION_LAST_CHANGE_TRIGGER_TIME: triggered} if triggered else {},
    }  # fmt: skip
    return {"metadata": meta, **endpoint_slice(endpoint("127.64.0.5"))}


def test_the_time_from_a_change_of_endpoints_to_its_being_applied_is_measured() -> None:
    async def main() -> None:
        clock, metrics = VirtualClock(), Metrics()
        before = format_time(clock.now() - timedelta(seconds=60))
        async with MemoryServer(clock) as server, server.client(clock) as client, asyncio.TaskGroup() as tasks:
            factory = InformerFactory(client, clock)
            nothing: Any = NoListeners()
            proxier = Proxier(Config(), factory, {}, Places({}), nothing, None, ProxyMetrics(metrics), clock)
            running = [tasks.create_task(factory.run()), tasks.create_task(proxier.run())]

            def sample(name: str) -> float:
                return metrics.registry.get_sample_value(PREFIX + name) or 0.0

            async def until(name: str, value: float) -> None:
                async with asyncio.timeout(30):
                    while sample(name) < value:
                        await clock.sleep(0.1)

            server.create(SERVICES, service())
            server.create(ENDPOINTSLICES, sliced("old", before))
            await until("sync_proxy_rules_endpoint_changes_total", 1)
            await clock.sleep(3)
            server.create(ENDPOINTSLICES, sliced("new", format_time(clock.now() - timedelta(seconds=2))))
            await until("network_programming_duration_seconds_count", 1)
            assert 2 <= sample("network_programming_duration_seconds_sum") < 4
            server.delete(ENDPOINTSLICES, Key("default", "new"))
            await until("sync_proxy_rules_endpoint_changes_total", 3)
            assert sample("network_programming_duration_seconds_count") == 1, "what is from before its start is none of this process' doing"
            assert sample("sync_proxy_rules_service_changes_total") == 1
            assert sample("sync_proxy_rules_last_timestamp_seconds") > 0
            for task in running:
                task.cancel()

    run_virtual(main())
