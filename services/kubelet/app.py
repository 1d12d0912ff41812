"""The kubelet process: nodes, the pod watch, workers, runtimes, probes and the kubelet's API tied together."""

from __future__ import annotations

import asyncio
import math
import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from kubecosm.api.errors import ApiError
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import PODS, SERVICEACCOUNTS, Object
from kubecosm.client.config import ClientConfig, ConfigError
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import LEAN_JSON, TRANSPORT_ERRORS, ApiClient
from kubecosm.client.informer import Informer, InformerFactory, drop_managed_fields
from kubecosm.client.metrics import PrometheusClientMetrics
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.health import HealthEndpoints
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.service import ReadyInfo
from kubecosm.runtime.tls import server_context

from .config import Config
from .cri.cadvisor import Machine
from .cri.runtime import Runtime
from .cri.stats import PodUsage
from .cri.types import NodeInfo
from .env.objects import NamedObjects, Needed, ObjectCache
from .eviction.manager import EvictionManager
from .metrics import KubeletCollector, PodMetrics, probe_metrics
from .network.listeners import PodNetwork
from .nodes.addresses import NodeRanges, NodeSpec, plan_nodes
from .nodes.events import Told
from .nodes.hosting import HostedNodes, NodeSettings
from .nodes.objects import NodeShape, allocatable, image_list
from .nodes.posting import NodeConditions
from .nodes.power import Powers
from .nodes.shutdown import NodeShutdown, plan_periods
from .pipeline import ApiPipeline
from .pods.admission import NodeBudget, amounts
from .pods.backoff import Backoff
from .pods.context import PodContext, PodResources
from .pods.events import KubeletEvents
from .pods.hooks import exec_check
from .pods.manager import PodManager
from .pods.sharing import Sharer
from .pods.status_manager import StatusManager
from .probes.manager import ProbeManager
from .server.configz import kubelet_configuration
from .server.delegation import CertifiedGate, DelegatedGate, Gate
from .server.routes import Routes
from .server.server import KubeletServer
from .shell.programs import PROGRAMS
from .sim.logstore import LogStore
from .sim.machine import MachineBuilder
from .sim.network_access import Resolver
from .sim.profiles import ImageProfiles
from .sim.runtime import SimRuntime
from .sim.serviceports import ServicePorts
from .timers import Timers
from .volumes.volumes import TOKEN_SECONDS, VolumeManager

USER_AGENT = "kubelet/v1.36.0 kubecosm"

log = get_logger("kubelet")


async def serve(config: Config, *, clock: Clock, stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]) -> None:
    """Host the nodes until `stop`. Pods' simulated containers end with the process; the next start takes them up again."""
    specs = plan_nodes(_ranges(config))
    labels = _labels(config.node_labels)
    profiles = ImageProfiles.load(config.image_profiles, config.preloaded_images)
    try:
        client_config = ClientConfig.from_kubeconfig(config.kubeconfig or None)
    except ConfigError as failure:
        raise StartupError(str(failure)) from failure
    rng = random.Random(config.seed or None)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        client_metrics = PrometheusClientMetrics(metrics.registry)
        client = await stack.enter_async_context(
            ApiClient(client_config, clock=clock, user_agent=USER_AGENT, metrics=client_metrics, accept=LEAN_JSON)
        )
        pipeline = ApiPipeline(client_config, USER_AGENT)
        stack.callback(pipeline.close)
        try:
            async with asyncio.TaskGroup() as tasks:
                kubelet = Kubelet(config, client, pipeline, clock, rng, tasks, profiles, metrics)
                await kubelet.run(specs, labels, stop, on_ready)
        except* Stopped:
            log.info("stopped")


def _ranges(config: Config) -> NodeRanges:
    return NodeRanges(
        config.nodes, config.node_name_prefix, config.node_cidr, config.cluster_cidr, config.first_node, config.hostname_override,
        config.node_ip,
    )  # fmt: skip


def _labels(texts: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise StartupError(f"--node-labels {text!r}: expected key=value")
        labels[name] = value
    return labels


class Stopped(Exception):
    """Ends the task group of a kubelet that was told to stop."""


class Kubelet:
    """The parts of one process and how they are joined."""

    def __init__(
        self, config: Config, client: ApiClient, pipeline: ApiPipeline, clock: Clock, rng: random.Random, tasks: asyncio.TaskGroup,
        profiles: ImageProfiles, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._config = config
        self._client = client
        self._clock = clock
        self._tasks = tasks
        self._pipeline = pipeline
        self.metrics = metrics
        self.is_ready = False
        self._port = 0
        self.nodes: dict[str, NodeInfo] = {}
        self._shapes: dict[str, NodeShape] = {}
        """Of adopted nodes."""
        self.timers = Timers(clock)
        self.powers = Powers(config.root_dir)
        settings = NodeSettings(
            config.node_cidr, config.cluster_cidr, config.node_status_report_frequency, config.adopt_nodes, self._only_node
        )  # fmt: skip
        self.hosted = HostedNodes(
            client, pipeline, clock, settings, self.nodes, self.powers, tell=self._tell, images=self._images,
            host=self._host, drop=self._drop,
        )  # fmt: skip
        self.pods = PodManager(self.nodes, self._new_budget, self.powers, self.hosted)
        self.factory = InformerFactory(client, clock, transform=drop_managed_fields)
        self.objects = self._object_cache()
        self.network = PodNetwork(self.timers.call_later, lambda: server_context(config.tls_cert_file, config.tls_private_key_file))
        self.logs = LogStore(config.root_dir)
        machines = MachineBuilder(
            clock, rng, Resolver(config.cluster_dns), frozenset(PROGRAMS), cluster_dns=config.cluster_dns,
            cluster_domain=config.cluster_domain,
        )  # fmt: skip
        self.runtime = SimRuntime(
            clock=clock, rng=rng, timers=self.timers, tasks=tasks, profiles=profiles, machines=machines, network=self.network,
            logs=self.logs,
        )  # fmt: skip
        self.runtime.on_portless = ServicePorts(self.objects, tasks).add
        self.runtimes: Mapping[str, Runtime] = {"": self.runtime, "sim": self.runtime}
        self.recorder = EventRecorder(client, "kubelet", clock)
        self.statuses = StatusManager(pipeline, clock, tasks)
        periods = plan_periods(
            config.shutdown_grace_period, config.shutdown_grace_period_critical_pods, config.shutdown_grace_period_by_pod_priority
        )  # fmt: skip
        self.conditions = NodeConditions(pipeline, clock, self.powers, self._tell)
        self.evictions = EvictionManager(
            clock, self.timers, self.powers, self.pods, memory_of=self.runtime.memory, capacity_of=self._memory_of, tell=self._tell,
            post=self.conditions.post, spawn=lambda work, name: tasks.create_task(work, name=name),
        )  # fmt: skip
        self.context = self._context(rng)
        self.shutdown = NodeShutdown(
            self.powers, self.pods, clock, tasks, periods, tell=self._tell, start=self.hosted.switch_on, post=self.conditions.post
        )  # fmt: skip
        self.runtime.set_listener(self.pods)
        self.metrics.registry.register(
            KubeletCollector(
                nodes=self.nodes, statuses=self.runtime.statuses, probes=self.context.probes, status_manager=self.statuses,
                events=self.context.events,
                heartbeat=lambda: self.hosted.heartbeat,
            )
        )  # fmt: skip

    @property
    def _only_node(self) -> str:
        """The node whose identity this process has, and beyond which it asks for nothing; empty if it hosts many."""
        config = self._config
        if config.nodes != 1 or config.adopt_nodes:
            return ""
        return config.hostname_override or f"{config.node_name_prefix}{config.first_node}"

    def _object_cache(self) -> ObjectCache:
        if not self._only_node:
            return ObjectCache(self.factory)

        def informer(needed: Needed) -> Informer:
            selector = f"metadata.name={needed.name}"
            return Informer(
                self._client, needed.resource, clock=self._clock, namespace=needed.namespace, field_selector=selector,
                transform=drop_managed_fields,
            )  # fmt: skip

        return NamedObjects(self.factory, informer, self._tasks)

    def _context(self, rng: random.Random) -> PodContext:
        probes = ProbeManager(
            clock=self._clock, timers=self.timers, tasks=self._tasks, rng=rng, dial=self.runtime.dial, on_change=self.pods.pod_changed,
            exec_check=lambda container, command, timeout: exec_check(self.runtime, container, command, timeout),
            on_failure=self.pods.unhealthy,
        )  # fmt: skip
        volumes = VolumeManager(self._clock, self.objects.get, self._token, self._allocatable)
        events = KubeletEvents(self.recorder, self._clock, self.timers, qps=self._config.event_qps, burst=self._config.event_burst)
        return PodContext(
            runtime_of=self.runtime_of, clock=self._clock, timers=self.timers, tasks=self._tasks, probes=probes, statuses=self.statuses,
            events=events,
            resources=PodResources(self.objects, volumes, self._allocatable), backoff=Backoff(), image_backoff=Backoff(),
            metrics=PodMetrics(self.metrics),
            waiting_for_objects=set(), evictions=self.evictions,
            resize=self.pods.resize, on_ended=self.pods.ended, on_finished=self.pods.finished,
        )  # fmt: skip

    def runtime_of(self, pod: Object) -> Runtime:
        """By the pod's RuntimeClass; unknown classes run on the default runtime."""
        return self.runtimes.get(pod["spec"].get("runtimeClassName") or "", self.runtime)

    async def _token(self, pod: Object, projection: Object) -> str:
        """A bound service account token for a pod's projected volume; empty (and asked for again later) if there is none to be had."""
        meta = pod["metadata"]
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [projection["audience"]] if projection.get("audience") else [],
                "expirationSeconds": projection.get("expirationSeconds") or TOKEN_SECONDS,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]},
            },
        }
        account = pod["spec"].get("serviceAccountName") or "default"
        try:
            answer = await self._client.create(SERVICEACCOUNTS, request, meta["namespace"], name=account, subresource="token")
        except (ApiError, *TRANSPORT_ERRORS) as failure:
            log.warning(
                "no service account token", object=f"Pod {meta['namespace']}/{meta['name']}", error=str(failure) or type(failure).__name__
            )
            return ""
        return str(answer["status"]["token"])

    def _allocatable(self, node: str) -> Mapping[str, str]:
        shape = self._shapes.get(node) or self._config
        return {"cpu": shape.cpu, **allocatable(shape.memory, shape.ephemeral_storage)}

    def _new_budget(self, node: str) -> NodeBudget:
        shape = self._shapes.get(node)
        offered = {**self._allocatable(node), **(shape.extended if shape is not None else {})}
        return NodeBudget(amounts(offered), (shape or self._config).max_pods)

    def _images(self, node: str) -> list[Object]:
        return image_list(self.runtime.images(node), self.runtime.image_id)

    def _memory_of(self, node: str) -> int:
        return Quantity.of((self._shapes.get(node) or self._config).memory).value()

    def _tell(self, node: str, told: Told) -> None:
        self.context.events.node(node, told.type, told.reason, told.message)

    def _host(self, node: NodeInfo, shape: NodeShape) -> None:
        """An adopted node: its pods are run from now on."""
        self.nodes[node.name] = node
        self._shapes[node.name] = shape
        self.pods.node_hosted(node.name)

    def _drop(self, name: str) -> None:
        """An adopted node was deleted; pods that still end keep what they need."""
        self._shapes.pop(name, None)
        self.pods.forget_node(name)
        if not any(worker.node.name == name for worker in self.pods.workers()):
            self.nodes.pop(name, None)

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        if not config.tls_cert_file or not config.tls_private_key_file or not config.client_ca_file:
            raise StartupError("--tls-cert-file, --tls-private-key-file and --client-ca-file are needed; `kubecosm keys` writes them")
        return server_context(config.tls_cert_file, config.tls_private_key_file, client_ca=config.client_ca_file)

    def _gate(self) -> Gate:
        config = self._config
        if config.authorization_mode == "AlwaysAllow":
            return CertifiedGate()
        return DelegatedGate(
            self._client, self._clock, lambda ip: next((node.name for node in self.nodes.values() if node.ip == ip), ""),
            token_seconds=config.authentication_token_webhook_cache_ttl if config.authentication_token_webhook else 0.0,
            allowed_seconds=config.authorization_webhook_cache_authorized_ttl,
            refused_seconds=config.authorization_webhook_cache_unauthorized_ttl,
        )  # fmt: skip

    def _routes(self) -> Routes:
        health = HealthEndpoints(self.metrics, readyz={"pods": lambda: None if self.is_ready else "the pods have not been listed yet"})
        machine = Machine(math.ceil(Quantity.of(self._config.cpu).nanos / 10**9), Quantity.of(self._config.memory).nanos // 10**9)
        return Routes(
            pods=self.pods, runtime_of=self.runtime_of, nodes=self.nodes, clock=self._clock, health=health, usage_of=self._usage,
            machine=machine, is_pod_address=self.runtime.has_address, shutdown=self.shutdown, probes_of=self._probes,
            configuration=lambda: kubelet_configuration(self._config, self._port),
        )  # fmt: skip

    def _probes(self, node: str) -> str:
        """/metrics/probes of a node (of all nodes if empty)."""
        uids = {worker.uid for worker in self.pods.workers() if not node or worker.node.name == node}
        return probe_metrics(count for count in self.context.probes.counts() if count.uid in uids)

    def _usage(self, node: str) -> list[PodUsage]:
        """What the simulated pods of a node (all nodes if empty) use now."""
        uids = [worker.uid for worker in self.pods.workers() if not node or worker.node.name == node]
        return [usage for uid in uids if (usage := self.runtime.usage(uid)) is not None]

    async def run(self, specs: list[NodeSpec], labels: dict[str, str], stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]) -> None:
        config = self._config
        running = [
            self._tasks.create_task(self.timers.run(), name="timers"),
            self._tasks.create_task(self.factory.run(), name="informers"),
            self._tasks.create_task(self.recorder.run(), name="events"),
        ]
        server = KubeletServer(self._routes(), self._tls(), self._gate())
        port = self._port = await server.start(config.address, config.port)
        shape = NodeShape(
            cpu=config.cpu, memory=config.memory, ephemeral_storage=config.ephemeral_storage, max_pods=config.max_pods, port=port,
            runtime_version=f"{self.runtime.name}://1.36.0", labels=labels, zones=config.node_zones,
            lease_seconds=config.node_lease_duration_seconds, version=config.node_version,
        )  # fmt: skip
        mine = f"spec.nodeName={self._only_node}" if self._only_node else "spec.nodeName!="
        pods = Informer(self._client, PODS, clock=self._clock, field_selector=mine, transform=Sharer().share)
        running.append(self._tasks.create_task(pods.run(), name="pods"))
        await self.hosted.start(specs, shape, lambda work, name: running.append(self._tasks.create_task(work, name=name)))
        self.objects.add_listener(self.pods.object_changed)
        await pods.wait_synced()
        self.pods.start(self.context, pods)
        self.pods.recovered()
        self.logs.sweep(worker.uid for worker in self.pods.workers())
        self.is_ready = True
        on_ready(ReadyInfo(ports={"secure": port}))
        await stop.wait()
        self.runtime.set_listener(None)
        self.runtime.save_logs()
        server.close()
        self.network.close_all()
        raise Stopped
