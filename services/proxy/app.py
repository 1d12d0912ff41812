"""The proxy process: informers, sockets, DNS, health and metrics tied together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Network

from kubecosm.api.resources import NODES, SERVICES
from kubecosm.client.config import ClientConfig
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import LEAN_JSON, ApiClient
from kubecosm.client.informer import InformerFactory, drop_managed_fields
from kubecosm.client.metrics import PrometheusClientMetrics
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.health import HealthEndpoints, HealthServer
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.service import ReadyInfo

from .balancer import Balancer
from .config import Config
from .dialer import Dialer, NodeAddress
from .dns.app import DnsApp, ensure_service
from .listeners import BindFailure, Listeners
from .loadbalancer import COMPONENT, LoadBalancer
from .metrics import ProxyMetrics
from .places import Places
from .proxier import Proxier
from .tcp import TcpContext
from .udp import UdpContext

log = get_logger("kube-proxy")


async def serve(config: Config, *, clock: Clock, stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]) -> None:
    """Run the proxy until `stop`. Established connections end with the process, as the listening sockets do."""
    client_config = ClientConfig.from_kubeconfig(config.kubeconfig)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        counted = PrometheusClientMetrics(metrics.registry)
        client = ApiClient(client_config, clock=clock, user_agent="kube-proxy", accept=LEAN_JSON, metrics=counted)
        await stack.enter_async_context(client)
        async with asyncio.TaskGroup() as tasks:
            recorder = EventRecorder(client, "kube-proxy", clock)

            def on_failure(failure: BindFailure) -> None:
                key = failure.route.service
                log.warning(failure.message(), object=f"Service {key}")
                service = {"metadata": {"namespace": key.namespace, "name": key.name}}
                recorder.event(service, SERVICES, "Warning", "FailedToBind", failure.message())

            nodes: dict[str, NodeAddress] = {}
            dialer = Dialer(nodes, client_config.ssl_context(), timeout_seconds=config.connect_timeout)
            places = Places(nodes)
            balancer = Balancer(
                config.balancer, clock=clock, rng=random.Random(), affinity_entries_max=config.affinity_entries_max,
                place_of=places.place_of,
            )  # fmt: skip
            tcp = TcpContext(dialer, balancer, tasks, attempts_max=config.connect_attempts_max)
            udp = UdpContext(balancer, tasks, clock, idle_seconds=config.udp_idle_timeout, flows_max=config.udp_flows_max)
            listeners = Listeners(tcp, udp, on_failure)
            dns = DnsApp(config, clock, tasks, on_failure) if config.dns else None
            proxy_metrics = ProxyMetrics(metrics)
            proxy_metrics.watch_traffic(tcp, udp, dns.resolver if dns else None)
            factory = InformerFactory(client, clock, transform=drop_managed_fields)
            proxier = Proxier(config, factory, nodes, places, listeners, dns.zone if dns else None, proxy_metrics, clock)
            health = HealthEndpoints(metrics, readyz={"sync": lambda: None if proxier.synced else "the caches are not complete"})
            server = await stack.enter_async_context(HealthServer(health, config.metrics_bind_address))
            running = [
                tasks.create_task(factory.run(), name="informers"),
                tasks.create_task(recorder.run(), name="events"),
                tasks.create_task(proxier.run(), name="proxier"),
            ]
            if dns is not None:
                await dns.open()
                running.append(tasks.create_task(ensure_service(client, config.dns_ip), name="dns-service"))
            if config.load_balancer_cidr:
                network = IPv4Network(config.load_balancer_cidr)
                teller = EventRecorder(client, COMPONENT, clock)
                balancing = LoadBalancer(client, factory.informer(SERVICES), factory.informer(NODES), teller, network)
                running.append(tasks.create_task(teller.run(), name="load-balancer-events"))
                running.append(tasks.create_task(balancing.run(), name="load-balancer"))
            on_ready(ReadyInfo(ports={"metrics": server.port}))
            await stop.wait()
            listeners.close()
            udp.close()
            if dns is not None:
                await dns.close()
            for half in list(tcp.connections):
                half.close()
            for task in running:
                task.cancel()
